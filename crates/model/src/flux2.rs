//! The denoiser of FLUX.2 (diffusers' Flux2Transformer2DModel): as FLUX.1's, with one modulation for all blocks of a kind and
//! gated feed-forward layers, without biases. Pictures to edit are further tokens behind those of the image.

use std::rc::Rc;

use crate::config::Flux2Config;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded, Tables,
};
use crate::dit::{
    self, FEATURES, FeedForward, First, JointAttention, JointBlock, Modulated, Single, Streams, TwoLinears,
    rotary,
};
use crate::nn::{At, Linear};
use crate::plan::Recorder;
use crate::plan::ops::{self, Activation, Epilogue};
use crate::shape::{Elem, Shape};
use crate::weights::Declarations;

pub(super) const KIND: Kind = Kind {
    classes: &["Flux2Transformer2DModel"],
    config: |bytes, file| Ok(Rc::new(Flux2Config::from_json(bytes, file)?)),
};

/// Steps of the first axis between the image and the first picture, and from picture to picture.
const PICTURES: u32 = 10;

#[derive(Clone, Debug)]
pub struct Flux2Transformer {
    config: Flux2Config,
    x_embedder: Linear,
    timestep_embedder: TwoLinears,
    guidance_embedder: Option<TwoLinears>,
    context_embedder: Linear,
    /// Of blocks of two streams, the image's and the text's, and of blocks of one.
    modulations: [Linear; 3],
    blocks: Vec<JointBlock>,
    single_blocks: Vec<Single>,
    /// Scale and shift in front of the last layer.
    norm_out: Linear,
    proj_out: Linear,
}

impl DenoiserConfig for Flux2Config {
    fn sizes(&self) -> DenoiserSizes {
        DenoiserSizes {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            // The configuration does not say; diffusers' pipeline draws 1024 pixels.
            sample_size: Some(64),
            patch: 1,
            pixels: 16,
            cross_attention_dim: self.joint_attention_dim,
            pooled: None,
            embeds_guidance: self.guidance_embeds,
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        KIND.classes
    }

    fn folder(&self) -> &'static str {
        "transformer"
    }

    fn declare(&self, d: &mut Declarations) -> Box<dyn Denoiser> {
        Box::new(Flux2Transformer::declare(d, self))
    }
}

impl Flux2Transformer {
    pub fn declare(d: &mut Declarations, config: &Flux2Config) -> Flux2Transformer {
        let (width, inner) = (config.width() as u32, config.inner_dim as u32);
        let heads = [config.num_attention_heads, config.attention_head_dim].map(|n| n as u32);
        let linear = |d: &mut Declarations, path: &str, inputs: usize, outputs: u32| {
            d.sensitive(|d| Linear::declare(d, path, inputs as u32, outputs, false))
        };
        let embedder = |d: &mut Declarations, name: &str| {
            let path = format!("time_guidance_embed.{name}");
            d.sensitive(|d| TwoLinears::declare(d, &path, FEATURES, width, false))
        };
        let modulations = [
            ("double_stream_modulation_img", 6),
            ("double_stream_modulation_txt", 6),
            ("single_stream_modulation", 3),
        ];
        let block = |d: &mut Declarations, i: usize| {
            let path = format!("transformer_blocks.{i}");
            JointBlock {
                attn: JointAttention::declare(d, &path.at("attn"), heads, true, false, First::Text, false),
                ff: FeedForward::declare_gated(d, &path.at("ff"), width, inner),
                ff_context: FeedForward::declare_gated(d, &path.at("ff_context"), width, inner),
            }
        };
        let single = |d: &mut Declarations, i: usize| {
            Single::declare_fused(d, &format!("single_transformer_blocks.{i}"), heads, inner)
        };
        Flux2Transformer {
            x_embedder: linear(d, "x_embedder", config.in_channels, width),
            timestep_embedder: embedder(d, "timestep_embedder"),
            guidance_embedder: config.guidance_embeds.then(|| embedder(d, "guidance_embedder")),
            context_embedder: linear(d, "context_embedder", config.joint_attention_dim, width),
            modulations: modulations
                .map(|(name, vectors)| linear(d, &name.at("linear"), width as usize, vectors * width)),
            blocks: (0..config.num_layers).map(|i| block(d, i)).collect(),
            single_blocks: (0..config.num_single_layers).map(|i| single(d, i)).collect(),
            norm_out: Linear::declare(d, "norm_out.linear", width, 2 * width, false),
            proj_out: linear(d, "proj_out", width as usize, config.out_channels as u32),
            config: config.clone(),
        }
    }
}

impl Denoiser for Flux2Transformer {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    fn edits(&self) -> bool {
        true
    }

    /// The sections and their inputs:
    ///
    /// - "context": "text", and "guidance_features" where the guidance scale is an input
    /// - "pictures": "references", where there are any
    /// - "time": "time_features", "latents", "input_coefficients"
    /// - "unet": "rotary"
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let (config, width, elem) = (&self.config, self.config.width() as u32, r.target.elem);
        let (rows, channels) = (job.rows(), config.in_channels as u32);
        let features = |r: &mut Recorder, name: &str| r.input(name, Shape::new(rows, 1, 1, FEATURES), elem);
        let tokens = |n: u32, c: u32| Shape::tokens(rows, n, c);

        r.section("context");
        let text = r.input("text", tokens(job.tokens, config.joint_attention_dim as u32), elem);
        let text = self.context_embedder.of(text).record(r);
        let text = r.tap("context_embedder", text);
        let known = self.guidance_embedder.as_ref().map(|embedder| {
            let guidance = features(r, "guidance_features");
            embedder.record(r, guidance, Epilogue::default())
        });

        r.section("pictures");
        let pictures: u32 = job.references.iter().map(|[h, w]| h * w).sum();
        let pictures = (pictures > 0).then(|| {
            let x = r.input("references", tokens(pictures, channels), elem);
            self.x_embedder.of(x).record(r)
        });

        r.section("time");
        let silu = Epilogue { activation: Activation::Silu, residual: known, ..Default::default() };
        let time = features(r, "time_features");
        let time = self.timestep_embedder.record(r, time, silu);
        let of = |r: &mut Recorder, linear: &Linear| Modulated { vectors: linear.of(time).record(r), width };
        let [image, context, single] = self.modulations.each_ref().map(|linear| of(r, linear));
        let last = of(r, &self.norm_out);
        let (latents, x) = denoiser::latents(r, job, channels);

        r.section("unet");
        let (squares, images) = (x.shape, x.shape.pixels());
        let x = self.x_embedder.of(x.viewed(tokens(images, channels))).record(r);
        let mut x = r.tap("x_embedder", x);
        if let Some(pictures) = pictures {
            x = ops::join(r, x, pictures);
        }
        let all = Shape::tokens(1, job.tokens + x.shape.pixels(), config.attention_head_dim as u32);
        let table = r.input("rotary", all, Elem::F32);
        let streams = Streams {
            joint: self.blocks.iter().map(|block| (block, [image, context])).collect(),
            single: self.single_blocks.iter().map(|block| (block, single)).collect(),
            apart: false,
        };
        let x = streams.record(r, x, text, table);
        let x = ops::slice(r, x, job.tokens, images);
        let x = last.norm(r, x, 0, 1);
        let x = r.tap("norm_out", x);
        let x = self.proj_out.of(x).record(r);
        Recorded { latents, output: x.viewed(squares.with_c(x.shape.c)) }
    }

    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input> {
        let mut inputs = vec![("text", conditions.text.clone())];
        if self.guidance_embedder.is_some() {
            inputs.push((
                "guidance_features",
                dit::features(1000.0 * conditions.guidance).repeat(job.rows() as usize),
            ));
        }
        inputs
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        vec![("time_features", dit::features(timestep).repeat(rows))]
    }

    /// A token's place: the picture that it is of, its row and its column; of the text the place in it.
    fn constants(&self, job: Job, _: &Tables) -> Vec<Input> {
        let text = (0..job.tokens).map(|i| [0, 0, 0, i]);
        let pictures = [job.size].into_iter().chain(job.references).enumerate();
        let pictures = pictures.flat_map(|(picture, [down, across])| {
            (0..down * across).map(move |i| [PICTURES * picture as u32, i / across, i % across, 0])
        });
        let theta = self.config.rope_theta as f64;
        vec![("rotary", rotary::table(self.config.axes_dims_rope, theta, text.chain(pictures)))]
    }
}
