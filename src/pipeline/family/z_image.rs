//! Z-Image and Z-Image-Turbo: ZImagePipeline and its variants (Tongyi-MAI; diffusers' pipeline of that name).

use super::stable_diffusion_3::{flow, left_out};
use super::{Encoder, Family, Reading, stable_diffusion};
use crate::chat;
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};
use crate::schedule::{Parameterization, Schedule};

pub(super) const FAMILY: Family = Family {
    matches: |index| index.class_name.starts_with("ZImage"),
    encoders: &[Encoder {
        tokens: 512,
        masked: true,
        cut: true,
        turn: chat::qwen,
        ..Encoder::new(Component::new("text_encoder", "Qwen3Model", Role::Text), "tokenizer")
    }],
    // In steps, so that a plan serves prompts of about its length.
    reading: Reading {
        tokens: |of_each, most| of_each[0].unwrap_or(most).next_multiple_of(32),
        ..stable_diffusion::BESIDE
    },
    denoiser: Component::new("transformer", "ZImageTransformer2DModel", Role::Denoiser),
    hidden_state: HiddenState::PENULTIMATE,
    // As Turbo was distilled, which has the same class as Z-Image itself.
    guidance: 0.0,
    unguided: 0.0,
    schedule: |config, steps, tokens| flow(config)?.with_even_sigmas(steps).with_linear_mu(tokens),
    for_network: |schedule: Schedule| schedule.for_network(Parameterization::reversed),
    steps: Some(8),
    left_out,
    ..stable_diffusion::FAMILY
};
