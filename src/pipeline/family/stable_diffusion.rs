//! Stable Diffusion 1.x and 2.x, their distillations (Turbo, SDXS, BK-SDM): StableDiffusionPipeline and its variants.

use super::{Encoder, Family, Reading};
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};
use crate::pipeline::text::Encoded;

pub(super) const TEXT_ENCODER: Component = Component::new("text_encoder", "CLIPTextModel", Role::Text);
pub(super) const UNET: Component = Component::new(super::UNET, "UNet2DConditionModel", Role::Denoiser);

/// The states of all encoders side by side.
pub(super) const BESIDE: Reading = Reading {
    tokens: |tokens, _| tokens.iter().flatten().copied().max().unwrap_or(0),
    join: |all, _, _| all.into_iter().flatten().reduce(Encoded::beside).expect("a text encoder"),
    width: |widths, _| widths.iter().flatten().sum(),
};

pub(super) const FAMILY: Family = Family {
    matches: |_| true,
    encoders: &[Encoder::new(TEXT_ENCODER, "tokenizer")],
    instruction: "",
    reading: BESIDE,
    denoiser: UNET,
    hidden_state: HiddenState::LAST,
    guidance: 7.5,
    unguided: 1.0,
    classifier_free: true,
    embedded_guidance: 8.5,
    schedule: |config, _, _| Ok(config.clone()),
    for_network: |schedule| schedule,
    steps: None,
    zeros_for_empty_prompt: false,
    left_out: |steps, strength| steps - ((steps as f64 * strength) as usize).min(steps),
    steps_from_the_end: false,
    bins: false,
    upcasts: |_| false,
};
