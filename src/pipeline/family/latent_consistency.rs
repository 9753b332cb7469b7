//! Latent consistency models: LatentConsistencyModelPipeline (Luo et al. 2023).

use super::{Family, stable_diffusion};

pub(super) const FAMILY: Family = Family {
    matches: |index| index.class_name.starts_with("LatentConsistencyModel"),
    steps_from_the_end: true,
    ..stable_diffusion::FAMILY
};
