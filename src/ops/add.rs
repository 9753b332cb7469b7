//! A scaled sum: `a + k b`.

use crate::kernels::{AddParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::shape::{Elem, Shape};

/// `a` is `[N, H, W, C]`, `b` the same or one picture for all N. `scales` is f32 `[N, 1, slots, 4]`, k the
/// first number of each picture's `slot`.
pub fn add(r: &mut Recorder, scales: Tensor, slot: u32, a: Tensor, b: Tensor) -> Tensor {
    let (shape, s) = (a.shape, scales.shape);
    assert!(scales.elem == Elem::F32 && s.n == shape.n && s.h == 1 && s.c == 4, "scales {s} for {shape}");
    assert!(slot < s.w, "slot {slot} of {s}");
    assert!(b.shape == shape || b.shape == Shape { n: 1, ..shape }, "{} added to {shape}", b.shape);
    assert!(a.elem == b.elem);
    let y = r.tensor_of(shape, a.elem);
    let total = shape.vec4s() as u32;
    let params = AddParams {
        first: 0,
        total,
        image: total / shape.n,
        count: b.shape.vec4s() as u32,
        slots: scales.shape.w,
        slot,
    };
    r.step(Step {
        variant: find("add", y.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![scales.into(), a.into(), b.into(), y.into()],
        threads: [1, total],
        cost: Cost { model_flops: 0, executed_flops: 8 * shape.vec4s() },
    });
    y
}
