//! Stable Diffusion 3 and 3.5: StableDiffusion3Pipeline and its variants (Esser et al., arXiv:2403.03206).

use super::{Encoder, Family, Reading, stable_diffusion};
use crate::error::{Error, Result};
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};
use crate::pipeline::text::Encoded;
use crate::schedule::Config;

const CLIP: &str = "CLIPTextModelWithProjection";
const T5: Component = Component::new("text_encoder_3", "T5EncoderModel", Role::Text);

pub(super) const FAMILY: Family = Family {
    matches: |index| index.class_name.starts_with("StableDiffusion3"),
    encoders: &[
        Encoder::new(Component::new("text_encoder", CLIP, Role::Text), "tokenizer"),
        Encoder::new(Component::new("text_encoder_2", CLIP, Role::Text), "tokenizer_2"),
        // By far the largest: diffusers' `text_encoder_3=None`.
        Encoder { optional: true, tokens: 256, ..Encoder::new(T5, "tokenizer_3") },
    ],
    reading: Reading { tokens, join, width },
    denoiser: Component::new("transformer", "SD3Transformer2DModel", Role::Denoiser),
    hidden_state: HiddenState::PENULTIMATE,
    guidance: 7.0,
    schedule: |config, _, _| flow(config).cloned(),
    steps: Some(28),
    left_out,
    ..stable_diffusion::FAMILY
};

/// The scheduler, if it is one of flows: any other would make noise of what the network gives.
pub(super) fn flow(config: &Config) -> Result<&Config> {
    match config.class()? {
        "FlowMatchEulerDiscreteScheduler" => Ok(config),
        other => Err(Error::option(format!(
            "scheduler: wanted flow-euler (FlowMatchEulerDiscreteScheduler) for this model, found {other}"
        ))),
    }
}

/// As the pipelines of flows count, which need not be what those of other schedules do.
pub(super) fn left_out(steps: usize, strength: f64) -> usize {
    (steps as f64 - steps as f64 * strength).max(0.0) as usize
}

/// Those of CLIP, and behind them those of T5, which are there without it too.
fn tokens(of_each: &[Option<usize>], t5: usize) -> usize {
    of_each[..2].iter().flatten().copied().max().unwrap_or(0) + t5
}

/// T5's states are as wide as the denoiser wants them, and CLIP's at most so.
fn width(of_each: &[Option<usize>], wanted: usize) -> usize {
    let clip: usize = of_each[..2].iter().flatten().sum();
    of_each[2].unwrap_or(wanted).max(clip)
}

/// CLIP's states side by side, with zeros up to the width; T5's below, or zeros.
fn join(all: Vec<Option<Encoded>>, tokens: usize, width: usize) -> Encoded {
    let mut all = all.into_iter();
    let clips = all.by_ref().take(2).flatten();
    let clip = clips.reduce(Encoded::beside).expect("CLIP's text encoders");
    let t5 = all.next().flatten();
    let prompts = clip.prompts;
    let each = clip.states.len() / prompts;
    let mut states = vec![];
    for (i, clip_states) in clip.states.chunks_exact(each).enumerate() {
        let begin = states.len();
        for row in clip_states.chunks_exact(clip.width) {
            states.extend_from_slice(row);
            states.resize(states.len() + width - clip.width, 0.0);
        }
        if let Some(t5) = &t5 {
            let each = t5.states.len() / prompts;
            states.extend_from_slice(&t5.states[i * each..][..each]);
        }
        states.resize(begin + tokens * width, 0.0);
    }
    let faults = t5.map_or(clip.faults, |t5| clip.faults.and(t5.faults));
    Encoded { states, prompts, width, mask: vec![], pooled: clip.pooled, faults }
}
