//! Stable Diffusion 1.x and 2.x, their distillations (Turbo, SDXS, BK-SDM): StableDiffusionPipeline and its variants.

use super::{Encoder, Family};
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};

pub(super) const TEXT_ENCODER: Component = Component::new("text_encoder", "CLIPTextModel", Role::Text);
pub(super) const UNET: Component = Component::new("unet", "UNet2DConditionModel", Role::Denoiser);

pub(super) const FAMILY: Family = Family {
    matches: |_| true,
    encoders: &[Encoder { component: TEXT_ENCODER, tokenizer: "tokenizer" }],
    denoiser: UNET,
    hidden_state: HiddenState::LAST,
    guidance: 7.5,
    zeros_for_empty_prompt: false,
    steps_from_the_end: false,
    upcasts: |_| false,
};
