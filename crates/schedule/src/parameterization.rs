//! Networks that are told and that give something else than their schedulers are written for.

use super::{Schedule, Step};

/// What a network is told at a timestep of the scheduler, and what its output means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameterization {
    /// What the network is told in place of the scheduler's timestep.
    pub timestep: f32,
    /// The network sees this times what the scheduler shows it.
    pub input_scale: f32,
    /// The output that the scheduler takes is `sample * x + output * m`, where `x` is the sample, before it is scaled, and `m`
    /// what the network gives.
    pub sample: f64,
    pub output: f64,
}

impl Parameterization {
    /// Networks that were trained on a straight flow and distilled on the circle of `SCMScheduler`, whose timesteps are
    /// angles: SANA-Sprint, Chen et al., arXiv:2503.09641, section 3.1, and the denoising loop of diffusers'
    /// `pipeline_sana_sprint.py`.
    ///
    /// An angle `t` is the time `s = sin t / (cos t + sin t)` of the flow, from 0 to 1, which the network is told. It sees `x
    /// sqrt(s^2 + (1 - s)^2)`, and the velocity on the circle is `((1 - 2 s) of what it sees + (1 - 2 s + 2 s^2) of what it
    /// gives) / sqrt(s^2 + (1 - s)^2)`. With `cos t` and `sin t` in place of `s` the root is `1 / (cos t + sin t)`, the term
    /// `1 - 2 s + 2 s^2` is its square, and nothing is left that nearly cancels.
    pub fn trigflow(angle: f32) -> Parameterization {
        let (sin, cos) = f64::from(angle).sin_cos();
        let root = 1.0 / (cos + sin);
        Parameterization {
            timestep: (sin * root) as f32,
            input_scale: root as f32,
            sample: (cos - sin) * root,
            output: root,
        }
    }

    /// Networks of flows that count from noise to image and give the direction from the noise: Z-Image, as in diffusers'
    /// `pipeline_z_image.py`. The network is told a time from 0 to 1.
    pub fn reversed(timestep: f32) -> Parameterization {
        // Not `num_train_timesteps`: the pipeline has this number.
        const NOISE: f64 = 1000.0;
        let timestep = ((NOISE - f64::from(timestep)) / NOISE) as f32;
        Parameterization { timestep, input_scale: 1.0, sample: 0.0, output: -1.0 }
    }
}

impl Step {
    /// This step for what another network gives.
    pub fn for_network(&self, network: &Parameterization) -> Step {
        // A factor of the scheduler's model output is one of the sample and one of the network's output.
        let with_sample =
            |sample: f32, model: f32| (f64::from(sample) + f64::from(model) * network.sample) as f32;
        let with_output = |model: f32| (f64::from(model) * network.output) as f32;
        Step {
            timestep: network.timestep,
            input_scale: self.input_scale * network.input_scale,
            p_sample: with_sample(self.p_sample, self.p_model),
            p_model: with_output(self.p_model),
            prev_sample: with_sample(self.prev_sample, self.prev_model),
            prev_model: with_output(self.prev_model),
            ..*self
        }
    }
}

impl Schedule {
    /// This schedule for a network whose [`Parameterization`] is a function of the scheduler's timestep:
    /// `schedule.for_network(Parameterization::trigflow)`.
    pub fn for_network(mut self, network: impl Fn(f32) -> Parameterization) -> Schedule {
        self.steps.iter_mut().for_each(|step| *step = step.for_network(&network(step.timestep)));
        self
    }
}
