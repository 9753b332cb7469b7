//! One step of a scheduler on the latents, in place.

use super::GUIDED;
use crate::kernels::{StepParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::shape::Elem;

/// `sample` and `noise` are f32 `[N, h, w, C]`, `predictions` f32 `[4 * N, h, w, C]`: the latest one and three
/// from before. `model` is `[N, h, w, C]`, or `[2N, h, w, C]` under guidance: without the prompt first.
/// `coefficients` is f32 `[1, 1, 3, 4]` (see the kernel).
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
    let guided = model.shape.vec4s() == 2 * count;
    assert!(guided || model.shape.vec4s() == count, "{} for {}", model.shape, sample.shape);
    let watch = r.watch();
    let params = StepParams { first: 0, count: count as u32, flags: if guided { GUIDED } else { 0 } };
    r.step(Step {
        variant: find("step", model.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![
            coefficients.into(),
            model.into(),
            noise.into(),
            watch.into(),
            sample.into(),
            predictions.into(),
        ],
        threads: [1, params.count],
        cost: Cost { model_flops: 0, executed_flops: 68 * count },
    });
}
