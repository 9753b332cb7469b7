//! Continuous-time consistency models in a few steps, Lu and Song, arXiv:2410.11081, as SANA-Sprint runs them, Chen et al.,
//! arXiv:2503.09641: every step predicts the image and noises it again. diffusers' `SCMScheduler`.

use super::alphas::linspace;
use super::config::Keys;
use super::{Schedule, Step, check_steps};
use crate::error::Result;

/// Timesteps are angles: a sample is `cos t` times the image plus `sin t` times noise. The first is not half of pi but a
/// little more, which shows in its cosine.
#[expect(clippy::approx_constant, reason = "diffusers' default has these digits")]
const FIRST: f64 = 1.5708;
/// The second of two steps.
const SECOND: f64 = 1.3;

/// Samples are in units of `sigma_data`, which cancels out of the image: diffusers' pipelines multiply noise and images by it,
/// divide what the network sees by it and multiply what it gives, and at last divide the latents by it.
///
/// They decode the denoised estimate of the last step and not its sample. That is the same, since the sample ends at an angle
/// of 0. Its noise has no weight, but is drawn. `max_timesteps` and `intermediate_timesteps`, arguments of diffusers'
/// `set_timesteps`, are read like keys.
pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    keys.choice("prediction_type", "trigflow", &[("trigflow", ())])?;
    let train = keys.count("num_train_timesteps", 1000)?;
    check_steps(keys, steps, "num_train_timesteps", train)?;
    let first = keys.number("max_timesteps", FIRST)? as f32;
    let angles = match steps {
        2 => vec![first, keys.number("intermediate_timesteps", SECOND)? as f32, 0.0],
        _ => linspace(first, 0.0, steps + 1),
    };
    let steps = angles.windows(2).skip(begin).map(|pair| {
        let [(sin, cos), (next_sin, next_cos)] = [pair[0], pair[1]].map(|angle| f64::from(angle).sin_cos());
        Step {
            p_sample: cos as f32,
            p_model: -sin as f32,
            prev_p: next_cos as f32,
            prev_noise: next_sin as f32,
            draws_noise: true,
            ..Step::at(pair[0], cos, sin)
        }
    });
    Ok(Schedule { init_noise_sigma: 1.0, steps: steps.collect(), sigmas: Vec::new() })
}
