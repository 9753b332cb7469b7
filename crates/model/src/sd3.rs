//! The denoiser of Stable Diffusion 3 and 3.5 (diffusers' SD3Transformer2DModel): image and text are two streams of tokens
//! with weights of their own, and attention over both (Esser et al., arXiv:2403.03206).

use std::rc::Rc;

use crate::config::Sd3Config;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded, Tables,
};
use crate::dit::{
    self, FEATURES, FeedForward, First, JointAttention, Modulated, PatchEmbed, Positions, SelfAttention,
    TwoLinears,
};
use crate::nn::{At, Linear};
use crate::plan::ops::{self, Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Declarations;

pub(super) const KIND: Kind = Kind {
    classes: &["SD3Transformer2DModel"],
    config: |bytes, file| Ok(Rc::new(Sd3Config::from_json(bytes, file)?)),
};

#[derive(Clone, Debug)]
pub struct Sd3Transformer {
    config: Sd3Config,
    pos_embed: PatchEmbed,
    positions: Positions,
    timestep_embedder: TwoLinears,
    text_embedder: TwoLinears,
    context_embedder: Linear,
    blocks: Vec<Block>,
    /// Scale and shift in front of the last layer.
    norm_out: Linear,
    proj_out: Linear,
}

impl DenoiserConfig for Sd3Config {
    fn sizes(&self) -> DenoiserSizes {
        DenoiserSizes {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            sample_size: Some(self.sample_size),
            patch: self.patch_size,
            pixels: 8,
            cross_attention_dim: self.joint_attention_dim,
            pooled: Some(self.pooled_projection_dim),
            embeds_guidance: false,
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        KIND.classes
    }

    fn folder(&self) -> &'static str {
        "transformer"
    }

    fn declare(&self, d: &mut Declarations) -> Box<dyn Denoiser> {
        Box::new(Sd3Transformer::declare(d, self))
    }
}

impl Sd3Transformer {
    pub fn declare(d: &mut Declarations, config: &Sd3Config) -> Sd3Transformer {
        let (width, patch) = (config.width() as u32, config.patch_size as u32);
        let embedder = |name: &str| format!("time_text_embed.{name}");
        let (text, pooled) = (config.joint_attention_dim as u32, config.pooled_projection_dim as u32);
        let out = patch * patch * config.out_channels as u32;
        let side = config.pos_embed_max_size as u32;
        let channels = config.in_channels as u32;
        let time = |d: &mut Declarations, name: &str, inputs| {
            d.sensitive(|d| TwoLinears::declare(d, &embedder(name), inputs, width, true))
        };
        Sd3Transformer {
            pos_embed: d.sensitive(|d| PatchEmbed::declare(d, "pos_embed", channels, width, patch)),
            positions: Positions::declare(d, "pos_embed.pos_embed", side, width),
            timestep_embedder: time(d, "timestep_embedder", FEATURES),
            text_embedder: time(d, "text_embedder", pooled),
            context_embedder: d.sensitive(|d| Linear::declare(d, "context_embedder", text, width, true)),
            blocks: (0..config.num_layers).map(|i| Block::declare(d, config, i)).collect(),
            norm_out: Linear::declare(d, "norm_out.linear", width, 2 * width, true),
            proj_out: d.sensitive(|d| Linear::declare(d, "proj_out", width, out, true)),
            config: config.clone(),
        }
    }

    /// Height and width in patches.
    fn patches(&self, job: Job) -> [u32; 2] {
        job.size.map(|side| side / self.config.patch_size as u32)
    }
}

impl Denoiser for Sd3Transformer {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    /// The sections and their inputs:
    ///
    /// - "context": "text", "pooled"
    /// - "time": "time_features", "latents", "input_coefficients"
    /// - "unet": "positions"
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let (config, width, elem) = (&self.config, self.config.width() as u32, r.target.elem);
        let rows = job.rows();
        let vector = |c: usize| Shape::new(rows, 1, 1, c as u32);

        r.section("context");
        let text = Shape::tokens(rows, job.tokens, config.joint_attention_dim as u32);
        let text = r.input("text", text, elem);
        let text = self.context_embedder.of(text).record(r);
        let mut text = r.tap("context_embedder", text);
        let pooled = r.input("pooled", vector(config.pooled_projection_dim), elem);
        let pooled = self.text_embedder.record(r, pooled, Epilogue::default());
        let pooled = r.tap("time_text_embed.text_embedder", pooled);

        r.section("time");
        let features = r.input("time_features", vector(FEATURES as usize), elem);
        let silu = Epilogue { residual: Some(pooled), activation: Activation::Silu, ..Default::default() };
        let time = self.timestep_embedder.record(r, features, silu);
        let modulations: Vec<[Modulated; 2]> =
            self.blocks.iter().map(|block| block.record_time(r, time)).collect();
        let last = self.norm_out.of(time).record(r);
        let (latents, x) = denoiser::latents(r, job, config.in_channels as u32);

        r.section("unet");
        let [down, across] = self.patches(job);
        let positions = r.input("positions", Shape::tokens(rows, down * across, width), elem);
        let x = self.pos_embed.record(r, x, Some(positions));
        let mut x = r.tap("pos_embed", x);
        for (i, (block, modulations)) in self.blocks.iter().zip(modulations).enumerate() {
            let path = format!("transformer_blocks.{i}");
            (x, text) = block.record(r, x, text, modulations);
            x = r.tap(&path, x);
            if !block.ends_text() {
                text = r.tap(&format!("{path}.text"), text);
            }
        }
        let x = Modulated { vectors: last, width }.norm(r, x, 0, 1);
        let x = r.tap("norm_out", x);
        let x = self.proj_out.of(x).record(r);
        let x = r.tap("proj_out", x);
        let squares = Shape::new(rows, down, across, x.shape.c);
        let output = ops::unpatchify(r, x.viewed(squares), config.patch_size as u32);
        Recorded { latents, output }
    }

    fn conditions(&self, conditions: &Conditions, _: Job) -> Vec<Input> {
        vec![("text", conditions.text.clone()), ("pooled", conditions.pooled.clone())]
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        let features = dit::features(timestep);
        vec![("time_features", features.repeat(rows))]
    }

    fn constants(&self, job: Job, tables: &Tables) -> Vec<Input> {
        let positions = self.positions.middle(&tables(self.positions.table), self.patches(job));
        vec![("positions", positions.repeat(job.rows() as usize))]
    }

    fn largest(&self) -> Option<u32> {
        Some(self.positions.side() * self.config.patch_size as u32)
    }
}

/// One layer. The vectors of its modulations, in their order:
///
/// - of the image: shift, scale and gate of the attention, of the feed-forward layer, and of the second attention
/// - of the text: those of the attention and of the feed-forward layer; in the last layer a scale and a shift
#[derive(Clone, Debug)]
struct Block {
    width: u32,
    norm1: Linear,
    norm1_context: Linear,
    attn: JointAttention,
    attn2: Option<SelfAttention>,
    ff: FeedForward,
    /// None in the last layer, behind which no text is used.
    ff_context: Option<FeedForward>,
}

impl Block {
    fn declare(d: &mut Declarations, config: &Sd3Config, i: usize) -> Block {
        let path = format!("transformer_blocks.{i}");
        let (width, last) = (config.width() as u32, i + 1 == config.num_layers);
        let heads = [config.num_attention_heads, config.attention_head_dim].map(|n| n as u32);
        let dual = config.dual_attention_layers.contains(&i);
        let mut modulation = |name: &str, vectors| {
            Linear::declare(d, &path.at(format!("{name}.linear")), width, vectors * width, true)
        };
        let norm1 = modulation("norm1", if dual { 9 } else { 6 });
        let norm1_context = modulation("norm1_context", if last { 2 } else { 6 });
        Block {
            width,
            norm1,
            norm1_context,
            attn: JointAttention::declare(
                d,
                &path.at("attn"),
                heads,
                config.qk_norm,
                last,
                First::Image,
                true,
            ),
            attn2: dual.then(|| SelfAttention::declare(d, &path.at("attn2"), heads, config.qk_norm)),
            ff: FeedForward::declare(d, &path.at("ff"), width),
            ff_context: (!last).then(|| FeedForward::declare(d, &path.at("ff_context"), width)),
        }
    }

    fn ends_text(&self) -> bool {
        self.ff_context.is_none()
    }

    /// The modulations of image and text, from the embedding of time and pooled text behind a SiLU.
    fn record_time(&self, r: &mut Recorder, time: Tensor) -> [Modulated; 2] {
        let of = |r: &mut Recorder, linear: &Linear| Matmul { ..linear.of(time) }.record(r);
        [&self.norm1, &self.norm1_context]
            .map(|linear| Modulated { vectors: of(r, linear), width: self.width })
    }

    fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        text: Tensor,
        [image_m, text_m]: [Modulated; 2],
    ) -> (Tensor, Tensor) {
        let image_n = image_m.norm(r, x, 1, 0);
        let (scale, shift) = if self.ends_text() { (0, 1) } else { (1, 0) };
        let text_n = text_m.norm(r, text, scale, shift);
        let [image_y, text_y] = self.attn.record(r, image_n, text_n, None);
        let mut image = self.attn.finish_image(r, image_y, image_m.vector(2), x);
        if let Some(attn2) = &self.attn2 {
            // Of what comes into the layer.
            let n = image_m.norm(r, x, 7, 6);
            image = attn2.record(r, n, image_m.vector(8), image);
        }
        let n = image_m.norm(r, image, 4, 3);
        let image = self.ff.record(r, n, image_m.vector(5), image);
        let Some(ff_context) = &self.ff_context else { return (image, text) };
        let text = self.attn.finish_text(r, text_y, text_m.vector(2), text);
        let n = text_m.norm(r, text, 4, 3);
        (image, ff_context.record(r, n, text_m.vector(5), text))
    }
}
