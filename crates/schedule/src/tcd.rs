//! Trajectory consistency distillation: Zheng et al., arXiv:2402.19159, algorithm 4. diffusers'
//! `TCDScheduler`.

use super::config::Keys;
use super::{Prediction, Schedule, Step, lcm};
use crate::error::Result;

/// `eta` (the paper's gamma), an argument of diffusers' pipelines, is read like a key: 0 (nothing drawn) to 1. Its
/// default is theirs; that of the class, 0.3, is never reached there.
pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    keys.must_be_off("thresholding")?;
    let prediction = Prediction::from_keys(keys)?;
    let eta = keys.fraction("eta", 0.0)?;
    let (alphas, timesteps) = lcm::distilled(keys, steps)?;
    let steps = (begin..timesteps.len()).map(|i| {
        let alpha = f64::from(alphas[timesteps[i]]);
        let next = timesteps.get(i + 1).copied();
        let prev = next.unwrap_or(0);
        // In float32, as torch multiplies it.
        let s = ((1.0 - eta) as f32 * prev as f32) as usize;
        let (alpha_s, alpha_prev) = (f64::from(alphas[s]), f64::from(alphas[prev]));
        let (kept, noise) = match next {
            Some(_) if eta > 0.0 => ((alpha_prev / alpha_s).sqrt(), (1.0 - alpha_prev / alpha_s).sqrt()),
            _ => (1.0, 0.0),
        };
        let (epsilon_sample, epsilon_model) = prediction.epsilon(alpha);
        let direction = kept * (1.0 - alpha_s).sqrt();
        Step {
            prev_p: (kept * alpha_s.sqrt()) as f32,
            prev_sample: (direction * epsilon_sample) as f32,
            prev_model: (direction * epsilon_model) as f32,
            prev_noise: noise as f32,
            draws_noise: eta > 0.0 && next.is_some(),
            ..Step::preserving(timesteps[i] as f32, alpha, prediction)
        }
    });
    Ok(Schedule { init_noise_sigma: 1.0, steps: steps.collect(), sigmas: vec![] })
}
