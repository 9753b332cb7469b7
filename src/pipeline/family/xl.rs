//! Stable Diffusion XL and its distillations: StableDiffusionXLPipeline and its variants (Podell et al. 2023).

use super::stable_diffusion::{self, BESIDE, TEXT_ENCODER, UNET};
use super::{Encoder, Family};
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};

const TEXT_ENCODER_2: Component = Component::new("text_encoder_2", "CLIPTextModelWithProjection", Role::Text);

pub(super) const FAMILY: Family = Family {
    matches: |index| {
        is_xl(&index.class_name) || index.class("text_encoder_2").is_some() && index.class("unet").is_some()
    },
    encoders: &[Encoder::new(TEXT_ENCODER, "tokenizer"), Encoder::new(TEXT_ENCODER_2, "tokenizer_2")],
    reading: BESIDE,
    denoiser: UNET,
    hidden_state: HiddenState::PENULTIMATE,
    guidance: 5.0,
    zeros_for_empty_prompt: true,
    upcasts: is_xl,
    ..stable_diffusion::FAMILY
};

fn is_xl(class: &str) -> bool {
    class.contains("XL")
}
