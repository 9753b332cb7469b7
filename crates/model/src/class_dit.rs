//! The denoiser of DiT (diffusers' DiTTransformer2DModel), which draws what a label says (Peebles and Xie, arXiv:2212.09748).

use std::rc::Rc;

use crate::config::DitConfig;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded, Tables,
};
use crate::dit::{self, FEATURES, FeedForward, Modulated, PatchEmbed, TwoLinears};
use crate::nn::{At, Attention, Heads, Linear, Projections};
use crate::plan::ops::{self, Activation, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::unet::timestep_embedding;
use crate::weights::{Declarations, Handle};

pub(super) const KIND: Kind = Kind {
    classes: &["DiTTransformer2DModel"],
    config: |bytes, file| Ok(Rc::new(DitConfig::from_json(bytes, file)?)),
};

#[derive(Clone, Debug)]
pub struct DitTransformer {
    config: DitConfig,
    pos_embed: PatchEmbed,
    blocks: Vec<Block>,
    /// Of each block.
    class_embedders: Vec<Handle>,
    /// Shift and scale in front of the last layer.
    proj_out_1: Linear,
    proj_out_2: Linear,
}

impl DenoiserConfig for DitConfig {
    fn sizes(&self) -> DenoiserSizes {
        DenoiserSizes {
            in_channels: self.in_channels,
            // Of the noise.
            out_channels: self.in_channels,
            sample_size: Some(self.sample_size),
            patch: self.patch_size,
            pixels: 8,
            cross_attention_dim: self.width(),
            pooled: None,
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
        Box::new(DitTransformer::declare(d, self))
    }
}

impl DitTransformer {
    pub fn declare(d: &mut Declarations, config: &DitConfig) -> DitTransformer {
        let (width, patch) = (config.width() as u32, config.patch_size as u32);
        let out = patch * patch * config.out_channels as u32;
        let classes = config.num_embeds_ada_norm + 1;
        let table = |i| format!("transformer_blocks.{i}.norm1.emb.class_embedder.embedding_table.weight");
        DitTransformer {
            pos_embed: d
                .sensitive(|d| PatchEmbed::declare(d, "pos_embed", config.in_channels as u32, width, patch)),
            blocks: (0..config.num_layers).map(|i| Block::declare(d, config, i)).collect(),
            class_embedders: (0..config.num_layers)
                .map(|i| d.tokens(&table(i), classes, width as usize))
                .collect(),
            proj_out_1: Linear::declare(d, "proj_out_1", width, 2 * width, true),
            proj_out_2: d.sensitive(|d| Linear::declare(d, "proj_out_2", width, out, true)),
            config: config.clone(),
        }
    }

    /// Height and width in patches.
    fn patches(&self, job: Job) -> [u32; 2] {
        job.size.map(|side| side / self.config.patch_size as u32)
    }
}

impl Denoiser for DitTransformer {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    /// The sections and their inputs:
    ///
    /// - "context": "text", of a label the rows in the tables of all blocks
    /// - "time": "time_features", "latents", "input_coefficients"
    /// - "unet": "positions"
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let (config, width, elem) = (&self.config, self.config.width() as u32, r.target.elem);
        let rows = job.rows();
        let vector = |c| Shape::new(rows, 1, 1, c);

        r.section("context");
        let text = r.input("text", Shape::tokens(rows, self.blocks.len() as u32, width), elem);
        let labels: Vec<Tensor> =
            (0..self.blocks.len() as u32).map(|i| ops::slice(r, text, i, 1).viewed(vector(width))).collect();

        r.section("time");
        let features = r.input("time_features", vector(FEATURES), elem);
        let mut first = None;
        let mut modulations = vec![];
        for (block, label) in self.blocks.iter().zip(labels) {
            let epilogue =
                Epilogue { residual: Some(label), activation: Activation::Silu, ..Default::default() };
            let time = block.timestep_embedder.record(r, features, epilogue);
            first.get_or_insert(time);
            modulations.push(Modulated { vectors: block.modulation.of(time).record(r), width });
        }
        let last = self.proj_out_1.of(first.expect("a block")).record(r);
        let (latents, x) = denoiser::latents(r, job, config.in_channels as u32);

        r.section("unet");
        let [down, across] = self.patches(job);
        let positions = r.input("positions", Shape::tokens(rows, down * across, width), elem);
        let x = self.pos_embed.record(r, x, Some(positions));
        let mut x = r.tap("pos_embed", x);
        for (i, (block, modulation)) in self.blocks.iter().zip(modulations).enumerate() {
            x = block.record(r, x, modulation);
            x = r.tap(&format!("transformer_blocks.{i}"), x);
        }
        let x = Modulated { vectors: last, width }.norm(r, x, 1, 0);
        let x = self.proj_out_2.of(x).record(r);
        let x = r.tap("proj_out_2", x);
        let squares = Shape::new(rows, down, across, x.shape.c);
        let x = ops::unpatchify(r, x.viewed(squares), config.patch_size as u32);
        let output = dit::first_channels(r, x, config.in_channels as u32);
        Recorded { latents, output }
    }

    fn conditions(&self, conditions: &Conditions, _: Job) -> Vec<Input> {
        vec![("text", conditions.text.clone())]
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        let features = timestep_embedding(timestep, FEATURES as usize, true, 1.0);
        vec![("time_features", features.repeat(rows))]
    }

    fn constants(&self, job: Job, _: &Tables) -> Vec<Input> {
        let side = (self.config.sample_size / self.config.patch_size) as f32;
        let positions = dit::grid(self.patches(job), side, self.config.width());
        vec![("positions", positions.repeat(job.rows() as usize))]
    }

    fn labels(&self) -> &[Handle] {
        &self.class_embedders
    }
}

/// One layer.
#[derive(Clone, Debug)]
struct Block {
    timestep_embedder: TwoLinears,
    /// Shift, scale and gate of the attention, then of the feed-forward layer.
    modulation: Linear,
    attn1: Attention,
    ff: FeedForward,
    epsilon: f32,
}

impl Block {
    fn declare(d: &mut Declarations, config: &DitConfig, i: usize) -> Block {
        let path = format!("transformer_blocks.{i}");
        let width = config.width() as u32;
        let heads =
            Heads { count: config.num_attention_heads as u32, size: config.attention_head_dim as u32 };
        let names = Projections { bias: config.attention_bias, ..Projections::UNET };
        let embedder = path.at("norm1.emb.timestep_embedder");
        Block {
            timestep_embedder: d.sensitive(|d| TwoLinears::declare(d, &embedder, FEATURES, width, true)),
            modulation: Linear::declare(d, &path.at("norm1.linear"), width, 6 * width, true),
            attn1: Attention::declare(d, &path.at("attn1"), width, heads, names),
            ff: FeedForward::declare(d, &path.at("ff"), width),
            epsilon: config.norm_eps,
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor, m: Modulated) -> Tensor {
        let n = m.norm(r, x, 1, 0);
        let gated = Epilogue { gate: Some(m.vector(2)), residual: Some(x), ..Default::default() };
        let x = self.attn1.record_with(r, n, None, None, gated);
        let n = m.norm_with(r, x, [4, 3], self.epsilon);
        self.ff.record(r, n, m.vector(5), x)
    }
}
