//! What pipelines of flows tell `FlowMatchEulerDiscreteScheduler` beside a number of steps: the noise levels, and by how much
//! they are shifted for the size of the image. A large image needs more noise to be hidden as well as a small one.

use super::Config;
use crate::error::Result;

/// `mu` on a line through two points, of which each is a number of image tokens and its `mu`: `calculate_shift` of diffusers'
/// `pipeline_flux.py`, which its pipelines of Stable Diffusion 3 and Z-Image have as well.
pub fn linear_mu(tokens: usize, base: (usize, f64), max: (usize, f64)) -> f64 {
    let slope = (max.1 - base.1) / (max.0 as f64 - base.0 as f64);
    tokens as f64 * slope + (base.1 - slope * base.0 as f64)
}

/// `mu` for a number of image tokens and of steps: `compute_empirical_mu` of diffusers' `pipeline_flux2.py` and
/// `pipeline_flux2_klein.py`. Two lines are known, of 10 and of 200 steps, between (and beyond) which `mu` is linear in the
/// steps; large images have the second one for any number of steps.
pub fn empirical_mu(tokens: usize, steps: usize) -> f64 {
    const LARGE: usize = 4300;
    let of_10 = 8.738_095_24e-5 * tokens as f64 + 1.898_333_33;
    let of_200 = 0.000_169_27 * tokens as f64 + 0.456_666_66;
    if tokens > LARGE {
        return of_200;
    }
    of_200 + (of_200 - of_10) / 190.0 * (steps as f64 - 200.0)
}

/// The noise levels `linspace(1, 1 / steps, steps)`.
pub fn even_sigmas(steps: usize) -> Vec<f64> {
    let last = 1.0 / steps as f64;
    let stride = (last - 1.0) / (steps.max(2) - 1) as f64;
    (0..steps).map(|i| if i > 0 && i + 1 == steps { last } else { 1.0 + i as f64 * stride }).collect()
}

impl Config {
    /// These settings with [`even_sigmas`] in place of the scheduler's own: what pipelines of FLUX and Z-Image ask for. Those
    /// of Stable Diffusion 3 do not. Schedulers that are not of flows leave it unused.
    pub fn with_even_sigmas(&self, steps: usize) -> Config {
        self.with_key("sigmas", even_sigmas(steps))
    }

    /// These settings with [`linear_mu`] for so many image tokens, by the points of the file: what pipelines of FLUX.1,
    /// Stable Diffusion 3 and Z-Image ask for. Without `use_dynamic_shifting` it is left unused.
    ///
    /// # Errors
    /// `invalid-model` if a key that describes the points is not a number.
    pub fn with_linear_mu(&self, tokens: usize) -> Result<Config> {
        let keys = self.keys();
        let base = (keys.count("base_image_seq_len", 256)?, keys.number("base_shift", 0.5)?);
        let max = (keys.count("max_image_seq_len", 4096)?, keys.number("max_shift", 1.15)?);
        Ok(self.with_key("mu", linear_mu(tokens, base, max)))
    }

    /// These settings with [`empirical_mu`]: what pipelines of FLUX.2 ask for. Without `use_dynamic_shifting` it is left
    /// unused.
    pub fn with_empirical_mu(&self, tokens: usize, steps: usize) -> Config {
        self.with_key("mu", empirical_mu(tokens, steps))
    }
}
