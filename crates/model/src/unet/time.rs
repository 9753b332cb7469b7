//! What a U-Net knows of the timestep, and with it of the guidance scale (LCM) and of sizes (SDXL).

use super::exp::exp;
use crate::config::{TextTime, UnetConfig};
use crate::nn::Linear;
use crate::plan::ops::{Activation::Silu, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Declarations;

#[derive(Clone, Debug)]
pub struct TimeEmbedding {
    config: UnetConfig,
    linear_1: Linear,
    linear_2: Linear,
    /// Of the guidance scale's features.
    cond_proj: Option<Linear>,
    /// Of the pooled text and the sizes.
    add_embedding: Option<[Linear; 2]>,
}

impl TimeEmbedding {
    pub fn declare(d: &mut Declarations, config: &UnetConfig) -> TimeEmbedding {
        let (width, dim) = (config.block_out_channels[0] as u32, config.time_embed_dim() as u32);
        let mut linear = |path: &str, inputs, outputs, bias| Linear::declare(d, path, inputs, outputs, bias);
        TimeEmbedding {
            config: config.clone(),
            linear_1: linear("time_embedding.linear_1", width, dim, true),
            linear_2: linear("time_embedding.linear_2", dim, dim, true),
            cond_proj: config
                .time_cond_proj_dim
                .map(|inputs| linear("time_embedding.cond_proj", inputs as u32, width, false)),
            add_embedding: config.text_time.map(|t| {
                let first = linear("add_embedding.linear_1", t.inputs as u32, dim, true);
                [first, linear("add_embedding.linear_2", dim, dim, true)]
            }),
        }
    }

    /// What is added to the embedding, `[N, 1, 1, 4 * c0]`, from [`Self::added_features`], `[N, 1, 1, inputs]`.
    pub fn record_added(&self, r: &mut Recorder, features: Tensor) -> Tensor {
        let [linear_1, linear_2] = self.add_embedding.as_ref().expect("a U-Net with text_time");
        let silu = Epilogue { activation: Silu, ..Default::default() };
        let h = Matmul { epilogue: silu, ..linear_1.of(features) }.record(r);
        let y = linear_2.of(h).record(r);
        r.tap("add_embedding", y)
    }

    /// The embedding after a SiLU, as every use of it wants it, `[N, 1, 1, 4 * c0]`. `features` are those of the
    /// timestep, `[N, 1, 1, c0]`, `guidance` those of the guidance scale, `[N, 1, 1, time_cond_proj_dim]`, if the
    /// U-Net wants them, `added` comes from [`Self::record_added`].
    pub fn record(
        &self,
        r: &mut Recorder,
        mut features: Tensor,
        guidance: Option<Tensor>,
        added: Option<Tensor>,
    ) -> Tensor {
        let silu = Epilogue { activation: Silu, ..Default::default() };
        if let Some(proj) = &self.cond_proj {
            let epilogue = Epilogue { residual: Some(features), ..Default::default() };
            let guidance = guidance.expect("the features of the guidance scale");
            features = Matmul { epilogue, ..proj.of(guidance) }.record(r);
        }
        let h = Matmul { epilogue: silu, ..self.linear_1.of(features) }.record(r);
        Matmul { epilogue: Epilogue { residual: added, ..silu }, ..self.linear_2.of(h) }.record(r)
    }

    /// The shape of the features of `images` timesteps.
    pub fn shape(&self, images: u32) -> Shape {
        Shape::new(images, 1, 1, self.config.block_out_channels[0] as u32)
    }

    /// The sinusoidal features of a timestep, `[c0]`, which may be fractional (facts: Vaswani et al. 2017, with
    /// cosines first when `flip_sin_to_cos`). On the CPU, since WGSL's sine is off by 2e-4 at these angles.
    pub fn features(&self, timestep: f32) -> Vec<f32> {
        self.embed(timestep, self.config.block_out_channels[0])
    }

    /// The features of the guidance scale, `[time_cond_proj_dim]`, if the U-Net wants them.
    pub fn guidance_features(&self, guidance: f32) -> Option<Vec<f32>> {
        self.config.time_cond_proj_dim.map(|dim| guidance_embedding(guidance, dim))
    }

    /// The features of one row that has this pooled text and these sizes, `[inputs]`: the text, then each size embedded
    /// like a timestep. Only of a U-Net that has `text_time`.
    pub fn added_features(&self, pooled: &[f32], sizes: [f32; TextTime::SIZES]) -> Vec<f32> {
        let dim = self.config.text_time.expect("a U-Net with text_time").size_features;
        pooled.iter().copied().chain(sizes.into_iter().flat_map(|size| self.embed(size, dim))).collect()
    }

    fn embed(&self, value: f32, dim: usize) -> Vec<f32> {
        timestep_embedding(value, dim, self.config.flip_sin_to_cos, self.config.freq_shift)
    }
}

/// `[sin, cos]` of the timestep at `dim / 2` frequencies from 1 down to about 1e-4, or `[cos, sin]` if
/// flipped. As diffusers' get_timestep_embedding, in f32 as there.
pub fn timestep_embedding(timestep: f32, dim: usize, flip_sin_to_cos: bool, freq_shift: f32) -> Vec<f32> {
    let half = dim / 2;
    let exponent = -(10000f64.ln()) as f32;
    let angle = |i: usize| timestep * exp(exponent * i as f32 / (half as f32 - freq_shift));
    let sin = (0..half).map(|i| angle(i).sin());
    let cos = (0..half).map(|i| angle(i).cos());
    let mut features: Vec<f32> =
        if flip_sin_to_cos { cos.chain(sin).collect() } else { sin.chain(cos).collect() };
    features.resize(dim, 0.0);
    features
}

/// The features of a guidance scale: `[sin, cos]` of a thousand times what it has above 1, at `dim / 2` frequencies
/// from 1 down to 1e-4. As diffusers' get_guidance_scale_embedding, in f32 and rounded where that rounds: the angles
/// reach tens of thousands, where the last bit of a frequency shows.
pub fn guidance_embedding(guidance: f32, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let step = 10000f32.ln() / (half.max(2) - 1) as f32;
    let angle = |i: usize| 1000.0 * (guidance - 1.0) * exp(i as f32 * -step);
    let mut features: Vec<f32> =
        (0..half).map(|i| angle(i).sin()).chain((0..half).map(|i| angle(i).cos())).collect();
    features.resize(dim, 0.0);
    features
}
