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

/// The table of a configuration, `[num_train_timesteps]`, all between 0 and 1, both excluded; the last is 0 where the
/// class computes a zero terminal signal-to-noise ratio exactly.
pub(super) fn from_keys(keys: &Keys, defaults: &Defaults) -> Result<Vec<f32>> {
    keys.must_be_off("trained_betas")?;
    let steps = keys.count("num_train_timesteps", 1000)?;
    let start = keys.number("beta_start", defaults.beta_start)?;
    let end = keys.number("beta_end", defaults.beta_end)?;
    type Shape = fn(f64, f64, usize) -> Vec<f32>;
    let shapes: [(&str, Shape); 3] =
        [("linear", linear), ("scaled_linear", scaled_linear), ("squaredcos_cap_v2", squared_cosine)];
    let shape = keys.choice("beta_schedule", defaults.beta_schedule, &shapes)?;
    let betas = shape(start, end, steps);
    let mut alphas = alphas_cumprod(&betas);
    if !alphas.iter().all(|&a| 0.0 < a && a < 1.0) {
        let message = format!("no noise schedule of {steps} steps goes from {start} to {end} (beta_end)");
        return Err(Error::model(keys.place("beta_start", &message)));
    }
    let end = match defaults.terminal {
        Terminal::Unknown => None,
        Terminal::Zero => Some(0.0),
        // The smallest half above 0.
        Terminal::Nearly => Some(2f32.powi(-24)),
    };
    if let Some(end) = end
        && keys.flag(ZERO_SNR, false)?
    {
        alphas = alphas_cumprod(&zero_terminal(&alphas));
        alphas[steps - 1] = end;
    }
    Ok(alphas)
}

/// The key that asks for a last timestep of noise alone.
pub(super) const ZERO_SNR: &str = "rescale_betas_zero_snr";

/// What a class makes of [`ZERO_SNR`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Terminal {
    /// It does not know the key.
    Unknown,
    /// Nothing of the image is left in the last timestep.
    Zero,
    /// Next to nothing: levels of noise must be finite.
    Nearly,
}

/// The betas of a table that ends in noise alone: algorithm 1 of Lin et al., arXiv:2305.08891, in float32 and in the
/// order of diffusers' `rescale_zero_terminal_snr`. The smallest differ by some 1e-6 of themselves, since torch's
/// square root is not always the nearest.
fn zero_terminal(alphas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = alphas.iter().map(|a| a.sqrt()).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let factor = first / (first - last);
    let bar: Vec<f32> = roots.iter().map(|root| (root - last) * factor).map(|root| root * root).collect();
    let ratios = bar.windows(2).map(|pair| pair[1] / pair[0]);
    bar[..1].iter().copied().chain(ratios).map(|alpha| 1.0 - alpha).collect()
}

/// The class defaults of the keys that describe the table.
pub(super) struct Defaults {
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: &'static str,
    pub terminal: Terminal,
}

impl Defaults {
    /// The defaults of most scheduler classes.
    pub fn new(terminal: Terminal) -> Defaults {
        Defaults { beta_start: 0.0001, beta_end: 0.02, beta_schedule: "linear", terminal }
    }
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
pub(super) fn linspace(start: f32, end: f32, steps: usize) -> Vec<f32> {
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
