//! Chains of multiply-adds, for measuring how fast a device computes.

use crate::kernels::{MultiplyAddParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};

/// Chains of each value, and multiply-adds of each chain.
pub(crate) const CHAINS: u32 = 8;
pub(crate) const ROUNDS: u32 = 128;

/// `x` is f32 or f16, which is also the arithmetic.
pub fn multiply_add(r: &mut Recorder, x: Tensor) -> Tensor {
    let y = r.tensor_of(x.shape, x.elem);
    let (rows, values) = (x.shape.n * x.shape.h, x.shape.w * x.shape.c4());
    let flops = x.shape.vec4s() * 4 * u64::from(2 * CHAINS * ROUNDS);
    r.step(Step {
        variant: find("multiply_add", x.elem.as_str()),
        params: bytemuck::bytes_of(&MultiplyAddParams { first: 0, rows, values }).to_vec(),
        bindings: vec![x.into(), y.into()],
        threads: [values, rows],
        cost: Cost { model_flops: flops, executed_flops: flops },
    });
    y
}
