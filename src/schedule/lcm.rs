//! Latent consistency models, Luo et al., arXiv:2310.04378: every step predicts the picture and noises it
//! again. diffusers' `LCMScheduler`.

use super::config::Keys;
use super::{Prediction, Schedule, Step, alphas, check_steps};
use crate::error::{Error, Result};

/// `sigma_data` of the boundary condition, fixed in diffusers.
const SIGMA_DATA: f64 = 0.5;

/// `steps_offset`, `timestep_spacing` and `set_alpha_to_one` of the configuration are without effect in
/// diffusers too: the list of timesteps is always this one, and never goes below 0.
pub(super) fn schedule(keys: &Keys, steps: usize) -> Result<Schedule> {
    keys.must_be_off("thresholding")?;
    let prediction = Prediction::from_keys(keys)?;
    let clip = if keys.flag("clip_sample", false)? { Some(clip_range(keys)?) } else { None };
    let scaling = keys.number("timestep_scaling", 10.0)?;
    let defaults = alphas::Defaults { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" };
    let alphas = alphas::from_keys(keys, &defaults)?;
    let original = keys.count("original_inference_steps", 50)?;
    if original > alphas.len() {
        let message = format!("{original} is more than num_train_timesteps, {}", alphas.len());
        return Err(Error::model(keys.place("original_inference_steps", &message)));
    }
    check_steps(keys, steps, "original_inference_steps", original)?;

    let timesteps = timesteps(alphas.len(), original, steps);
    let alpha = |t: usize| f64::from(alphas[t]);
    let steps = timesteps.iter().enumerate().map(|(i, &t)| {
        let scaled = t as f64 * scaling;
        let norm = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let (skip, out) = (SIGMA_DATA * SIGMA_DATA / norm, scaled / norm.sqrt());
        // The last step gives the picture itself: nothing is added, nothing is drawn.
        let next = timesteps.get(i + 1).map(|&next| alpha(next));
        let kept = next.map_or(1.0, f64::sqrt);
        let noise = next.map_or(0.0, |a| (1.0 - a).sqrt());
        let (x0_sample, x0_model) = x0(prediction, alpha(t));
        Step {
            timestep: t as f32,
            input_scale: 1.0,
            x0_sample: x0_sample as f32,
            x0_model: x0_model as f32,
            clip,
            prev_x0: (kept * out) as f32,
            prev_sample: (kept * skip) as f32,
            prev_x0_before: 0.0,
            prev_noise: noise as f32,
            denoised_x0: out as f32,
            denoised_sample: skip as f32,
            draws_noise: next.is_some(),
        }
    });
    Ok(Schedule { init_noise_sigma: 1.0, steps: steps.collect(), sigmas: Vec::new() })
}

/// The factors of the sample and of the model's output in `x0`.
fn x0(prediction: Prediction, alpha: f64) -> (f64, f64) {
    let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
    match prediction {
        Prediction::Epsilon => (1.0 / signal, -noise / signal),
        Prediction::Velocity => (signal, -noise),
        Prediction::Sample => (0.0, 1.0),
    }
}

/// `steps` timesteps, spread over the `original` ones of the distillation, from the noisiest on.
fn timesteps(train: usize, original: usize, steps: usize) -> Vec<usize> {
    let stride = train / original;
    // floor(numpy.linspace(0, original, steps, endpoint=False)), in double precision as there: a whole
    // number may come out just below itself.
    let spread = original as f64 / steps as f64;
    (0..steps).map(|i| (original - (i as f64 * spread) as usize) * stride - 1).collect()
}

fn clip_range(keys: &Keys) -> Result<f32> {
    let range = keys.number("clip_sample_range", 1.0)?;
    if range > 0.0 {
        return Ok(range as f32);
    }
    Err(Error::model(
        keys.place("clip_sample_range", &format!("{range} found where a positive number is wanted")),
    ))
}
