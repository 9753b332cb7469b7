//! Euler's method on a rectified flow: Liu et al., arXiv:2209.03003, with the shift of Esser et al.,
//! arXiv:2403.03206. diffusers' `FlowMatchEulerDiscreteScheduler`.

use super::config::Keys;
use super::{Schedule, Step, check_steps};
use crate::error::Result;

/// `sigmas`, an argument of diffusers' `set_timesteps`, is read like a key: one for each step, before the shift.
pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    for key in [
        "use_dynamic_shifting",
        "invert_sigmas",
        "shift_terminal",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "stochastic_sampling",
    ] {
        keys.must_be_off(key)?;
    }
    let train = keys.count("num_train_timesteps", 1000)?;
    let shift = keys.number("shift", 1.0)?;
    check_steps(keys, steps, "num_train_timesteps", train)?;
    let shifted = |sigma: f64| shift * sigma / (1.0 + (shift - 1.0) * sigma);
    let spread = || {
        // From 1 to the table's last one, which is shifted already: diffusers shifts it twice.
        let last = f64::from(shifted(1.0 / train as f64) as f32);
        (0..steps).map(|i| 1.0 + (last - 1.0) * i as f64 / (steps.max(2) - 1) as f64).collect()
    };
    let sigmas: Vec<f64> = keys.numbers("sigmas", steps)?.unwrap_or_else(spread);
    let mut sigmas: Vec<f32> = sigmas.into_iter().map(|s| shifted(s) as f32).collect();
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
