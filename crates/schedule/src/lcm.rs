//! Latent consistency models, Luo et al., arXiv:2310.04378: every step predicts the image and noises it
//! again. diffusers' `LCMScheduler`.

use super::alphas::Terminal;
use super::config::Keys;
use super::{Prediction, Schedule, Step, alphas, check_steps, clip};
use crate::error::{Error, Result};

/// `sigma_data` of the boundary condition, fixed in diffusers.
const SIGMA_DATA: f64 = 0.5;

/// `steps_offset`, `timestep_spacing` and `set_alpha_to_one` of the configuration are without effect in
/// diffusers too: the list of timesteps is always this one, and never goes below 0.
pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    keys.must_be_off("thresholding")?;
    let prediction = Prediction::from_keys(keys)?;
    let clip = clip(keys, false)?;
    let scaling = keys.number("timestep_scaling", 10.0)?;
    let (alphas, timesteps) = distilled(keys, steps)?;
    let alpha = |t: usize| f64::from(alphas[t]);
    let steps = timesteps.iter().enumerate().skip(begin).map(|(i, &t)| {
        let scaled = t as f64 * scaling;
        let norm = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let (skip, out) = (SIGMA_DATA * SIGMA_DATA / norm, scaled / norm.sqrt());
        // The last step gives the image itself: nothing is added, nothing is drawn.
        let next = timesteps.get(i + 1).map(|&next| alpha(next));
        let kept = next.map_or(1.0, f64::sqrt);
        let noise = next.map_or(0.0, |a| (1.0 - a).sqrt());
        Step {
            clip,
            prev_p: (kept * out) as f32,
            prev_sample: (kept * skip) as f32,
            prev_noise: noise as f32,
            denoised_p: out as f32,
            denoised_sample: skip as f32,
            draws_noise: next.is_some(),
            ..Step::preserving(t as f32, alpha(t), prediction)
        }
    });
    Ok(Schedule { init_noise_sigma: 1.0, steps: steps.collect(), sigmas: Vec::new() })
}

/// The noise table, and `steps` timesteps spread over those of the distillation, from the noisiest on.
///
/// `strength`, an argument of diffusers' image-to-image pipelines for these models, is read like a key: only
/// that share of the distillation's timesteps, the least noisy ones, is used.
pub(super) fn distilled(keys: &Keys, steps: usize) -> Result<(Vec<f32>, Vec<usize>)> {
    let defaults = alphas::Defaults {
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: "scaled_linear",
        terminal: Terminal::Zero,
    };
    let alphas = alphas::from_keys(keys, &defaults)?;
    let original = keys.count("original_inference_steps", 50)?;
    if original > alphas.len() {
        let message = format!("{original} is more than num_train_timesteps, {}", alphas.len());
        return Err(Error::model(keys.place("original_inference_steps", &message)));
    }
    let used = (original as f64 * keys.fraction("strength", 1.0)?) as usize;
    check_steps(keys, steps, "original_inference_steps", used)?;
    let stride = alphas.len() / original;
    // floor(numpy.linspace(0, used, steps, endpoint=False)), in double precision as there: a whole
    // number may come out just below itself.
    let spread = used as f64 / steps as f64;
    let timesteps = (0..steps).map(|i| (used - (i as f64 * spread) as usize) * stride - 1).collect();
    Ok((alphas, timesteps))
}
