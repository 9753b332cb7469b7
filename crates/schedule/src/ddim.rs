//! Denoising diffusion implicit models: Song et al., arXiv:2010.02502, formulas 12 and 16. diffusers'
//! `DDIMScheduler`.

use super::alphas::Terminal;
use super::config::Keys;
use super::spacing::Spacing;
use super::{Prediction, Schedule, Step, alphas, check_steps, clip};
use crate::error::Result;

/// `eta`, an argument of diffusers' pipelines, is read like a key: 0 (nothing drawn) to 1 (as noisy as DDPM).
pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    keys.must_be_off("thresholding")?;
    let prediction = Prediction::from_keys(keys)?;
    let clip = clip(keys, true)?;
    let ends_at_one = keys.flag("set_alpha_to_one", true)?;
    let eta = keys.fraction("eta", 0.0)?;
    let alphas = alphas::from_keys(keys, &alphas::Defaults::new(Terminal::Zero))?;
    check_steps(keys, steps, "num_train_timesteps", alphas.len())?;
    let stride = alphas.len() / steps;
    let timesteps = Spacing::from_keys(keys, "leading")?.whole_timesteps(keys, alphas.len(), steps)?;
    let end = if ends_at_one { 1.0 } else { f64::from(alphas[0]) };
    let steps = timesteps.iter().skip(begin).map(|&t| {
        let alpha = f64::from(alphas[t]);
        // A stride below t, which need not be the next timestep of the list.
        let prev = t.checked_sub(stride).map_or(end, |t| alphas[t].into());
        let variance = (1.0 - prev) / (1.0 - alpha) * (1.0 - alpha / prev);
        let deviation = eta * variance.max(0.0).sqrt();
        let direction = (1.0 - prev - deviation * deviation).max(0.0).sqrt();
        let (epsilon_sample, epsilon_model) = prediction.epsilon(alpha);
        Step {
            clip,
            prev_p: prev.sqrt() as f32,
            prev_sample: (direction * epsilon_sample) as f32,
            prev_model: (direction * epsilon_model) as f32,
            prev_noise: deviation as f32,
            draws_noise: eta > 0.0,
            ..Step::preserving(t as f32, alpha, prediction)
        }
    });
    Ok(Schedule { init_noise_sigma: 1.0, steps: steps.collect(), sigmas: vec![] })
}
