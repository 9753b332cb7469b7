//! Heun's method on the probability-flow ODE: Karras et al., arXiv:2206.00364, algorithm 1. diffusers'
//! `HeunDiscreteScheduler`. Each level but the last asks the model twice: an Euler step to the next level, then a step
//! over with the mean of both slopes. The sample before the Euler step need not be kept: it follows from the sample
//! behind it and the first prediction.

use super::alphas::{Defaults, Terminal};
use super::config::Keys;
use super::euler::{Levels, predict};
use super::{Prediction, Schedule, Step, clip};
use crate::error::Result;

pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    for key in ["use_exponential_sigmas", "use_beta_sigmas"] {
        keys.must_be_off(key)?;
    }
    let prediction = Prediction::from_keys(keys)?;
    let clip = clip(keys, false)?;
    let defaults = Defaults { beta_start: 0.00085, beta_end: 0.012, ..Defaults::new(Terminal::Unknown) };
    let mut levels = Levels::from_keys(keys, steps, &defaults)?;
    if keys.flag("use_karras_sigmas", false)? {
        levels.spread();
    }
    // A step to a level other than 0 has its second half there, at that level's timestep.
    let timesteps = levels.timesteps.clone();
    let plain = levels.schedule(0.0, begin, |timestep, sigma, next| Step {
        prev_p: (1.0 - next / sigma) as f32,
        prev_sample: (next / sigma) as f32,
        ..predict(timestep, sigma, prediction)
    });
    let pairs = plain.sigmas.windows(2).skip(begin).map(|pair| [pair[0], pair[1]].map(f64::from));
    let mut all = vec![];
    for (i, (euler, [sigma, next])) in plain.steps.into_iter().zip(pairs).enumerate() {
        all.push(Step { clip, ..euler });
        if next > 0.0 {
            let second = predict(timesteps[begin + i + 1], next, prediction);
            all.push(Step { clip, ..mean(second, sigma, next) });
        }
    }
    // diffusers counts every level between the ends twice.
    let (first, rest) = plain.sigmas.split_first().expect("at least one level");
    let (last, between) = rest.split_last().expect("a level to end at");
    let sigmas = [*first].into_iter().chain(between.iter().flat_map(|s| [*s, *s])).chain([*last]).collect();
    Ok(Schedule { steps: all, sigmas, ..plain })
}

/// From the sample at `next` that Euler's step led to, over again with the mean of the slopes at both ends.
fn mean(second: Step, sigma: f64, next: f64) -> Step {
    let half = (next - sigma) / 2.0;
    // The sample at `sigma` is `back` of this one and `1 - back` of the first prediction.
    let back = sigma / next;
    let over = 1.0 + half / sigma;
    Step {
        prev_p: (-half / next) as f32,
        prev_sample: (over * back + half / next) as f32,
        prev_before: [(over * (1.0 - back) - half / sigma) as f32, 0.0, 0.0],
        remembers: true,
        ..second
    }
}
