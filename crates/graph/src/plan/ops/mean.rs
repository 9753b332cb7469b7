//! Half the size, each pixel a mean of four.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};

/// `[N, H, W, C] -> [N, ceil(H / 2), ceil(W / 2), C]`; at an odd end, means of the pixels that are there.
#[derive(Clone, Copy, Debug)]
pub struct Mean {
    pub x: Tensor,
}

impl Operator for Mean {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn cost(&self, _: Tensor) -> Cost {
        uncounted(4 * self.x.shape.vec4s())
    }
}

pub fn mean(r: &mut Recorder, x: Tensor) -> Tensor {
    let mut shape = x.shape;
    (shape.h, shape.w) = (x.shape.h.div_ceil(2), x.shape.w.div_ceil(2));
    let y = r.tensor_of(shape, x.elem);
    r.record(Mean { x }, y)
}
