//! One step of a scheduler on the latents, in place.

use super::GUIDED;
use crate::kernels::{StepParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::shape::Elem;

/// `sample`, `clean` (the predicted original, which the next step may want) and `noise` are f32
/// `[N, h, w, C]`; `model` is `[N, h, w, C]`, or `[2N, h, w, C]` under guidance: without the prompt first.
/// `coefficients` is f32 `[1, 1, 2, 4]`: a, b, clip, guidance scale; c, d, e, f (see the kernel).
pub fn step(
    r: &mut Recorder,
    coefficients: Tensor,
    model: Tensor,
    noise: Tensor,
    sample: Tensor,
    clean: Tensor,
) {
    let count = sample.shape.fours();
    assert!([sample, clean, noise, coefficients].iter().all(|t| t.elem == Elem::F32));
    assert!(clean.shape == sample.shape && noise.shape == sample.shape && coefficients.shape.fours() == 2);
    let guided = model.shape.fours() == 2 * count;
    assert!(guided || model.shape.fours() == count, "{} for {}", model.shape, sample.shape);
    let params = StepParams { first: 0, count: count as u32, flags: if guided { GUIDED } else { 0 } };
    r.step(Step {
        variant: find("step", model.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![coefficients.into(), model.into(), noise.into(), sample.into(), clean.into()],
        threads: [1, params.count],
        cost: Cost { model_flops: 0, executed_flops: 40 * count },
    });
}
