//! The denoiser of PixArt-alpha and PixArt-Sigma (diffusers' PixArtTransformer2DModel): tokens of the image attend to one
//! another, then to the text (Chen et al., arXiv:2310.00426 and 2403.04692).

use std::rc::Rc;

use crate::config::PixArtConfig;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded, Tables,
};
use crate::dit::{self, FEATURES, FeedForward, Modulated, PatchEmbed, SharedModulation, TwoLinears};
use crate::nn::{At, Attention, Heads, Linear, Projections};
use crate::plan::ops::{self, Activation, Bias, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Declarations;

pub(super) const KIND: Kind = Kind {
    classes: &["PixArtTransformer2DModel"],
    config: |bytes, file| Ok(Rc::new(PixArtConfig::from_json(bytes, file)?)),
};

#[derive(Clone, Debug)]
pub struct PixArtTransformer {
    config: PixArtConfig,
    pos_embed: PatchEmbed,
    /// Of height and width, and of their ratio.
    size_embedders: Option<[TwoLinears; 2]>,
    modulation: SharedModulation,
    caption_projection: TwoLinears,
    blocks: Vec<Block>,
    proj_out: Linear,
}

impl DenoiserConfig for PixArtConfig {
    fn sizes(&self) -> DenoiserSizes {
        DenoiserSizes {
            in_channels: self.in_channels,
            // Of the noise.
            out_channels: self.in_channels,
            sample_size: Some(self.sample_size),
            patch: self.patch_size,
            pixels: 8,
            cross_attention_dim: self.caption_channels,
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
        Box::new(PixArtTransformer::declare(d, self))
    }
}

impl PixArtTransformer {
    pub fn declare(d: &mut Declarations, config: &PixArtConfig) -> PixArtTransformer {
        let (width, patch) = (config.width() as u32, config.patch_size as u32);
        let (channels, caption) = (config.in_channels as u32, config.caption_channels as u32);
        let out = patch * patch * config.out_channels as u32;
        let two = |d: &mut Declarations, path: &str, inputs, outputs| {
            d.sensitive(|d| TwoLinears::declare(d, path, inputs, outputs, true))
        };
        let embedder = |name: &str| format!("adaln_single.emb.{name}_embedder");
        let sizes = ["resolution", "aspect_ratio"];
        let modulation = [&*embedder("timestep"), "adaln_single.linear"];
        PixArtTransformer {
            pos_embed: d.sensitive(|d| PatchEmbed::declare(d, "pos_embed", channels, width, patch)),
            size_embedders: config
                .use_additional_conditions
                .then(|| sizes.map(|name| two(d, &embedder(name), FEATURES, width / 3))),
            modulation: SharedModulation::declare(d, modulation, width, config.num_layers),
            caption_projection: two(d, "caption_projection", caption, width).around(Activation::GeluTanh),
            blocks: (0..config.num_layers).map(|i| Block::declare(d, config, i)).collect(),
            proj_out: d.sensitive(|d| Linear::declare(d, "proj_out", width, out, true)),
            config: config.clone(),
        }
    }

    /// Height and width in patches.
    fn patches(&self, job: Job) -> [u32; 2] {
        job.size.map(|side| side / self.config.patch_size as u32)
    }
}

impl Denoiser for PixArtTransformer {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    /// The sections and their inputs:
    ///
    /// - "context": "text", "text_mask", "tables", and where it is told the size "resolution_features" and "ratio_features"
    /// - "time": "time_features", "one", "latents", "input_coefficients"
    /// - "unet": "positions"
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let (config, width, elem) = (&self.config, self.config.width() as u32, r.target.elem);
        let rows = job.rows();

        r.section("context");
        let text = Shape::tokens(rows, job.tokens, config.caption_channels as u32);
        let text = r.input("text", text, elem);
        let mask = dit::text_mask(r, rows, job.tokens);
        let text = self.caption_projection.record(r, text, Epilogue::default());
        let text = r.tap("caption_projection", text);
        let texts: Vec<_> = self.blocks.iter().map(|block| block.keys_values.of(text).record(r)).collect();
        let tables = self.modulation.tables(r);
        let size = self.size_embedders.map(|[resolution, ratio]| {
            let [sides, ratio] = [("resolution_features", 2, resolution), ("ratio_features", 1, ratio)].map(
                |(name, numbers, embedder)| {
                    let features = r.input(name, Shape::tokens(rows, numbers, FEATURES), elem);
                    embedder.record(r, features, Epilogue::default())
                },
            );
            ops::join(r, sides, ratio).viewed(Shape::new(rows, 1, 1, width))
        });

        r.section("time");
        let modulations = self.modulation.record(r, rows, size, &tables);
        let [modulations @ .., last] = &modulations[..] else { unreachable!("that of the last layer") };
        let (latents, x) = denoiser::latents(r, job, config.in_channels as u32);

        r.section("unet");
        let [down, across] = self.patches(job);
        let positions = r.input("positions", Shape::tokens(rows, down * across, width), elem);
        let x = self.pos_embed.record(r, x, Some(positions));
        let mut x = r.tap("pos_embed", x);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.record(r, x, (texts[i], mask), modulations[i]);
            x = r.tap(&format!("transformer_blocks.{i}"), x);
        }
        let x = last.norm(r, x, 1, 0);
        let x = self.proj_out.of(x).record(r);
        let x = r.tap("proj_out", x);
        let squares = Shape::new(rows, down, across, x.shape.c);
        let x = ops::unpatchify(r, x.viewed(squares), config.patch_size as u32);
        let output = dit::first_channels(r, x, config.in_channels as u32);
        Recorded { latents, output }
    }

    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input> {
        let [rows, tokens] = [job.rows(), job.tokens].map(|n| n as usize);
        let mask = dit::text_mask_values(&conditions.mask, [rows, tokens]);
        let mut inputs = vec![("text", conditions.text.clone()), ("text_mask", mask)];
        if self.size_embedders.is_some() {
            let [.., height, width] = conditions.sizes;
            let ratio = (f64::from(height) / f64::from(width)) as f32;
            let sides = [height, width].map(dit::features).concat();
            inputs.push(("resolution_features", sides.repeat(rows)));
            inputs.push(("ratio_features", dit::features(ratio).repeat(rows)));
        }
        inputs
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        vec![("time_features", dit::features(timestep).repeat(rows))]
    }

    fn constants(&self, job: Job, tables: &Tables) -> Vec<Input> {
        let PixArtConfig { sample_size, patch_size, interpolation_scale, .. } = self.config;
        let side = (sample_size / patch_size) as f32 / interpolation_scale;
        let positions = dit::grid(self.patches(job), side, self.config.width());
        let mut inputs = self.modulation.constants(job.rows(), tables);
        inputs.push(("positions", positions.repeat(job.rows() as usize)));
        inputs
    }
}

/// One layer.
#[derive(Clone, Debug)]
struct Block {
    attn1: Attention,
    attn2: Attention,
    /// Of the text, for `attn2`.
    keys_values: Linear,
    ff: FeedForward,
}

impl Block {
    fn declare(d: &mut Declarations, config: &PixArtConfig, i: usize) -> Block {
        let path = format!("transformer_blocks.{i}");
        let width = config.width() as u32;
        let heads =
            Heads { count: config.num_attention_heads as u32, size: config.attention_head_dim as u32 };
        let names = Projections { bias: config.attention_bias, ..Projections::UNET };
        let attn1 = Attention::declare(d, &path.at("attn1"), width, heads, names);
        let (attn2, keys_values) = Attention::cross(d, &path.at("attn2"), width, width, heads, names);
        Block { attn1, attn2, keys_values, ff: FeedForward::declare(d, &path.at("ff"), width) }
    }

    fn record(&self, r: &mut Recorder, x: Tensor, (text, mask): (Tensor, Bias), m: Modulated) -> Tensor {
        let onto = |x| Epilogue { residual: Some(x), ..Default::default() };
        let n = m.norm(r, x, 1, 0);
        let gated = Epilogue { gate: Some(m.vector(2)), ..onto(x) };
        let x = self.attn1.record_with(r, n, None, None, gated);
        // No norm in front of this one.
        let x = self.attn2.record_with(r, x, Some(text), Some(mask), onto(x));
        let n = m.norm(r, x, 4, 3);
        self.ff.record(r, n, m.vector(5), x)
    }
}
