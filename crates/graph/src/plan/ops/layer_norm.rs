//! Layer norm over the channels of every row.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::weights::Handle;

/// `[.., C]`, C a multiple of four; the blob holds weight, then bias.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    pub weight: Handle,
    pub epsilon: f32,
    pub x: Tensor,
}

impl Operator for LayerNorm {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        Some((self.weight, u64::from(self.x.shape.c) * 8))
    }

    fn cost(&self, y: Tensor) -> Cost {
        uncounted(32 * y.shape.vec4s())
    }
}

pub fn layer_norm(r: &mut Recorder, weight: Handle, epsilon: f32, x: Tensor) -> Tensor {
    assert!(x.shape.c.is_multiple_of(4), "layer norm of {}", x.shape);
    let y = r.tensor(x.shape);
    r.record(LayerNorm { weight, epsilon, x }, y)
}
