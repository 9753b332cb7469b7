//! The denoiser of SANA and SANA-Sprint (diffusers' SanaTransformer2DModel): linear attention over the image, which makes many
//! tokens cheap, and ordinary attention over the text (Xie et al., arXiv:2410.10629; Chen et al., arXiv:2503.09641).

mod attention;

use std::rc::Rc;

use crate::config::SanaConfig;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded, Tables,
};
use crate::dit::{self, FEATURES, GatedConv, Modulated, PatchEmbed, TwoLinears};
use crate::nn::{At, Linear, RmsNorm};
use crate::plan::ops::{self, Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::{Elem, Shape};
use crate::weights::{Declarations, Handle};
use attention::{CrossAttention, LinearSelfAttention};

pub(super) const KIND: Kind = Kind {
    classes: &["SanaTransformer2DModel"],
    config: |bytes, file| Ok(Rc::new(SanaConfig::from_json(bytes, file)?)),
};

/// Of the norm of the text.
const CAPTION_EPSILON: f32 = 1e-5;
/// What scores of tokens that only fill up a prompt get.
const MASKED: f32 = -10000.0;
/// Vectors of a block's modulation: shift, scale and gate of the attention, then of the feed-forward layer.
const VECTORS: u32 = 6;

#[derive(Clone, Debug)]
pub struct SanaTransformer {
    config: SanaConfig,
    patch_embed: PatchEmbed,
    timestep_embedder: TwoLinears,
    guidance_embedder: Option<TwoLinears>,
    /// What time and guidance say to all blocks, to which each adds a table of its own.
    modulation: Linear,
    caption_projection: [Linear; 2],
    caption_norm: RmsNorm,
    blocks: Vec<Block>,
    /// Shift and scale in front of the last layer, to which time and guidance are added.
    scale_shift_table: Handle,
    proj_out: Linear,
}

impl DenoiserConfig for SanaConfig {
    fn sizes(&self) -> DenoiserSizes {
        DenoiserSizes {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            sample_size: Some(self.sample_size),
            patch: self.patch_size,
            pixels: 32,
            cross_attention_dim: self.caption_channels,
            pooled: None,
            embeds_guidance: self.guidance_embeds_scale.is_some(),
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        KIND.classes
    }

    fn folder(&self) -> &'static str {
        "transformer"
    }

    fn declare(&self, d: &mut Declarations) -> Box<dyn Denoiser> {
        Box::new(SanaTransformer::declare(d, self))
    }
}

impl SanaTransformer {
    pub fn declare(d: &mut Declarations, config: &SanaConfig) -> SanaTransformer {
        let (width, patch) = (config.width() as u32, config.patch_size as u32);
        let (channels, caption) = (config.in_channels as u32, config.caption_channels as u32);
        let out = patch * patch * config.out_channels as u32;
        let guided = config.guidance_embeds_scale.is_some();
        // Without guidance it is a class of diffusers that has one more level.
        let time = if guided { "time_embed.timestep_embedder" } else { "time_embed.emb.timestep_embedder" };
        let guidance = "time_embed.guidance_embedder";
        let linear = |d: &mut Declarations, path: &str, [inputs, outputs]: [u32; 2]| {
            d.sensitive(|d| Linear::declare(d, path, inputs, outputs, true))
        };
        let embedder = |d: &mut Declarations, path: &str| {
            d.sensitive(|d| TwoLinears::declare(d, path, FEATURES, width, true))
        };
        SanaTransformer {
            patch_embed: d.sensitive(|d| PatchEmbed::declare(d, "patch_embed", channels, width, patch)),
            timestep_embedder: embedder(d, time),
            guidance_embedder: guided.then(|| embedder(d, guidance)),
            modulation: Linear::declare(d, "time_embed.linear", width, VECTORS * width, true),
            caption_projection: [
                linear(d, "caption_projection.linear_1", [caption, width]),
                linear(d, "caption_projection.linear_2", [width, width]),
            ],
            caption_norm: RmsNorm::declare(d, "caption_norm", width, CAPTION_EPSILON),
            blocks: (0..config.num_layers).map(|i| Block::declare(d, config, i)).collect(),
            scale_shift_table: d.table("scale_shift_table", 2, width as usize),
            proj_out: linear(d, "proj_out", [width, out]),
            config: config.clone(),
        }
    }

    /// The text's states as blocks see them.
    fn caption(&self, r: &mut Recorder, text: Tensor) -> Tensor {
        let [linear_1, linear_2] = &self.caption_projection;
        let gelu = Epilogue { activation: Activation::GeluTanh, ..Default::default() };
        let text = Matmul { epilogue: gelu, ..linear_1.of(text) }.record(r);
        let text = linear_2.of(text).record(r);
        let text = r.tap("caption_projection", text);
        let text = self.caption_norm.record(r, text);
        r.tap("caption_norm", text)
    }

    /// The tables of all blocks, `[1, 1, 1, ..]` each, then the shift and the scale of the last layer.
    fn tables(&self, r: &mut Recorder) -> Vec<Tensor> {
        let (width, blocks) = (self.config.width() as u32, self.blocks.len() as u32);
        let elem = r.target.elem;
        let tables = r.input("tables", Shape::tokens(1, VECTORS * blocks + 2, width), elem);
        let parts = (0..blocks).map(|i| (VECTORS * i, VECTORS));
        let parts = parts.chain([(VECTORS * blocks, 1), (VECTORS * blocks + 1, 1)]);
        let vector =
            |(from, count)| ops::slice(r, tables, from, count).viewed(Shape::new(1, 1, 1, count * width));
        parts.map(vector).collect()
    }
}

impl Denoiser for SanaTransformer {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    /// The sections and their inputs:
    ///
    /// - "context": "text", "text_mask", "tables", and "guidance_features" where the guidance scale is an input
    /// - "time": "time_features", "one", "latents", "input_coefficients"
    /// - "unet": none
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let (config, width, elem) = (&self.config, self.config.width() as u32, r.target.elem);
        let (rows, [h, w]) = (job.rows(), job.size);
        let features = Shape::new(rows, 1, 1, FEATURES);

        r.section("context");
        let text = Shape::tokens(rows, job.tokens, config.caption_channels as u32);
        let text = r.input("text", text, elem);
        let mask = Shape::new(rows, 1, 1, job.tokens.next_multiple_of(4));
        let mask = r.input("text_mask", mask, Elem::F32);
        let text = self.caption(r, text);
        let texts: Vec<_> = self.blocks.iter().map(|block| block.attn2.keys_values(r, text)).collect();
        let tables = self.tables(r);
        let guidance = self.guidance_embedder.as_ref().map(|embedder| {
            let features = r.input("guidance_features", features, elem);
            embedder.record(r, features, Epilogue::default())
        });

        r.section("time");
        let features = r.input("time_features", features, elem);
        // Behind a SiLU, which the blocks see, and without, which the last layer does.
        let [silu, time] = [Activation::Silu, Activation::None].map(|activation| {
            let epilogue = Epilogue { residual: guidance, activation, ..Default::default() };
            self.timestep_embedder.record(r, features, epilogue)
        });
        let vectors = self.modulation.of(silu).record(r);
        let vectors = r.tap("time_embed.linear", vectors);
        let one = r.input("one", Shape::new(rows, 1, 1, 4), Elem::F32);
        let sums: Vec<Tensor> = (0..tables.len())
            .map(|i| ops::add(r, one, 0, if i < self.blocks.len() { vectors } else { time }, tables[i]))
            .collect();
        let [modulations @ .., shift, scale] = &sums[..] else { unreachable!("two of the last layer") };
        let last = ops::join(r, *shift, *scale).viewed(Shape::new(rows, 1, 1, 2 * width));
        let (latents, x) = denoiser::latents(r, job, config.in_channels as u32);

        r.section("unet");
        let patch = config.patch_size as u32;
        let squares = Shape::new(rows, h / patch, w / patch, width);
        let x = self.patch_embed.record(r, x, None).viewed(squares);
        let mut x = r.tap("patch_embed", x);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.record(r, x, (texts[i], mask), Modulated { vectors: modulations[i], width });
            x = r.tap(&format!("transformer_blocks.{i}"), x);
        }
        let x = Modulated { vectors: last, width }.norm(r, x, 1, 0);
        let x = r.tap("norm_out", x);
        let x = self.proj_out.of(x).record(r);
        let x = r.tap("proj_out", x);
        let output = if patch == 1 { x } else { ops::unpatchify(r, x, patch) };
        Recorded { latents, output }
    }

    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input> {
        let rows = job.rows() as usize;
        let tokens = conditions.text.len() / rows / self.config.caption_channels;
        let mut mask = vec![0.0; rows * tokens.next_multiple_of(4)];
        for (to, of) in
            mask.chunks_exact_mut(tokens.next_multiple_of(4)).zip(conditions.mask.chunks_exact(tokens))
        {
            to.iter_mut().zip(of).for_each(|(to, counts)| *to = (1.0 - counts) * MASKED);
        }
        let mut inputs = vec![("text", conditions.text.clone()), ("text_mask", mask)];
        if let Some(scale) = self.config.guidance_embeds_scale {
            let features = dit::features(conditions.guidance * scale);
            inputs.push(("guidance_features", features.repeat(rows)));
        }
        inputs
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        let timestep = timestep * self.config.timestep_scale;
        let features = dit::features(timestep);
        vec![("time_features", features.repeat(rows))]
    }

    fn constants(&self, job: Job, tables: &Tables) -> Vec<Input> {
        let of = |(handle, count): (Handle, u32)| {
            let table = tables(handle);
            (0..count as usize).flat_map(move |i| table.row(i).expect("a row of the table"))
        };
        let blocks = self.blocks.iter().map(|block| (block.scale_shift_table, VECTORS));
        let values = blocks.chain([(self.scale_shift_table, 2)]).flat_map(of).collect();
        let one = [1.0, 0.0, 0.0, 0.0].repeat(job.rows() as usize);
        vec![("tables", values), ("one", one)]
    }
}

/// One layer.
#[derive(Clone, Debug)]
struct Block {
    attn1: LinearSelfAttention,
    attn2: CrossAttention,
    ff: GatedConv,
    scale_shift_table: Handle,
}

impl Block {
    fn declare(d: &mut Declarations, config: &SanaConfig, i: usize) -> Block {
        let path = format!("transformer_blocks.{i}");
        let width = config.width();
        Block {
            attn1: LinearSelfAttention::declare(d, &path.at("attn1"), config),
            attn2: CrossAttention::declare(d, &path.at("attn2"), config),
            ff: GatedConv::declare(d, &path.at("ff"), width as u32, config.hidden as u32),
            scale_shift_table: d.table(&path.at("scale_shift_table"), VECTORS as usize, width),
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor, text: ([Tensor; 2], Tensor), m: Modulated) -> Tensor {
        let n = m.norm(r, x, 1, 0);
        let x = self.attn1.record(r, n, m.vector(2), x);
        // No norm in front of this one.
        let x = self.attn2.record(r, x, text);
        let n = m.norm(r, x, 4, 3);
        let epilogue = Epilogue { gate: Some(m.vector(5)), residual: Some(x), ..Default::default() };
        self.ff.record(r, n, epilogue)
    }
}
