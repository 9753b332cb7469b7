//! Chains of multiply-adds, for measuring how fast a device computes.

use super::Operator;
use crate::plan::{Cost, Recorder, Tensor};

/// Chains of each value, and multiply-adds of each chain.
pub const CHAINS: u32 = 8;
pub const ROUNDS: u32 = 128;

/// `x` is f32 or f16, which is also the arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct MultiplyAdd {
    pub x: Tensor,
}

impl Operator for MultiplyAdd {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn cost(&self, _: Tensor) -> Cost {
        let flops = self.x.shape.vec4s() * 4 * u64::from(2 * CHAINS * ROUNDS);
        Cost { model_flops: flops, executed_flops: flops }
    }
}

pub fn multiply_add(r: &mut Recorder, x: Tensor) -> Tensor {
    let y = r.tensor_of(x.shape, x.elem);
    r.record(MultiplyAdd { x }, y)
}
