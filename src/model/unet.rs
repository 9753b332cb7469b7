//! The denoising U-Net (diffusers' UNet2DConditionModel).

mod blocks;
mod extras;
mod transformer;

use blocks::{DownBlock, Inputs, Level, MidBlock, UpBlock};
use extras::Block;
pub use extras::{Adapter, Control, Extras, ImagePrompt};

use super::config::UnetConfig;
use crate::nn::{Attention, Conv, GroupNorm, Heads, Linear, Projections};
use crate::ops::{Activation::Silu, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::{Columns, Declarations, Part, Rows, weight_and_bias};

#[derive(Clone, Debug)]
pub struct Unet {
    config: UnetConfig,
    conv_in: Conv,
    linear_1: Linear,
    linear_2: Linear,
    /// Every resnet's time_emb_proj side by side.
    time_projections: Linear,
    /// The keys and values of every cross-attention.
    contexts: Vec<Linear>,
    text_attentions: Vec<(String, Heads)>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

/// What blocks add to while they declare themselves.
pub struct Parts<'a> {
    d: &'a mut Declarations,
    groups: u32,
    eps: f32,
    context_width: u32,
    time_width: u32,
    time_projections: Vec<Part>,
    time_outputs: u32,
    contexts: Vec<Linear>,
    text_attentions: Vec<(String, Heads)>,
}

impl Parts<'_> {
    /// Declares `path.time_emb_proj` with `outputs` and returns where it begins among all of them.
    fn time_projection(&mut self, path: &str, outputs: u32) -> u32 {
        let at = self.time_outputs;
        self.time_projections.extend(weight_and_bias(
            &format!("{path}.time_emb_proj"),
            vec![outputs as usize, self.time_width as usize],
            true,
            Rows::From(at),
            Columns::Same,
        ));
        self.time_outputs += outputs;
        at
    }

    /// Attention over the text, and the number of its keys and values.
    fn cross(&mut self, path: &str, width: u32, heads: Heads) -> (Attention, usize) {
        let (attention, context) =
            Attention::cross(self.d, path, width, self.context_width, heads, Projections::UNET);
        self.contexts.push(context);
        (attention, self.contexts.len() - 1)
    }

    /// Notes a block's attention over the text, and returns its number.
    fn text_attention(&mut self, path: &str, heads: Heads) -> usize {
        self.text_attentions.push((path.to_owned(), heads));
        self.text_attentions.len() - 1
    }
}

impl Unet {
    pub fn declare(d: &mut Declarations, config: &UnetConfig) -> Unet {
        let widths: Vec<u32> = config.block_out_channels.iter().map(|&c| c as u32).collect();
        let blocks = widths.len();
        let time_width = config.time_embed_dim() as u32;
        let conv_in = Conv::declare(d, "conv_in", config.in_channels as u32, widths[0], 3, true);
        let linear_1 = Linear::declare(d, "time_embedding.linear_1", widths[0], time_width, true);
        let linear_2 = Linear::declare(d, "time_embedding.linear_2", time_width, time_width, true);
        let mut p = Parts {
            d,
            groups: config.norm_num_groups as u32,
            eps: config.norm_eps,
            context_width: config.cross_attention_dim as u32,
            time_width,
            time_projections: vec![],
            time_outputs: 0,
            contexts: vec![],
            text_attentions: vec![],
        };
        let level = |i: usize, attention: bool| Level {
            width: widths[i],
            layers: config.layers_per_block,
            attention,
            heads: config.heads[i] as u32,
            transformer_layers: config.transformer_layers_per_block[i],
            only_cross: config.only_cross_attention[i],
        };

        let mut skips = vec![widths[0]];
        let mut width = widths[0];
        let mut down_blocks = vec![];
        for (i, &attention) in config.down_attention.iter().enumerate() {
            let level = level(i, attention);
            down_blocks.push(DownBlock::declare(&mut p, i, width, level, i + 1 == blocks, &mut skips));
            width = level.width;
        }
        let mid = Level { only_cross: false, ..level(blocks - 1, config.mid_attention) };
        let mid_block = config.mid_block.then(|| MidBlock::declare(&mut p, mid));
        let mut up_blocks = vec![];
        for (j, &attention) in config.up_attention.iter().enumerate() {
            let (path, level) = (format!("up_blocks.{j}"), level(blocks - 1 - j, attention));
            up_blocks.push(UpBlock::declare(&mut p, &path, width, level, j + 1 == blocks, &mut skips));
            width = level.width;
        }

        let Parts { time_projections, time_outputs, contexts, text_attentions, .. } = p;
        Unet {
            conv_in,
            linear_1,
            linear_2,
            time_projections: Linear::fused(d, time_width, time_outputs, time_projections),
            contexts,
            text_attentions,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::declare(
                d,
                "conv_norm_out",
                widths[0],
                config.norm_num_groups as u32,
                config.norm_eps,
            ),
            conv_out: Conv::declare(d, "conv_out", widths[0], config.out_channels as u32, 3, true),
            config: config.clone(),
        }
    }

    /// The part that depends on the prompt alone: keys and values from `text`, `[N, tokens, width]`.
    pub fn record_context(&self, r: &mut Recorder, text: Tensor) -> Vec<Tensor> {
        self.contexts.iter().map(|c| c.of(text).record(r)).collect()
    }

    /// The path and the heads of every block with attention over the text (attn2): down, mid, up.
    pub fn text_attentions(&self) -> &[(String, Heads)] {
        &self.text_attentions
    }

    /// The part that depends on the timestep alone: from its features, `[N, 1, 1, c0]`, to all projections.
    pub fn record_time(&self, r: &mut Recorder, features: Tensor) -> Tensor {
        let silu = Epilogue { activation: Silu, ..Default::default() };
        let h = Matmul { epilogue: silu, ..self.linear_1.of(features) }.record(r);
        // Every use of the embedding is behind a SiLU.
        let h = Matmul { epilogue: silu, ..self.linear_2.of(h) }.record(r);
        self.time_projections.of(h).record(r)
    }

    /// `x` is `[N, h, w, in_channels]`. Returns the model output, `[N, h, w, out_channels]`.
    pub fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        time: Tensor,
        context: &[Tensor],
        extras: &Extras,
    ) -> Tensor {
        let inputs = Inputs { time, context, extras };
        let mut x = self.conv_in.record(r, x, None, Epilogue::default());
        x = r.tap("conv_in", x);
        let mut skips = vec![x];
        for block in &self.down_blocks {
            x = block.record(r, x, &inputs, &mut skips);
        }
        extras.add_to_skips(r, &mut skips);
        if let Some(block) = &self.mid_block {
            x = block.record(r, x, &inputs);
            x = extras.add_feature(r, Block::Mid(self.down_blocks.len()), x);
        }
        x = extras.add_to_mid(r, x);
        for block in &self.up_blocks {
            x = block.record(r, x, &inputs, &mut skips);
        }
        let x = self.conv_norm_out.record(r, x, None, Silu);
        let x = self.conv_out.record(r, x, None, Epilogue::default());
        r.tap("conv_out", x)
    }

    /// The shape of the features of `images` timesteps.
    pub fn time_shape(&self, images: u32) -> Shape {
        Shape::new(images, 1, 1, self.config.block_out_channels[0] as u32)
    }

    /// The sinusoidal features of a timestep, which may be fractional (facts: Vaswani et al. 2017, with
    /// cosines first when `flip_sin_to_cos`). On the CPU, since WGSL's sine is off by 2e-4 at these angles.
    pub fn time_features(&self, timestep: f32) -> Vec<f32> {
        let dim = self.config.block_out_channels[0];
        timestep_embedding(timestep, dim, self.config.flip_sin_to_cos, self.config.freq_shift)
    }
}

/// `[sin, cos]` of the timestep at `dim / 2` frequencies from 1 down to about 1e-4, or `[cos, sin]` if
/// flipped. As diffusers' get_timestep_embedding, in f32 as there.
pub fn timestep_embedding(timestep: f32, dim: usize, flip_sin_to_cos: bool, freq_shift: f32) -> Vec<f32> {
    let half = dim / 2;
    let exponent = -(10000f64.ln()) as f32;
    let angle = |i: usize| timestep * (exponent * i as f32 / (half as f32 - freq_shift)).exp();
    let sin = (0..half).map(|i| angle(i).sin());
    let cos = (0..half).map(|i| angle(i).cos());
    let mut features: Vec<f32> =
        if flip_sin_to_cos { cos.chain(sin).collect() } else { sin.chain(cos).collect() };
    features.resize(dim, 0.0);
    features
}
