//! Pseudo numerical methods for diffusion models: Liu et al., arXiv:2202.09778, formula 9 with linear
//! multistep coefficients alone (`skip_prk_steps`), as Stable Diffusion 1.5 has it. diffusers' `PNDMScheduler`.
//!
//! The model runs once more than there are steps: the second call repeats the first step with the mean of
//! two predictions.

use super::alphas::Terminal;
use super::config::Keys;
use super::spacing::Spacing;
use super::{Prediction, Schedule, Step, alphas, check_steps};
use crate::error::{Error, Result};

/// The weights of a prediction of the noise and of the ones before it: Adams and Bashforth's.
const MULTISTEP: [[f64; 4]; 4] = [
    [1.0, 0.0, 0.0, 0.0],
    [3.0 / 2.0, -1.0 / 2.0, 0.0, 0.0],
    [23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0, 0.0],
    [55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    if !keys.flag("skip_prk_steps", false)? {
        return Err(Error::unsupported(keys.place("skip_prk_steps", "false is not supported, only true")));
    }
    let prediction = Prediction::from_keys(keys)?;
    if prediction == Prediction::Sample {
        let message = "only \"epsilon\" and \"v_prediction\" are supported by this scheduler";
        return Err(Error::unsupported(keys.place("prediction_type", message)));
    }
    let ends_at_one = keys.flag("set_alpha_to_one", false)?;
    let alphas = alphas::from_keys(keys, &alphas::Defaults::new(Terminal::Unknown))?;
    check_steps(keys, steps, "num_train_timesteps", alphas.len())?;
    let stride = alphas.len() / steps;
    let mut timesteps = Spacing::from_keys(keys, "leading")?.whole_timesteps(keys, alphas.len(), steps)?;
    if let Some(&second) = timesteps.get(1) {
        timesteps.insert(1, second);
    }
    let end = if ends_at_one { 1.0 } else { f64::from(alphas[0]) };
    let alpha = |t: usize| f64::from(alphas[t.min(alphas.len() - 1)]);
    let mut all = vec![];
    // The factors of the sample and of the noise in the first step, which the second call repeats.
    let mut first = (1.0, 0.0);
    for (i, &t) in timesteps.iter().skip(begin).enumerate() {
        let repeats = i == 1;
        let (from, to) = if repeats { (t + stride, Some(t)) } else { (t, t.checked_sub(stride)) };
        let (sample, noise) = transfer(alpha(from), to.map_or(end, alpha));
        // What is kept and combined is the model's output; the noise follows from it and from the sample.
        let (noise_sample, noise_model) = prediction.epsilon(alpha(from));
        let (sample, noise) = (sample + noise * noise_sample, noise * noise_model);
        let (denoised_sample, denoised_model) = prediction.picture(alpha(t));
        let step = Step {
            p_sample: 0.0,
            p_model: 1.0,
            denoised_p: denoised_model as f32,
            denoised_sample: denoised_sample as f32,
            // The second call's prediction is the only one that is not kept.
            remembers: i > 0 && i != 2,
            ..Step::at(t as f32, alpha(t).sqrt(), (1.0 - alpha(t)).sqrt())
        };
        all.push(if repeats {
            // From the sample before the first step, which is (x - first noise) / first sample.
            let back = sample / first.0;
            Step {
                prev_p: (noise / 2.0) as f32,
                prev_sample: back as f32,
                prev_before: [(noise / 2.0 - back * first.1) as f32, 0.0, 0.0],
                ..step
            }
        } else {
            let [now, before @ ..] = MULTISTEP[i.saturating_sub(1).min(3)];
            Step {
                prev_p: (noise * now) as f32,
                prev_sample: sample as f32,
                prev_before: before.map(|weight| (noise * weight) as f32),
                ..step
            }
        });
        if i == 0 {
            first = (sample, noise);
        }
    }
    Ok(Schedule { init_noise_sigma: 1.0, steps: all, sigmas: vec![] })
}

/// The factors of the sample and of the predicted noise on the way from one signal level to another.
fn transfer(from: f64, to: f64) -> (f64, f64) {
    let denominator = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
    ((to / from).sqrt(), -(to - from) / denominator)
}
