//! DPM-Solver++ in its multistep form, plain and stochastic: Lu et al., arXiv:2211.01095. diffusers'
//! `DPMSolverMultistepScheduler` ("DPM++ 2M", with Karras' levels and as SDE).

use super::alphas::Terminal;
use super::config::Keys;
use super::euler::sigmas;
use super::spacing::{Spacing, karras, linspace, timestep_of, trailing};
use super::{Prediction, Schedule, Step, alphas, check_steps};
use crate::error::{Error, Result};

pub(super) fn schedule(keys: &Keys, steps: usize, begin: usize) -> Result<Schedule> {
    for key in [
        "thresholding",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
        "use_flow_sigmas",
        "use_dynamic_shifting",
    ] {
        keys.must_be_off(key)?;
    }
    // Others are DDPM's, whose configurations serve here too: only these say that the model has more outputs.
    if let Some(learned) = keys.word("variance_type").filter(|word| word.starts_with("learned")) {
        let message = format!("{learned:?} is not supported, only models that do not predict their variance");
        return Err(Error::unsupported(keys.place("variance_type", &message)));
    }
    let prediction = Prediction::from_keys(keys)?;
    // Configurations of DEIS and UniPC serve too: diffusers takes their words for its own usual ones.
    let algorithms = [("dpmsolver++", false), ("sde-dpmsolver++", true), ("deis", false)];
    let stochastic = keys.choice("algorithm_type", "dpmsolver++", &algorithms)?;
    let solvers = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
    let heun = keys.choice("solver_type", "midpoint", &solvers)?;
    let second_order = keys.order("solver_order", 2)? == 2;
    let ends_at_zero = keys.choice("final_sigmas_type", "zero", &[("zero", true), ("sigma_min", false)])?;
    // The last step is of first order: near the end the second one is unstable with few steps.
    let plain_end = ends_at_zero
        || keys.flag("euler_at_final", false)?
        || (keys.flag("lower_order_final", true)? && steps < 15);

    let levels = Levels::from_keys(keys, steps)?;
    let mut all = levels.sigmas;
    all.push(if ends_at_zero { 0.0 } else { levels.smallest });
    let count = all.len() - 1;
    let steps = (begin..count).map(|i| {
        let before = (second_order && i > begin && !(plain_end && i + 1 == count)).then(|| all[i - 1].into());
        let solver = Solver { sigma: all[i].into(), next: all[i + 1].into(), before, stochastic, heun };
        solver.step(levels.timesteps[i], prediction)
    });
    Ok(Schedule { init_noise_sigma: 1.0, steps: steps.collect(), sigmas: all.clone() })
}

struct Levels {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    /// Of the training table.
    smallest: f32,
}

impl Levels {
    fn from_keys(keys: &Keys, steps: usize) -> Result<Levels> {
        let alphas = alphas::from_keys(keys, &alphas::Defaults::new(Terminal::Nearly))?;
        let train = alphas.len();
        check_steps(keys, steps, "num_train_timesteps", train - 1)?;
        let table = sigmas(&alphas);
        let smallest = table[0];
        if keys.flag("use_karras_sigmas", false)? {
            let sigmas = karras(smallest.into(), table[train - 1].into(), steps);
            let timesteps = sigmas.iter().map(|&s| timestep_of(s, &table).round_ties_even() as f32).collect();
            return Ok(Levels { timesteps, sigmas: sigmas.iter().map(|&s| s as f32).collect(), smallest });
        }
        // Cosine schedules end in levels that are too high to be solved from; their files name a bound.
        let bound = keys.number("lambda_min_clipped", f64::NEG_INFINITY)?;
        let last = table.iter().filter(|&&s| -f64::from(s).ln() >= bound).count().max(1);
        let offset = keys.integer("steps_offset", 0)?;
        let timesteps: Vec<f32> = match Spacing::from_keys(keys, "linspace")? {
            Spacing::Linspace => {
                linspace(last, steps + 1)[1..].iter().rev().map(|t| t.round_ties_even() as f32).collect()
            }
            Spacing::Leading => {
                let stride = last / (steps + 1);
                (1..=steps).rev().map(|i| (i * stride) as f32 + offset as f32).collect()
            }
            Spacing::Trailing => trailing(last, train, steps),
        };
        let sigmas = timesteps.iter().map(|&t| super::euler::interpolate(&table, t)).collect();
        Ok(Levels { timesteps, sigmas, smallest })
    }
}

/// One step from level `sigma` to `next`; of second order if the level `before` is known.
struct Solver {
    sigma: f64,
    next: f64,
    before: Option<f64>,
    stochastic: bool,
    heun: bool,
}

impl Solver {
    fn step(&self, timestep: f32, prediction: Prediction) -> Step {
        // The sample is `alpha` times the image plus `deviation` times noise.
        let split = |sigma: f64| {
            let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
            (alpha, sigma * alpha)
        };
        let ((alpha, deviation), (next_alpha, next_deviation)) = (split(self.sigma), split(self.next));
        // h is the step in lambda = ln(alpha / deviation); e to the -h, which is 0 at the end.
        let shrink = self.next / self.sigma;
        let h = -shrink.ln();
        let share = if self.stochastic { 1.0 - shrink * shrink } else { 1.0 - shrink };
        let (kept, noise) = if self.stochastic {
            (next_deviation / deviation * shrink, next_deviation * share.sqrt())
        } else {
            (next_deviation / deviation, 0.0)
        };
        let first = next_alpha * share;
        // The weight of the difference between two predictions, over the ratio of their distances.
        let second = self.before.map_or(0.0, |before| {
            let ratio = (before / self.sigma).ln() / h;
            let slope = match (self.heun, self.stochastic) {
                (false, _) => 0.5 * first,
                (true, false) => next_alpha * (1.0 - share / h),
                (true, true) => next_alpha * (1.0 - share / (2.0 * h)),
            };
            slope / ratio
        });
        Step {
            prev_p: (first + second) as f32,
            prev_sample: kept as f32,
            prev_before: [-second as f32, 0.0, 0.0],
            prev_noise: noise as f32,
            remembers: self.before.is_some(),
            draws_noise: self.stochastic,
            ..Step::preserving(timestep, alpha * alpha, prediction)
        }
    }
}
