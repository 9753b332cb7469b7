//! Timesteps and the coefficients of every denoising step, as plain numbers.
//!
//! A scheduler is one function from its configuration and a number of steps to a [`Schedule`]; what runs
//! on the GPU is the same formula for all of them ([`Step`]). To add one: a file beside `euler.rs`, and
//! one line in [`SCHEDULERS`]. The reference is diffusers 0.36 to 0.42, whose choices are copied, class defaults
//! included.

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, json, warning};

mod alphas;
mod config;
mod ddim;
mod dpm_solver;
mod euler;
mod euler_ancestral;
mod flow_match;
mod heun;
mod lcm;
mod mu;
mod parameterization;
mod pndm;
mod scm;
mod spacing;
mod tcd;

pub use alphas::{alphas_cumprod, scaled_linear};
pub use config::Config;
pub use mu::{empirical_mu, even_sigmas, linear_mu};
pub use parameterization::Parameterization;

use crate::error::{Error, Result};
use config::Keys;

/// One line for each scheduler.
const SCHEDULERS: &[Scheduler] = &[
    Scheduler::new("euler", "EulerDiscreteScheduler", euler::schedule),
    Scheduler::new("euler-ancestral", "EulerAncestralDiscreteScheduler", euler_ancestral::schedule),
    Scheduler::new("heun", "HeunDiscreteScheduler", heun::schedule).without_zero_snr(),
    Scheduler::new("lcm", "LCMScheduler", lcm::schedule).consistency(4),
    Scheduler::new("tcd", "TCDScheduler", tcd::schedule).consistency(4),
    Scheduler::new("scm", "SCMScheduler", scm::schedule).consistency(2),
    Scheduler::new("ddim", "DDIMScheduler", ddim::schedule),
    Scheduler::new("pndm", "PNDMScheduler", pndm::schedule).without_zero_snr(),
    Scheduler::new("dpm++", "DPMSolverMultistepScheduler", dpm_solver::schedule),
    Scheduler::new("flow-euler", "FlowMatchEulerDiscreteScheduler", flow_match::schedule),
];

/// One denoising step:
///
/// ```text
/// p        = clamp(p_sample * x + p_model * m)                clamped to +-clip if there is one
/// x'       = prev_p * p + prev_sample * x + prev_model * m + prev_noise * noise
///            + prev_before[0] * b1 + prev_before[1] * b2 + prev_before[2] * b3
/// denoised = denoised_p * p + denoised_sample * x             for previews: the image so far
/// ```
///
/// where `x` is the sample `[N, h, w, C]`, `m` the model's output for `input_scale * x` at `timestep`,
/// `noise` unit normal, and `b1`, `b2`, `b3` the predictions `p` of earlier steps, the latest first: a step
/// that `remembers` puts the one of the step before it in front of them. All coefficients are computed in
/// double precision and rounded once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the model is told, from 0 to the number of training steps, or an angle from 0 to half of pi (SCM); not always
    /// whole.
    pub timestep: f32,
    /// The model sees `input_scale * x`.
    pub input_scale: f32,
    pub p_sample: f32,
    pub p_model: f32,
    /// `p` is clamped to +-clip.
    pub clip: Option<f32>,
    pub prev_p: f32,
    pub prev_sample: f32,
    pub prev_model: f32,
    pub prev_noise: f32,
    pub prev_before: [f32; 3],
    pub remembers: bool,
    pub denoised_p: f32,
    pub denoised_sample: f32,
    /// An image enters here as `noised_picture * picture + noised_noise * noise`.
    pub noised_picture: f32,
    pub noised_noise: f32,
    /// Whether noise is drawn from the generator after the model ran. Not the same as a `prev_noise`
    /// other than 0: some schedulers of diffusers draw noise that has no weight, and the draws that
    /// follow depend on it.
    pub draws_noise: bool,
}

impl Step {
    /// A step whose prediction is the image, where an image has these factors; the rest is still 0.
    fn at(timestep: f32, noised_picture: f64, noised_noise: f64) -> Step {
        Step {
            timestep,
            input_scale: 1.0,
            p_sample: 0.0,
            p_model: 0.0,
            clip: None,
            prev_p: 0.0,
            prev_sample: 0.0,
            prev_model: 0.0,
            prev_noise: 0.0,
            prev_before: [0.0; 3],
            remembers: false,
            denoised_p: 1.0,
            denoised_sample: 0.0,
            noised_picture: noised_picture as f32,
            noised_noise: noised_noise as f32,
            draws_noise: false,
        }
    }

    /// A step of a variance-preserving scheduler; `alpha` is `alphas_cumprod` at the timestep.
    fn preserving(timestep: f32, alpha: f64, prediction: Prediction) -> Step {
        let (p_sample, p_model) = prediction.picture(alpha);
        Step {
            p_sample: p_sample as f32,
            p_model: p_model as f32,
            ..Step::at(timestep, alpha.sqrt(), (1.0 - alpha).sqrt())
        }
    }

    fn is_finite(&self) -> bool {
        let factors = [
            [self.timestep, self.input_scale, self.p_sample, self.p_model],
            [self.prev_p, self.prev_sample, self.prev_model, self.prev_noise],
            [self.denoised_p, self.denoised_sample, self.noised_picture, self.noised_noise],
        ];
        factors.as_flattened().iter().chain(&self.prev_before).all(|factor| factor.is_finite())
    }

    /// The prediction for one element.
    pub fn p(&self, x: f32, m: f32) -> f32 {
        let p = self.p_sample * x + self.p_model * m;
        self.clip.map_or(p, |clip| p.clamp(-clip, clip))
    }

    /// The next sample for one element.
    pub fn prev(&self, p: f32, x: f32, m: f32, before: [f32; 3], noise: f32) -> f32 {
        let now = self.prev_p * p + self.prev_sample * x + self.prev_model * m + self.prev_noise * noise;
        self.prev_before.iter().zip(before).fold(now, |sum, (weight, b)| sum + weight * b)
    }

    /// What diffusers calls `pred_original_sample` or `denoised`, for one element.
    pub fn denoised(&self, p: f32, x: f32) -> f32 {
        self.denoised_p * p + self.denoised_sample * x
    }

    /// An image with noise, as it enters at this step.
    pub fn noised(&self, picture: &[f32], noise: &[f32]) -> Vec<f32> {
        picture.iter().zip(noise).map(|(p, n)| self.noised_picture * p + self.noised_noise * n).collect()
    }
}

/// All steps of a generation. After the last one the sample is the latents of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The first sample is this times unit normal noise.
    pub init_noise_sigma: f32,
    pub steps: Vec<Step>,
    /// Noise levels, `[steps + 1]`, for schedulers that are built on them (Euler, DPM-Solver, flows), whatever `begin`
    /// is; empty for others.
    pub sigmas: Vec<f32>,
}

impl Schedule {
    /// The schedule of `steps` denoising steps without the first `begin`, which an image that comes in later
    /// leaves out.
    ///
    /// # Errors
    /// `invalid-option` if the scheduler can't make so many steps (the message has the range),
    /// `unsupported` or `invalid-model` if the configuration asks for what is not built or makes no
    /// sense (the message names the file, the key and its value).
    pub fn new(config: &Config, steps: usize, begin: usize) -> Result<Schedule> {
        let class = config.class()?;
        let scheduler = find(class).ok_or_else(|| {
            let message = format!("scheduler {class:?} is not supported; supported are {}", supported());
            Error::unsupported(config.keys().place("_class_name", &message))
        })?;
        let schedule = (scheduler.schedule)(&config.keys(), steps, begin)?;
        match schedule.steps.iter().position(|step| !step.is_finite()) {
            None => Ok(schedule),
            Some(i) => {
                let (keys, what) = (config.keys(), "is not made of finite numbers");
                let message = format!("with these settings step {i} of {class} {what}");
                // A last timestep of noise alone has no image that a prediction of the noise could give.
                let key = if keys.flag(alphas::ZERO_SNR, false)? { alphas::ZERO_SNR } else { "_class_name" };
                Err(Error::model(keys.place(key, &message)))
            }
        }
    }
}

type Make = fn(&Keys, usize, usize) -> Result<Schedule>;

struct Scheduler {
    /// What a caller writes.
    name: &'static str,
    /// What `scheduler_config.json` says.
    class: &'static str,
    schedule: Make,
    /// The usual number of steps of consistency models, which take few and no guidance; none for other schedulers.
    consistency: Option<usize>,
    /// Whether it has a zero terminal signal-to-noise ratio where its file asks for that.
    zero_snr: bool,
}

impl Scheduler {
    const fn new(name: &'static str, class: &'static str, schedule: Make) -> Scheduler {
        Scheduler { name, class, schedule, consistency: None, zero_snr: true }
    }

    const fn consistency(self, steps: usize) -> Scheduler {
        Scheduler { consistency: Some(steps), ..self }
    }

    const fn without_zero_snr(self) -> Scheduler {
        Scheduler { zero_snr: false, ..self }
    }
}

/// The short names of all schedulers.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEDULERS.iter().map(|scheduler| scheduler.name)
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

/// What the model's output means.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Prediction {
    /// The noise in the sample.
    Epsilon,
    /// The velocity of Salimans and Ho, arXiv:2202.00512.
    Velocity,
    /// The image itself.
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

    /// The factors of the sample and of the model's output in the image, where the image has `alpha` of the
    /// variance.
    fn picture(self, alpha: f64) -> (f64, f64) {
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        match self {
            Prediction::Epsilon => (1.0 / signal, -noise / signal),
            Prediction::Velocity => (signal, -noise),
            Prediction::Sample => (0.0, 1.0),
        }
    }

    /// The factors of sample and model output in the noise (epsilon).
    fn epsilon(self, alpha: f64) -> (f64, f64) {
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        match self {
            Prediction::Epsilon => (0.0, 1.0),
            Prediction::Velocity => (noise, signal),
            Prediction::Sample => (1.0 / noise, -signal / noise),
        }
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

/// The bound of predictions, if there is one; `default` says whether there is when the file does not.
fn clip(keys: &Keys, default: bool) -> Result<Option<f32>> {
    if !keys.flag("clip_sample", default)? {
        return Ok(None);
    }
    let range = keys.number("clip_sample_range", 1.0)?;
    if range > 0.0 {
        return Ok(Some(range as f32));
    }
    let message = format!("{range} found where a positive number is wanted");
    Err(Error::model(keys.place("clip_sample_range", &message)))
}

#[cfg(test)]
mod tests;
