//! What an image encoder says of an image, made tokens like those of a text.

use super::resampler::Resampler;
use crate::config::{ClipVisionConfig, IpAdapterConfig};
use crate::nn::{LayerNorm, Linear};
use crate::plan::ops::{Activation::Gelu, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::{Declarations, Handle};

/// Tokens that an image embedding becomes.
const TOKENS: u32 = 4;
/// What diffusers' classes have.
pub(super) const LAYER_NORM_EPS: f32 = 1e-5;

/// diffusers' ImageProjection, IPAdapterFullImageProjection or IPAdapterPlusImageProjection.
#[derive(Clone, Debug)]
pub struct ImageProjection {
    /// What it sees of one image.
    seen: Shape,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain { proj: Linear, norm: LayerNorm },
    Full { proj: [Linear; 2], norm: LayerNorm },
    Plus(Resampler),
}

impl ImageProjection {
    /// `width` is that of the U-Net's context.
    pub fn declare(
        d: &mut Declarations,
        width: u32,
        config: IpAdapterConfig,
        encoder: &ClipVisionConfig,
    ) -> ImageProjection {
        assert!(width.is_multiple_of(4), "a context of {width}");
        let norm = |d: &mut Declarations, name: &str| {
            LayerNorm::declare(d, &format!("image_proj.{name}"), width, LAYER_NORM_EPS)
        };
        let (embeds, states) = (encoder.projection_dim as u32, encoder.hidden_size as u32);
        let kind = match config {
            IpAdapterConfig::Plain => Kind::Plain {
                proj: Linear::declare(d, "image_proj.proj", embeds, TOKENS * width, true),
                norm: norm(d, "norm"),
            },
            IpAdapterConfig::Full { inner } => {
                let inner = inner as u32;
                let first = Linear::declare(d, "image_proj.proj.0", states, inner, true);
                let second = Linear::declare(d, "image_proj.proj.2", inner, width, true);
                Kind::Full { proj: [first, second], norm: norm(d, "proj.3") }
            }
            IpAdapterConfig::Plus { .. } => Kind::Plus(Resampler::declare(d, width, states, config)),
        };
        let seen = match config.sees_states() {
            true => Shape::tokens(1, encoder.tokens() as u32, states),
            false => Shape::new(1, 1, 1, embeds),
        };
        ImageProjection { seen, kind }
    }

    /// The shape of what it sees of `images` images: their embeddings, or the states before the encoder's last layer.
    pub fn shape(&self, images: u32) -> Shape {
        Shape { n: images, ..self.seen }
    }

    /// The tokens that a resampler begins with, `[queries, width]` of each image.
    pub fn latents(&self) -> Option<(Handle, Shape)> {
        match &self.kind {
            Kind::Plus(resampler) => Some(resampler.latents()),
            _ => None,
        }
    }

    /// [`Self::shape`] to tokens, `[N, tokens, width]`. `latents` are those of a resampler, `[N, queries, width]`.
    pub fn record(&self, r: &mut Recorder, seen: Tensor, latents: Option<Tensor>) -> Tensor {
        match &self.kind {
            Kind::Plain { proj, norm } => {
                let x = proj.of(seen).record(r);
                let tokens = x.viewed(Shape::tokens(x.shape.n, TOKENS, x.shape.c / TOKENS));
                norm.record(r, tokens)
            }
            Kind::Full { proj: [first, second], norm } => {
                let gelu = Epilogue { activation: Gelu, ..Default::default() };
                let h = Matmul { epilogue: gelu, ..first.of(seen) }.record(r);
                let tokens = second.of(h).record(r);
                norm.record(r, tokens)
            }
            Kind::Plus(resampler) => resampler.record(r, seen, latents.expect("a resampler's latents")),
        }
    }
}
