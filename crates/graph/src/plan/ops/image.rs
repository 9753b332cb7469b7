//! The image: rgba8 from a decoder's output.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::{Elem, Shape};

/// `x` is `[N, H, W, 3]` in [-1, 1]. The result holds one u32 a pixel, red lowest; its shape counts
/// four pixels as one element.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub x: Tensor,
    /// Counters of what is wrong with `x`.
    pub counters: Tensor,
}

impl Operator for Image {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn watch(&self) -> Option<(Tensor, Vec<Tensor>)> {
        Some((self.counters, self.reads()))
    }

    fn cost(&self, _: Tensor) -> Cost {
        uncounted(12 * self.x.shape.vec4s())
    }
}

pub fn image(r: &mut Recorder, x: Tensor) -> Tensor {
    assert!(x.shape.c == 3, "an image of {}", x.shape);
    let y = r.tensor_of(Shape::new(1, 1, 1, x.shape.rows()), Elem::F32);
    let counters = r.watch();
    r.record(Image { x, counters }, y)
}
