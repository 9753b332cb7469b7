//! One step of a scheduler on the latents, in place.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Elem;

/// `sample` and `noise` are f32 `[N, h, w, C]`. `model` is `[N, h, w, C]`, or `[2N, h, w, C]` under guidance: without the
/// prompt first. `coefficients` is f32 `[1, 1, 3, 4]` (see the kernel). The output is f32 `[4 * N, h, w, C]`: the latest
/// prediction and three from before, which the step reads and moves.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub coefficients: Tensor,
    pub model: Tensor,
    pub noise: Tensor,
    pub sample: Tensor,
    /// Counters of what is wrong with `model`.
    pub counters: Tensor,
}

impl Step {
    /// Whether the model's output is one of two prompts.
    pub fn guided(&self) -> bool {
        self.model.shape.vec4s() == 2 * self.sample.shape.vec4s()
    }
}

impl Operator for Step {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.coefficients, self.model, self.noise]
    }

    fn changes(&self) -> Option<Tensor> {
        Some(self.sample)
    }

    fn watch(&self) -> Option<(Tensor, Vec<Tensor>)> {
        Some((self.counters, vec![self.model]))
    }

    fn cost(&self, _: Tensor) -> Cost {
        uncounted(68 * self.sample.shape.vec4s())
    }
}

pub fn step(
    r: &mut Recorder,
    coefficients: Tensor,
    model: Tensor,
    noise: Tensor,
    sample: Tensor,
    predictions: Tensor,
) {
    let count = sample.shape.vec4s();
    assert!([sample, predictions, noise, coefficients].iter().all(|t| t.elem == Elem::F32));
    assert!(noise.shape == sample.shape && coefficients.shape.vec4s() == 3);
    assert!(predictions.shape.vec4s() == 4 * count, "{} for {}", predictions.shape, sample.shape);
    let counters = r.watch();
    let step = Step { coefficients, model, noise, sample, counters };
    assert!(step.guided() || model.shape.vec4s() == count, "{} for {}", model.shape, sample.shape);
    r.record(step, predictions);
}
