//! FLUX.2-klein, distilled and not: Flux2KleinPipeline and its variants (Black Forest Labs; diffusers' pipeline of that name).

use super::stable_diffusion_3::flow;
use super::{Encoder, Family, Reading, stable_diffusion};
use crate::chat;
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};

/// Layers of the text encoder whose states are read, side by side.
const STATES: &[usize] = &[9, 18, 27];

pub(super) const DISTILLED: Family = Family {
    matches: |index| {
        index.class_name.starts_with("Flux2Klein") && index.flags.get("is_distilled") == Some(&true)
    },
    encoders: &[Encoder {
        tokens: 512,
        masked: true,
        turn: chat::qwen_without_thinking,
        ..Encoder::new(Component::new("text_encoder", "Qwen3ForCausalLM", Role::Text), "tokenizer")
    }],
    reading: Reading {
        tokens: |_, tokens| tokens,
        width: |of_each, wanted| of_each[0].map_or(wanted, |width| width * STATES.len()),
        ..stable_diffusion::BESIDE
    },
    denoiser: Component::new("transformer", "Flux2Transformer2DModel", Role::Denoiser),
    hidden_state: HiddenState::Behind(STATES),
    guidance: 1.0,
    classifier_free: false,
    embedded_guidance: 4.0,
    schedule: |config, steps, tokens| {
        Ok(flow(config)?.with_even_sigmas(steps).with_empirical_mu(tokens, steps))
    },
    steps: Some(4),
    ..stable_diffusion::FAMILY
};

pub(super) const BASE: Family = Family {
    matches: |index| index.class_name.starts_with("Flux2Klein"),
    guidance: 4.0,
    classifier_free: true,
    steps: Some(50),
    ..DISTILLED
};
