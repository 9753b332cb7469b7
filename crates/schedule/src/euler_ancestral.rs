//! Euler's method with fresh noise in every step: Karras et al., arXiv:2206.00364, as k-diffusion's ancestral
//! sampling. diffusers' `EulerAncestralDiscreteScheduler`; SDXL-Turbo is run with it.

use super::alphas::{Defaults, Terminal};
use super::config::Keys;
use super::euler::{Levels, predict};
use super::{Prediction, Schedule, Step};
use crate::error::{Error, Result};

pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    let prediction = Prediction::from_keys(keys)?;
    if prediction == Prediction::Sample {
        let message = "\"sample\" is not supported by this scheduler, only \"epsilon\", \"v_prediction\"";
        return Err(Error::unsupported(keys.place("prediction_type", message)));
    }
    let levels = Levels::from_keys(keys, steps, &Defaults::new(Terminal::Nearly))?;
    Ok(levels.schedule(0.0, begin, |timestep, sigma, next| {
        let up = (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).sqrt();
        let down = (next.powi(2) - up.powi(2)).max(0.0).sqrt();
        Step {
            prev_p: (1.0 - down / sigma) as f32,
            prev_sample: (down / sigma) as f32,
            prev_noise: up as f32,
            // In the last step too, where the noise has no weight.
            draws_noise: true,
            ..predict(timestep, sigma, prediction)
        }
    }))
}
