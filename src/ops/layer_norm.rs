//! Layer norm over the channels of every row.

use crate::kernels::{LayerNormParams, find};
use crate::plan::{Binding, Cost, Recorder, Step, Tensor};
use crate::weights::Handle;

pub fn layer_norm(r: &mut Recorder, weight: Handle, epsilon: f32, x: Tensor) -> Tensor {
    let shape = x.shape;
    assert!(shape.c.is_multiple_of(4), "layer norm of {shape}");
    let y = r.tensor(shape);
    let params =
        LayerNormParams { first: 0, rows: shape.rows(), channels: shape.c4(), width: shape.c, epsilon };
    r.step(Step {
        variant: find("layer_norm", x.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![x.into(), Binding::Weight(weight, u64::from(shape.c) * 8), y.into()],
        threads: [1, shape.rows()],
        cost: Cost { model_flops: 0, executed_flops: 32 * shape.vec4s() },
    });
    y
}
