//! A scaled sum: `a + k b`.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::{Elem, Shape};

/// `a` is `[N, H, W, C]`, `b` the same or one image for all N. `scales` is f32 `[N, 1, slots, 4]`, k the
/// first number of each image's `slot`.
#[derive(Clone, Copy, Debug)]
pub struct Add {
    pub scales: Tensor,
    pub slot: u32,
    pub a: Tensor,
    pub b: Tensor,
}

impl Operator for Add {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.scales, self.a, self.b]
    }

    fn cost(&self, y: Tensor) -> Cost {
        uncounted(8 * y.shape.vec4s())
    }
}

pub fn add(r: &mut Recorder, scales: Tensor, slot: u32, a: Tensor, b: Tensor) -> Tensor {
    let (shape, s) = (a.shape, scales.shape);
    assert!(scales.elem == Elem::F32 && s.n == shape.n && s.h == 1 && s.c == 4, "scales {s} for {shape}");
    assert!(slot < s.w, "slot {slot} of {s}");
    assert!(b.shape == shape || b.shape == Shape { n: 1, ..shape }, "{} added to {shape}", b.shape);
    assert!(a.elem == b.elem);
    let y = r.tensor_of(shape, a.elem);
    r.record(Add { scales, slot, a, b }, y)
}
