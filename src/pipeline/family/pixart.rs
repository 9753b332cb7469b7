//! PixArt-alpha and PixArt-Sigma: PixArtAlphaPipeline and PixArtSigmaPipeline (Chen et al., arXiv:2310.00426 and 2403.04692).

use super::stable_diffusion::{self, BESIDE};
use super::{Encoder, Family, Reading, lower_cased};
use crate::pipeline::component::{Component, Role};

/// Its tokenizer reads prompts in small letters, and padding is hidden from the denoiser too.
const ENCODER: Encoder = Encoder {
    tokens: 120,
    masked: true,
    turn: lower_cased,
    ..Encoder::new(Component::new("text_encoder", "T5EncoderModel", Role::Text), "tokenizer")
};

pub(super) const ALPHA: Family = Family {
    matches: |index| index.class_name.starts_with("PixArtAlpha"),
    encoders: &[ENCODER],
    reading: Reading { tokens: |_, tokens| tokens, ..BESIDE },
    denoiser: Component::new("transformer", "PixArtTransformer2DModel", Role::Denoiser),
    guidance: 4.5,
    bins: true,
    ..stable_diffusion::FAMILY
};

pub(super) const SIGMA: Family = Family {
    matches: |index| index.class_name.starts_with("PixArtSigma"),
    encoders: &[Encoder { tokens: 300, ..ENCODER }],
    ..ALPHA
};
