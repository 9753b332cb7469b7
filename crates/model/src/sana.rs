//! The denoiser of SANA and SANA-Sprint (diffusers' SanaTransformer2DModel): linear attention over the image, which makes many
//! tokens cheap, and ordinary attention over the text (Xie et al., arXiv:2410.10629; Chen et al., arXiv:2503.09641).

mod attention;

use std::rc::Rc;

use crate::config::SanaConfig;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded, Tables,
};
use crate::dit::{self, FEATURES, GatedConv, Modulated, PatchEmbed, SharedModulation, TwoLinears};
use crate::nn::{At, Linear, RmsNorm};
use crate::plan::ops::{self, Activation, Bias, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Declarations;
use attention::{CrossAttention, LinearSelfAttention};

pub(super) const KIND: Kind = Kind {
    classes: &["SanaTransformer2DModel"],
    config: |bytes, file| Ok(Rc::new(SanaConfig::from_json(bytes, file)?)),
};

/// Of the norm of the text.
const CAPTION_EPSILON: f32 = 1e-5;

#[derive(Clone, Debug)]
pub struct SanaTransformer {
    config: SanaConfig,
    patch_embed: PatchEmbed,
    guidance_embedder: Option<TwoLinears>,
    /// Of time and guidance.
    modulation: SharedModulation,
    caption_projection: TwoLinears,
    caption_norm: RmsNorm,
    blocks: Vec<Block>,
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
        let two = |d: &mut Declarations, path: &str, inputs| {
            d.sensitive(|d| TwoLinears::declare(d, path, inputs, width, true))
        };
        SanaTransformer {
            patch_embed: d.sensitive(|d| PatchEmbed::declare(d, "patch_embed", channels, width, patch)),
            guidance_embedder: guided.then(|| two(d, guidance, FEATURES)),
            modulation: SharedModulation::declare(d, [time, "time_embed.linear"], width, config.num_layers),
            caption_projection: two(d, "caption_projection", caption).around(Activation::GeluTanh),
            caption_norm: RmsNorm::declare(d, "caption_norm", width, CAPTION_EPSILON),
            blocks: (0..config.num_layers).map(|i| Block::declare(d, config, i)).collect(),
            proj_out: d.sensitive(|d| Linear::declare(d, "proj_out", width, out, true)),
            config: config.clone(),
        }
    }

    /// The text's states as blocks see them.
    fn caption(&self, r: &mut Recorder, text: Tensor) -> Tensor {
        let text = self.caption_projection.record(r, text, Epilogue::default());
        let text = r.tap("caption_projection", text);
        let text = self.caption_norm.record(r, text);
        r.tap("caption_norm", text)
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
        let mask = dit::text_mask(r, rows, job.tokens);
        let text = self.caption(r, text);
        let texts: Vec<_> = self.blocks.iter().map(|block| block.attn2.keys_values(r, text)).collect();
        let tables = self.modulation.tables(r);
        let guidance = self.guidance_embedder.as_ref().map(|embedder| {
            let features = r.input("guidance_features", features, elem);
            embedder.record(r, features, Epilogue::default())
        });

        r.section("time");
        let modulations = self.modulation.record(r, rows, guidance, &tables);
        let [modulations @ .., last] = &modulations[..] else { unreachable!("that of the last layer") };
        let (latents, x) = denoiser::latents(r, job, config.in_channels as u32);

        r.section("unet");
        let patch = config.patch_size as u32;
        let squares = Shape::new(rows, h / patch, w / patch, width);
        let x = self.patch_embed.record(r, x, None).viewed(squares);
        let mut x = r.tap("patch_embed", x);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.record(r, x, (texts[i], mask), modulations[i]);
            x = r.tap(&format!("transformer_blocks.{i}"), x);
        }
        let x = last.norm(r, x, 1, 0);
        let x = r.tap("norm_out", x);
        let x = self.proj_out.of(x).record(r);
        let x = r.tap("proj_out", x);
        let output = if patch == 1 { x } else { ops::unpatchify(r, x, patch) };
        Recorded { latents, output }
    }

    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input> {
        let [rows, tokens] = [job.rows(), job.tokens].map(|n| n as usize);
        let mask = dit::text_mask_values(&conditions.mask, [rows, tokens]);
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
        self.modulation.constants(job.rows(), tables)
    }
}

/// One layer.
#[derive(Clone, Debug)]
struct Block {
    attn1: LinearSelfAttention,
    attn2: CrossAttention,
    ff: GatedConv,
}

impl Block {
    fn declare(d: &mut Declarations, config: &SanaConfig, i: usize) -> Block {
        let path = format!("transformer_blocks.{i}");
        let width = config.width();
        Block {
            attn1: LinearSelfAttention::declare(d, &path.at("attn1"), config),
            attn2: CrossAttention::declare(d, &path.at("attn2"), config),
            ff: GatedConv::declare(d, &path.at("ff"), width as u32, config.hidden as u32),
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor, text: ([Tensor; 2], Bias), m: Modulated) -> Tensor {
        let n = m.norm(r, x, 1, 0);
        let x = self.attn1.record(r, n, m.vector(2), x);
        // No norm in front of this one.
        let x = self.attn2.record(r, x, text);
        let n = m.norm(r, x, 4, 3);
        let epilogue = Epilogue { gate: Some(m.vector(5)), residual: Some(x), ..Default::default() };
        self.ff.record(r, n, epilogue)
    }
}
