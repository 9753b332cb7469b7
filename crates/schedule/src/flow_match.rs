//! Euler's method on a rectified flow: Liu et al., arXiv:2209.03003, with the shift of Esser et al.,
//! arXiv:2403.03206. diffusers' `FlowMatchEulerDiscreteScheduler`.

use super::config::Keys;
use super::{Schedule, Step, check_steps};
use crate::error::{Error, Result};

/// Arguments of diffusers' `set_timesteps` are read like keys: `sigmas`, one for each step, before the shift, and `mu`, which
/// says how far the levels are shifted where the file leaves that to the size of the image (`mu.rs`).
pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    for key in [
        "invert_sigmas",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "stochastic_sampling",
    ] {
        keys.must_be_off(key)?;
    }
    let train = keys.count("num_train_timesteps", 1000)?;
    let dynamic = keys.flag("use_dynamic_shifting", false)?;
    let factor = if dynamic { dynamic_factor(keys)? } else { keys.number("shift", 1.0)? };
    let terminal = keys.fraction("shift_terminal", 0.0)?;
    check_steps(keys, steps, "num_train_timesteps", train)?;
    let shifted = |sigma: f64| factor * sigma / (1.0 + (factor - 1.0) * sigma);
    let spread = || {
        // From 1 to the table's last one. A shift of the file is in the table already: diffusers shifts it twice.
        let last = 1.0 / train as f64;
        let last = f64::from(if dynamic { last } else { shifted(last) } as f32);
        (0..steps).map(|i| 1.0 + (last - 1.0) * i as f64 / (steps.max(2) - 1) as f64).collect()
    };
    // Those that are given are float32 in diffusers.
    let given = keys.numbers("sigmas", steps)?;
    let given = given.map(|list| list.into_iter().map(|sigma| f64::from(sigma as f32)).collect());
    let mut sigmas: Vec<f64> = given.unwrap_or_else(spread);
    sigmas.iter_mut().for_each(|sigma| *sigma = shifted(*sigma));
    stretch(&mut sigmas, terminal);
    let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
    sigmas.push(0.0);
    let steps = sigmas.windows(2).skip(begin).map(|pair| {
        let (sigma, next) = (f64::from(pair[0]), f64::from(pair[1]));
        Step {
            // The model gives the direction from the image to the noise.
            p_sample: 1.0,
            p_model: -pair[0],
            prev_p: (1.0 - next / sigma) as f32,
            prev_sample: (next / sigma) as f32,
            ..Step::at(pair[0] * train as f32, 1.0 - sigma, sigma)
        }
    });
    Ok(Schedule { init_noise_sigma: 1.0, steps: steps.collect(), sigmas })
}

/// The shift by `mu`: diffusers' `f / (f + 1 / sigma - 1)` is the formula of `shift`.
fn dynamic_factor(keys: &Keys) -> Result<f64> {
    let exponential =
        keys.choice("time_shift_type", "exponential", &[("exponential", true), ("linear", false)])?;
    let mu = keys.given("mu")?.ok_or_else(|| {
        let message = "true wants mu, which the pipeline of the model has to say, found none";
        Error::unsupported(keys.place("use_dynamic_shifting", message))
    })?;
    Ok(if exponential { mu.exp() } else { mu })
}

/// Moves the levels towards the image or the noise, in proportion to their distance from noise alone, so that the last one
/// becomes `terminal` (`shift_terminal`; 0 is no such thing).
fn stretch(sigmas: &mut [f64], terminal: f64) {
    let last = sigmas.last().copied().unwrap_or(1.0);
    // A single step is at noise alone and stays there. diffusers divides by 0.
    if terminal > 0.0 && last < 1.0 {
        let factor = (1.0 - terminal) / (1.0 - last);
        sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) * factor);
    }
}
