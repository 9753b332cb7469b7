//! Timesteps and the coefficients of every denoising step, as plain numbers.
//!
//! A scheduler is one function from its configuration and a number of steps to a [`Schedule`]; what runs
//! on the GPU is the same formula for all of them ([`Step`]). To add one: a file beside `euler.rs`, and
//! one line in [`SCHEDULERS`]. The reference is diffusers 0.36, whose choices are copied, class defaults
//! included.

mod alphas;
mod config;
mod euler;
mod lcm;

pub use alphas::{alphas_cumprod, scaled_linear};
pub use config::Config;

use crate::error::{Error, Result};
use config::Keys;

/// One line for each scheduler.
const SCHEDULERS: &[Scheduler] = &[
    Scheduler { name: "euler", class: "EulerDiscreteScheduler", schedule: euler::schedule },
    Scheduler { name: "lcm", class: "LCMScheduler", schedule: lcm::schedule },
];

/// One denoising step:
///
/// ```text
/// x0       = clamp(x0_sample * x + x0_model * m)              clamped to +-clip if there is one
/// x'       = prev_x0 * x0 + prev_sample * x + prev_x0_before * x0_before + prev_noise * noise
/// denoised = denoised_x0 * x0 + denoised_sample * x           for previews: the picture so far
/// ```
///
/// where `x` is the sample `[N, h, w, 4]`, `m` the model's output for `input_scale * x` at `timestep`,
/// `x0_before` the `x0` of the step before (not used in the first step), and `noise` unit normal. All
/// are computed in double precision and rounded once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the model is told, from 0 to one less than the training steps; not always whole.
    pub timestep: f32,
    /// The model sees `input_scale * x`.
    pub input_scale: f32,
    pub x0_sample: f32,
    pub x0_model: f32,
    /// `x0` is clamped to +-clip.
    pub clip: Option<f32>,
    pub prev_x0: f32,
    pub prev_sample: f32,
    pub prev_x0_before: f32,
    pub prev_noise: f32,
    pub denoised_x0: f32,
    pub denoised_sample: f32,
    /// Whether noise is drawn from the generator after the model ran. Not the same as a `prev_noise`
    /// other than 0: some schedulers of diffusers draw noise that has no weight, and the draws that
    /// follow depend on it.
    pub draws_noise: bool,
}

impl Step {
    /// The predicted picture for one element.
    pub fn x0(&self, x: f32, m: f32) -> f32 {
        let x0 = self.x0_sample * x + self.x0_model * m;
        self.clip.map_or(x0, |clip| x0.clamp(-clip, clip))
    }

    /// The next sample for one element.
    pub fn prev(&self, x0: f32, x: f32, x0_before: f32, noise: f32) -> f32 {
        self.prev_x0 * x0 + self.prev_sample * x + self.prev_x0_before * x0_before + self.prev_noise * noise
    }

    /// What diffusers calls `pred_original_sample` or `denoised`, for one element.
    pub fn denoised(&self, x0: f32, x: f32) -> f32 {
        self.denoised_x0 * x0 + self.denoised_sample * x
    }
}

/// All steps of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The first sample is this times unit normal noise.
    pub init_noise_sigma: f32,
    pub steps: Vec<Step>,
    /// Noise levels, `[steps + 1]`, for schedulers that are built on them (Euler); empty for others.
    pub sigmas: Vec<f32>,
}

impl Schedule {
    /// The schedule of `steps` denoising steps.
    ///
    /// # Errors
    /// `invalid-option` if the scheduler can't make so many steps (the message has the range),
    /// `unsupported` or `invalid-model` if the configuration asks for what is not built or makes no
    /// sense (the message names the file, the key and its value).
    pub fn new(config: &Config, steps: usize) -> Result<Schedule> {
        let class = config.class()?;
        let scheduler = find(class).ok_or_else(|| {
            let message = format!("scheduler {class:?} is not supported; supported are {}", supported());
            Error::unsupported(config.keys().place("_class_name", &message))
        })?;
        (scheduler.schedule)(&config.keys(), steps)
    }
}

struct Scheduler {
    /// What a caller writes.
    name: &'static str,
    /// What `scheduler_config.json` says.
    class: &'static str,
    schedule: fn(&Keys, usize) -> Result<Schedule>,
}

/// By the short name or by the class.
fn find(name: &str) -> Option<&'static Scheduler> {
    SCHEDULERS.iter().find(|s| s.name == name || s.class == name)
}

/// "euler" (EulerDiscreteScheduler), "lcm" (LCMScheduler)
fn supported() -> String {
    let names: Vec<String> = SCHEDULERS.iter().map(|s| format!("{:?} ({})", s.name, s.class)).collect();
    names.join(", ")
}

/// What the model's output means: how `x0` follows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Prediction {
    /// The noise in the sample.
    Epsilon,
    /// The velocity of Salimans and Ho, arXiv:2202.00512.
    Velocity,
    /// The picture itself.
    Sample,
}

impl Prediction {
    fn from_keys(keys: &Keys) -> Result<Prediction> {
        let choices = [
            ("epsilon", Prediction::Epsilon),
            ("v_prediction", Prediction::Velocity),
            ("sample", Prediction::Sample),
        ];
        keys.choice("prediction_type", "epsilon", &choices)
    }
}

/// `steps` is between 1 and `most`, which comes from `key`.
fn check_steps(keys: &Keys, steps: usize, key: &str, most: usize) -> Result<()> {
    if (1..=most).contains(&steps) {
        return Ok(());
    }
    let file = keys.file;
    Err(Error::option(format!("steps must be between 1 and {most} ({key} in {file}), not {steps}")))
}

#[cfg(test)]
mod tests;
