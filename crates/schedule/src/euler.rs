//! Euler's method on the probability-flow ODE: Karras et al., arXiv:2206.00364, algorithm 2 without
//! churn. diffusers' `EulerDiscreteScheduler`; SD-Turbo and SDXL-Lightning are run with it.

use super::alphas::{Defaults, Terminal};
use super::config::Keys;
use super::spacing::{Spacing, karras, timestep_of};
use super::{Prediction, Schedule, Step, alphas, check_steps};
use crate::error::Result;

pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    for key in ["use_exponential_sigmas", "use_beta_sigmas", "sigma_min", "sigma_max"] {
        keys.must_be_off(key)?;
    }
    keys.choice("interpolation_type", "linear", &[("linear", ())])?;
    keys.choice("timestep_type", "discrete", &[("discrete", ())])?;
    let prediction = Prediction::from_keys(keys)?;
    let ends_at_zero = keys.choice("final_sigmas_type", "zero", &[("zero", true), ("sigma_min", false)])?;
    let use_karras = keys.flag("use_karras_sigmas", false)?;
    let mut levels = Levels::from_keys(keys, steps, &Defaults::new(Terminal::Nearly))?;
    if use_karras {
        levels.spread();
    }
    let last = if ends_at_zero { 0.0 } else { levels.table[0] };
    Ok(levels.schedule(last, begin, |timestep, sigma, next| Step {
        prev_p: (1.0 - next / sigma) as f32,
        prev_sample: (next / sigma) as f32,
        ..predict(timestep, sigma, prediction)
    }))
}

/// The noise levels of a schedule that is built on them.
pub(super) struct Levels {
    /// Of all training steps.
    pub table: Vec<f32>,
    /// `[steps]`, from the noisiest on.
    pub timesteps: Vec<f32>,
    /// `[steps]`
    pub sigmas: Vec<f32>,
    spacing: Spacing,
}

impl Levels {
    pub fn from_keys(keys: &Keys, steps: usize, defaults: &Defaults) -> Result<Levels> {
        let spacing = Spacing::from_keys(keys, "linspace")?;
        let offset = keys.integer("steps_offset", 0)?;
        let alphas = alphas::from_keys(keys, defaults)?;
        check_steps(keys, steps, "num_train_timesteps", alphas.len())?;
        let table = sigmas(&alphas);
        let timesteps = spacing.timesteps(alphas.len(), steps, offset);
        let sigmas = timesteps.iter().map(|&t| interpolate(&table, t)).collect();
        Ok(Levels { table, timesteps, sigmas, spacing })
    }

    /// Spreads the levels evenly in their seventh roots.
    pub fn spread(&mut self) {
        let (first, last) = (self.sigmas[0], self.sigmas[self.sigmas.len() - 1]);
        let sigmas = karras(last.into(), first.into(), self.sigmas.len());
        self.timesteps = sigmas.iter().map(|&s| timestep_of(s, &self.table) as f32).collect();
        self.sigmas = sigmas.iter().map(|&s| s as f32).collect();
    }

    /// The schedule that goes through all levels to `last`; `step` makes one from a timestep, a level and the next.
    pub fn schedule(mut self, last: f32, begin: usize, step: impl Fn(f32, f64, f64) -> Step) -> Schedule {
        self.sigmas.push(last);
        let largest = self.sigmas.iter().copied().fold(0.0, f32::max);
        let init_noise_sigma = match self.spacing {
            Spacing::Leading => (largest * largest + 1.0).sqrt(),
            Spacing::Linspace | Spacing::Trailing => largest,
        };
        let pairs = self.timesteps.iter().zip(self.sigmas.windows(2)).skip(begin);
        let steps = pairs.map(|(&t, pair)| step(t, pair[0].into(), pair[1].into())).collect();
        Schedule { init_noise_sigma, steps, sigmas: self.sigmas }
    }
}

/// A step's beginning at noise level `sigma`: the sample is an image plus sigma times noise.
pub(super) fn predict(timestep: f32, sigma: f64, prediction: Prediction) -> Step {
    let norm = sigma * sigma + 1.0;
    let (p_sample, p_model) = match prediction {
        Prediction::Epsilon => (1.0, -sigma),
        Prediction::Velocity => (1.0 / norm, -sigma / norm.sqrt()),
        Prediction::Sample => (0.0, 1.0),
    };
    Step {
        input_scale: (1.0 / norm.sqrt()) as f32,
        p_sample: p_sample as f32,
        p_model: p_model as f32,
        ..Step::at(timestep, 1.0, sigma)
    }
}

/// torch's vectorised square root may be one bit off the correctly rounded one taken here.
pub(super) fn sigmas(alphas: &[f32]) -> Vec<f32> {
    alphas.iter().map(|a| ((1.0 - a) / a).sqrt()).collect()
}

/// `numpy.interp` of a table at `t`, clamped to its ends.
pub(super) fn interpolate(table: &[f32], t: f32) -> f32 {
    let last = table.len() - 1;
    let t = f64::from(t).clamp(0.0, last as f64);
    let i = t as usize;
    let low = f64::from(table[i]);
    let slope = f64::from(table[last.min(i + 1)]) - low;
    (slope * (t - i as f64) + low) as f32
}
