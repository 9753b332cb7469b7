//! SANA-Sprint: SanaSprintPipeline and its image-to-image variant (Chen et al., arXiv:2503.09641).

use super::{Encoder, Family, Reading, lower_cased, stable_diffusion, stable_diffusion_3};
use crate::error::{Error, Result};
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};
use crate::schedule::{Config, Parameterization};

pub(super) const FAMILY: Family = Family {
    matches: |index| index.class_name.starts_with("SanaSprint"),
    encoders: &[Encoder {
        tokens: 300,
        masked: true,
        turn: lower_cased,
        ..Encoder::new(Component::new("text_encoder", "Gemma2Model", Role::Text), "tokenizer")
    }],
    instruction: INSTRUCTION,
    // What is between the first token and the last ones is the instruction.
    reading: Reading {
        tokens: |_, tokens| tokens,
        join: |all, tokens, _| {
            all.into_iter().flatten().next().expect("Gemma's states").first_and_last(tokens)
        },
        ..stable_diffusion::BESIDE
    },
    denoiser: Component::new("transformer", "SanaTransformer2DModel", Role::Denoiser),
    hidden_state: HiddenState::LAST,
    classifier_free: false,
    embedded_guidance: 4.5,
    schedule: |config, _, _| angles(config).cloned(),
    for_network: |schedule| schedule.for_network(Parameterization::trigflow),
    steps: Some(2),
    left_out: stable_diffusion_3::left_out,
    bins: true,
    ..stable_diffusion::FAMILY
};

/// The scheduler, if its timesteps are angles.
fn angles(config: &Config) -> Result<&Config> {
    match config.class()? {
        "SCMScheduler" => Ok(config),
        other => {
            Err(Error::option(format!("scheduler: wanted scm (SCMScheduler) for this model, found {other}")))
        }
    }
}

/// What the text encoder was told in front of every prompt while the model was trained: diffusers'
/// `complex_human_instruction`.
const INSTRUCTION: &str = "\
Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions suitable for image generation. Evaluate the level of detail in the user prompt:
- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial relationships to create vivid and concrete scenes.
- If the prompt is already detailed, refine and enhance the existing details slightly without overcomplicating.
Here are examples of how to transform or refine prompts:
- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.
- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering glass skyscrapers.
Please generate only the enhanced description for the prompt below and avoid including any additional commentary or evaluations:
User Prompt: ";
