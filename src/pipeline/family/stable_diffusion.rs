//! Stable Diffusion 1.x and 2.x, their distillations (Turbo, SDXS, BK-SDM): StableDiffusionPipeline and its variants.

use super::{Encoder, Family};
use crate::model::clip::HiddenState;

pub(super) const FAMILY: Family = Family {
    matches: |_| true,
    encoders: &[Encoder { component: "text_encoder", tokenizer: "tokenizer" }],
    denoiser: "unet",
    hidden_state: HiddenState::LAST,
    guidance: 7.5,
    zeros_for_empty_prompt: false,
    steps_from_the_end: false,
    upcasts: |_| false,
};
