//! DiT: DiTPipeline, which draws what a label says (Peebles and Xie, arXiv:2212.09748).

use super::{Family, Reading, stable_diffusion};
use crate::pipeline::component::{Component, Role};
use crate::pipeline::text::Encoded;

pub(super) const FAMILY: Family = Family {
    matches: |index| index.class_name.starts_with("DiT"),
    encoders: &[],
    reading: Reading { tokens: |_, _| 0, join: |_, _, _| Encoded::default(), width: |_, wanted| wanted },
    denoiser: Component::new("transformer", "DiTTransformer2DModel", Role::Denoiser),
    guidance: 4.0,
    steps: Some(50),
    ..stable_diffusion::FAMILY
};
