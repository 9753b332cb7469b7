//! Euler's method on the probability-flow ODE: Karras et al., arXiv:2206.00364, algorithm 2 without
//! churn. diffusers' `EulerDiscreteScheduler`; SD-Turbo and SDXL-Lightning are run with it.

use super::config::Keys;
use super::{Prediction, Schedule, Step, alphas, check_steps};
use crate::error::Result;

pub(super) fn schedule(keys: &Keys, steps: usize) -> Result<Schedule> {
    for key in ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] {
        keys.must_be_off(key)?;
    }
    keys.choice("interpolation_type", "linear", &[("linear", ())])?;
    keys.choice("timestep_type", "discrete", &[("discrete", ())])?;
    let prediction = Prediction::from_keys(keys)?;
    let spacings =
        [("linspace", Spacing::Linspace), ("leading", Spacing::Leading), ("trailing", Spacing::Trailing)];
    let spacing = keys.choice("timestep_spacing", "linspace", &spacings)?;
    let offset = keys.integer("steps_offset", 0)?;
    let ends_at_zero = keys.choice("final_sigmas_type", "zero", &[("zero", true), ("sigma_min", false)])?;
    let defaults = alphas::Defaults { beta_start: 0.0001, beta_end: 0.02, beta_schedule: "linear" };
    let alphas = alphas::from_keys(keys, &defaults)?;
    check_steps(keys, steps, "num_train_timesteps", alphas.len())?;

    // torch's vectorised square root may be one bit off the correctly rounded one taken here.
    let table: Vec<f32> = alphas.iter().map(|a| ((1.0 - a) / a).sqrt()).collect();
    let timesteps = timesteps(spacing, alphas.len(), steps, offset);
    let mut sigmas: Vec<f32> = timesteps.iter().map(|&t| interpolate(&table, t)).collect();
    sigmas.push(if ends_at_zero { 0.0 } else { table[0] });

    let largest = sigmas.iter().copied().fold(0.0, f32::max);
    let init_noise_sigma = match spacing {
        Spacing::Leading => (largest * largest + 1.0).sqrt(),
        Spacing::Linspace | Spacing::Trailing => largest,
    };
    let steps = timesteps.iter().zip(sigmas.windows(2));
    let steps = steps.map(|(&t, pair)| step(t, pair[0].into(), pair[1].into(), prediction)).collect();
    Ok(Schedule { init_noise_sigma, steps, sigmas })
}

#[derive(Clone, Copy)]
enum Spacing {
    Linspace,
    Leading,
    Trailing,
}

/// From noise level `sigma` to `next`: `x' = x + (x - x0) / sigma * (next - sigma)`.
fn step(timestep: f32, sigma: f64, next: f64, prediction: Prediction) -> Step {
    let norm = sigma * sigma + 1.0;
    let (x0_sample, x0_model) = match prediction {
        Prediction::Epsilon => (1.0, -sigma),
        Prediction::Velocity => (1.0 / norm, -sigma / norm.sqrt()),
        Prediction::Sample => (0.0, 1.0),
    };
    Step {
        timestep,
        input_scale: (1.0 / norm.sqrt()) as f32,
        x0_sample: x0_sample as f32,
        x0_model: x0_model as f32,
        clip: None,
        prev_x0: (1.0 - next / sigma) as f32,
        prev_sample: (next / sigma) as f32,
        prev_x0_before: 0.0,
        prev_noise: 0.0,
        denoised_x0: 1.0,
        denoised_sample: 0.0,
        draws_noise: false,
    }
}

/// Timesteps from the noisiest on, `[steps]`: table 2 of Lin et al., arXiv:2305.08891.
fn timesteps(spacing: Spacing, train: usize, steps: usize, offset: i64) -> Vec<f32> {
    match spacing {
        Spacing::Linspace => {
            let last = (train - 1) as f64;
            let stride = last / (steps.max(2) - 1) as f64;
            let value = |i: usize| if i > 0 && i == steps - 1 { last } else { i as f64 * stride };
            (0..steps).rev().map(|i| value(i) as f32).collect()
        }
        Spacing::Leading => {
            let stride = train / steps;
            (0..steps).rev().map(|i| (i * stride) as f32 + offset as f32).collect()
        }
        // numpy.arange(train, 0, -train/steps), which adds a difference that has been rounded: it
        // decides where halves are rounded to. For some numbers of steps (61 is the first) arange
        // makes one element too many and diffusers runs the model at timestep -1; not copied.
        Spacing::Trailing => {
            let train = train as f64;
            let stride = (train - train / steps as f64) - train;
            (0..steps).map(|i| (train + i as f64 * stride).round_ties_even() as f32 - 1.0).collect()
        }
    }
}

/// `numpy.interp` of a table at `t`, clamped to its ends.
fn interpolate(table: &[f32], t: f32) -> f32 {
    let last = table.len() - 1;
    let t = f64::from(t).clamp(0.0, last as f64);
    let i = t as usize;
    let low = f64::from(table[i]);
    let slope = f64::from(table[last.min(i + 1)]) - low;
    (slope * (t - i as f64) + low) as f32
}
