//! The denoiser of FLUX.1 (diffusers' FluxTransformer2DModel): blocks of two streams, text in front of the image, then blocks
//! of one, with rotary positions.

use std::rc::Rc;

use crate::config::FluxConfig;
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
use crate::weights::{Columns, Declarations, Rows, weight_and_bias};

pub(super) const KIND: Kind = Kind {
    classes: &["FluxTransformer2DModel"],
    config: |bytes, file| Ok(Rc::new(FluxConfig::from_json(bytes, file)?)),
};

/// Latents of a token along a side.
const PATCH: u32 = 2;
const THETA: f64 = 10_000.0;

#[derive(Clone, Debug)]
pub struct FluxTransformer {
    config: FluxConfig,
    x_embedder: Linear,
    timestep_embedder: TwoLinears,
    guidance_embedder: Option<TwoLinears>,
    text_embedder: TwoLinears,
    context_embedder: Linear,
    blocks: Vec<Block>,
    single_blocks: Vec<SingleBlock>,
    /// Scale and shift in front of the last layer.
    norm_out: Linear,
    proj_out: Linear,
}

impl DenoiserConfig for FluxConfig {
    fn sizes(&self) -> DenoiserSizes {
        let places = (PATCH * PATCH) as usize;
        DenoiserSizes {
            in_channels: self.in_channels / places,
            out_channels: self.out_channels / places,
            // The configuration does not say; diffusers' pipeline draws 1024 pixels.
            sample_size: Some(128),
            patch: PATCH as usize,
            pixels: 8,
            cross_attention_dim: self.joint_attention_dim,
            pooled: Some(self.pooled_projection_dim),
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
        Box::new(FluxTransformer::declare(d, self))
    }
}

impl FluxTransformer {
    pub fn declare(d: &mut Declarations, config: &FluxConfig) -> FluxTransformer {
        let width = config.width() as u32;
        let (inputs, outputs) = (config.in_channels as u32, config.out_channels as u32);
        let (text, pooled) = (config.joint_attention_dim as u32, config.pooled_projection_dim as u32);
        let places = PATCH * PATCH;
        let columns = Columns::Patches { channels: inputs / places, places };
        let rows = Rows::Patches { channels: outputs / places, places };
        let shape = |a: u32, b: u32| vec![a as usize, b as usize];
        let x_embedder = weight_and_bias("x_embedder", shape(width, inputs), true, Rows::From(0), columns);
        let proj_out = weight_and_bias("proj_out", shape(outputs, width), true, rows, Columns::Same);
        let embedder = |d: &mut Declarations, name: &str, inputs| {
            let path = format!("time_text_embed.{name}");
            d.sensitive(|d| TwoLinears::declare(d, &path, inputs, width, true))
        };
        FluxTransformer {
            x_embedder: d.sensitive(|d| Linear::fused(d, inputs, width, x_embedder)),
            timestep_embedder: embedder(d, "timestep_embedder", FEATURES),
            guidance_embedder: config.guidance_embeds.then(|| embedder(d, "guidance_embedder", FEATURES)),
            text_embedder: embedder(d, "text_embedder", pooled),
            context_embedder: d.sensitive(|d| Linear::declare(d, "context_embedder", text, width, true)),
            blocks: (0..config.num_layers).map(|i| Block::declare(d, config, i)).collect(),
            single_blocks: (0..config.num_single_layers)
                .map(|i| SingleBlock::declare(d, config, i))
                .collect(),
            norm_out: Linear::declare(d, "norm_out.linear", width, 2 * width, true),
            proj_out: d.sensitive(|d| Linear::fused(d, width, outputs, proj_out)),
            config: config.clone(),
        }
    }
}

impl Denoiser for FluxTransformer {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    /// The sections and their inputs:
    ///
    /// - "context": "text", "pooled", and "guidance_features" where the guidance scale is an input
    /// - "time": "time_features", "latents", "input_coefficients"
    /// - "unet": "rotary"
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let (config, width, elem) = (&self.config, self.config.width() as u32, r.target.elem);
        let rows = job.rows();
        let vector = |c: usize| Shape::new(rows, 1, 1, c as u32);
        let onto = |x| Epilogue { residual: Some(x), ..Default::default() };

        r.section("context");
        let text = Shape::tokens(rows, job.tokens, config.joint_attention_dim as u32);
        let text = r.input("text", text, elem);
        let text = self.context_embedder.of(text).record(r);
        let text = r.tap("context_embedder", text);
        let pooled = r.input("pooled", vector(config.pooled_projection_dim), elem);
        let mut known = self.text_embedder.record(r, pooled, Epilogue::default());
        known = r.tap("time_text_embed.text_embedder", known);
        if let Some(embedder) = &self.guidance_embedder {
            let features = r.input("guidance_features", vector(FEATURES as usize), elem);
            known = embedder.record(r, features, onto(known));
        }

        r.section("time");
        let features = r.input("time_features", vector(FEATURES as usize), elem);
        let silu = Epilogue { activation: Activation::Silu, ..onto(known) };
        let time = self.timestep_embedder.record(r, features, silu);
        let of = |r: &mut Recorder, linear: &Linear| Modulated { vectors: linear.of(time).record(r), width };
        let joint =
            self.blocks.iter().map(|b| (&b.block, [of(r, &b.norm1), of(r, &b.norm1_context)])).collect();
        let single = self.single_blocks.iter().map(|b| (&b.single, of(r, &b.norm))).collect();
        let last = of(r, &self.norm_out);
        let (latents, x) = denoiser::latents(r, job, self.sizes().in_channels as u32);

        r.section("unet");
        let x = ops::patchify(r, x, PATCH);
        let squares = x.shape;
        let (images, texts) = (squares.pixels(), job.tokens);
        let x = self.x_embedder.of(x.viewed(Shape::tokens(rows, images, squares.c))).record(r);
        let x = r.tap("x_embedder", x);
        let head = config.attention_head_dim as u32;
        let table = r.input("rotary", Shape::tokens(1, texts + images, head), Elem::F32);
        let x = Streams { joint, single, apart: true }.record(r, x, text, table);
        let x = ops::slice(r, x, texts, images);
        let x = last.norm(r, x, 0, 1);
        let x = r.tap("norm_out", x);
        let x = self.proj_out.of(x).record(r);
        let output = ops::unpatchify(r, x.viewed(squares.with_c(x.shape.c)), PATCH);
        Recorded { latents, output }
    }

    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input> {
        let mut inputs = vec![("text", conditions.text.clone()), ("pooled", conditions.pooled.clone())];
        if self.guidance_embedder.is_some() {
            let features = dit::features(1000.0 * conditions.guidance);
            inputs.push(("guidance_features", features.repeat(job.rows() as usize)));
        }
        inputs
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        let features = dit::features(timestep);
        vec![("time_features", features.repeat(rows))]
    }

    /// Text has no place, an image's token its row and column.
    fn constants(&self, job: Job, _: &Tables) -> Vec<Input> {
        let [down, across] = job.size.map(|side| side / PATCH);
        let text = std::iter::repeat_n([0; 3], job.tokens as usize);
        let image = (0..down * across).map(|i| [0, i / across, i % across]);
        vec![("rotary", rotary::table(self.config.axes_dims_rope, THETA, text.chain(image)))]
    }
}

/// A block of two streams, and where their modulations come from.
#[derive(Clone, Debug)]
struct Block {
    norm1: Linear,
    norm1_context: Linear,
    block: JointBlock,
}

impl Block {
    fn declare(d: &mut Declarations, config: &FluxConfig, i: usize) -> Block {
        let (path, width) = (format!("transformer_blocks.{i}"), config.width() as u32);
        let heads = [config.num_attention_heads, config.attention_head_dim].map(|n| n as u32);
        let mut modulation =
            |name: &str| Linear::declare(d, &path.at(format!("{name}.linear")), width, 6 * width, true);
        let (norm1, norm1_context) = (modulation("norm1"), modulation("norm1_context"));
        Block {
            norm1,
            norm1_context,
            block: JointBlock {
                attn: JointAttention::declare(d, &path.at("attn"), heads, true, false, First::Text, true),
                ff: FeedForward::declare(d, &path.at("ff"), width),
                ff_context: FeedForward::declare(d, &path.at("ff_context"), width),
            },
        }
    }
}

/// A block of one stream, and where its modulation comes from.
#[derive(Clone, Debug)]
struct SingleBlock {
    norm: Linear,
    single: Single,
}

impl SingleBlock {
    fn declare(d: &mut Declarations, config: &FluxConfig, i: usize) -> SingleBlock {
        let (path, width) = (format!("single_transformer_blocks.{i}"), config.width() as u32);
        let heads = [config.num_attention_heads, config.attention_head_dim].map(|n| n as u32);
        SingleBlock {
            norm: Linear::declare(d, &path.at("norm.linear"), width, 3 * width, true),
            single: Single::declare(d, &path, heads),
        }
    }
}
