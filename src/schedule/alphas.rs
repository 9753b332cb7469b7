//! The noise table that the model was trained with.

use super::config::Keys;
use crate::error::{Error, Result};

/// The products `abar[t] = (1 - beta[0]) ... (1 - beta[t])`, `[betas]`, for a training table of betas.
///
/// Bit-exact with `torch.cumprod` on the CPU, which accumulates in double precision and rounds every
/// value to float32.
pub fn alphas_cumprod(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0f64;
    let accumulate = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(accumulate).collect()
}

/// The table of a configuration, `[num_train_timesteps]`, all between 0 and 1, both excluded.
pub(super) fn from_keys(keys: &Keys, defaults: &Defaults) -> Result<Vec<f32>> {
    keys.must_be_off("trained_betas")?;
    keys.must_be_off("rescale_betas_zero_snr")?;
    let steps = keys.count("num_train_timesteps", 1000)?;
    let start = keys.number("beta_start", defaults.beta_start)?;
    let end = keys.number("beta_end", defaults.beta_end)?;
    type Shape = fn(f64, f64, usize) -> Vec<f32>;
    let shapes: [(&str, Shape); 3] =
        [("linear", linear), ("scaled_linear", scaled_linear), ("squaredcos_cap_v2", squared_cosine)];
    let shape = keys.choice("beta_schedule", defaults.beta_schedule, &shapes)?;
    let alphas = alphas_cumprod(&shape(start, end, steps));
    if !alphas.iter().all(|&a| 0.0 < a && a < 1.0) {
        let message = format!("no noise schedule of {steps} steps goes from {start} to {end} (beta_end)");
        return Err(Error::model(keys.place("beta_start", &message)));
    }
    Ok(alphas)
}

/// The class defaults of the keys that describe the table.
pub(super) struct Defaults {
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: &'static str,
}

fn linear(start: f64, end: f64, steps: usize) -> Vec<f32> {
    linspace(start as f32, end as f32, steps)
}

/// The schedule of latent diffusion: linear in the square roots.
pub fn scaled_linear(start: f64, end: f64, steps: usize) -> Vec<f32> {
    let roots = linspace(start.sqrt() as f32, end.sqrt() as f32, steps);
    roots.into_iter().map(|root| root * root).collect()
}

/// Nichol and Dhariwal, arXiv:2102.09672, with betas capped at 0.999.
fn squared_cosine(_start: f64, _end: f64, steps: usize) -> Vec<f32> {
    let bar = |i: usize| {
        let t = i as f64 / steps as f64;
        ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2)
    };
    (0..steps).map(|i| (1.0 - bar(i + 1) / bar(i)).min(0.999) as f32).collect()
}

/// `torch.linspace` in float32: counted from both ends, with fused multiply-adds, as torch's kernel is
/// compiled.
fn linspace(start: f32, end: f32, steps: usize) -> Vec<f32> {
    if steps == 1 {
        return vec![start];
    }
    let step = (end - start) / (steps - 1) as f32;
    let value = |i: usize| {
        if i < steps / 2 {
            step.mul_add(i as f32, start)
        } else {
            (-step).mul_add((steps - i - 1) as f32, end)
        }
    };
    (0..steps).map(value).collect()
}
