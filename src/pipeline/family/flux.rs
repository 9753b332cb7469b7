//! FLUX.1: FluxPipeline and its variants (Black Forest Labs; diffusers' pipeline of that name).

use super::stable_diffusion_3::{flow, left_out};
use super::{Encoder, Family, Reading, stable_diffusion};
use crate::model::text::HiddenState;
use crate::pipeline::component::{Component, Role};
use crate::pipeline::text::Encoded;

const T5: Component = Component::new("text_encoder_2", "T5EncoderModel", Role::Text);

pub(super) const FAMILY: Family = Family {
    matches: |index| index.class_name.starts_with("Flux") && !index.class_name.starts_with("Flux2"),
    encoders: &[
        Encoder { pools: true, ..Encoder::new(stable_diffusion::TEXT_ENCODER, "tokenizer") },
        Encoder { tokens: 512, ..Encoder::new(T5, "tokenizer_2") },
    ],
    // T5's states, and CLIP's pooled one.
    reading: Reading {
        tokens: |_, t5| t5,
        join,
        width: |of_each, wanted| of_each.get(1).copied().flatten().unwrap_or(wanted),
    },
    denoiser: Component::new("transformer", "FluxTransformer2DModel", Role::Denoiser),
    hidden_state: HiddenState::LAST,
    guidance: 1.0,
    classifier_free: false,
    embedded_guidance: 3.5,
    schedule: |config, steps, tokens| flow(config)?.with_even_sigmas(steps).with_linear_mu(tokens),
    // What schnell was distilled to; FLUX.1-dev wants 28.
    steps: Some(4),
    left_out,
    ..stable_diffusion::FAMILY
};

fn join(all: Vec<Option<Encoded>>, _: usize, _: usize) -> Encoded {
    let mut all = all.into_iter().flatten();
    let (clip, t5) = (all.next().expect("CLIP's states"), all.next().expect("T5's states"));
    Encoded { pooled: clip.pooled, faults: clip.faults.and(t5.faults), ..t5 }
}
