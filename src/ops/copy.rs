//! A copy, for measuring how fast a device moves memory.

use crate::kernels::{CopyParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};

pub fn copy(r: &mut Recorder, x: Tensor) -> Tensor {
    let y = r.tensor_of(x.shape, x.elem);
    let (rows, values) = (x.shape.n * x.shape.h, x.shape.w * x.shape.c4());
    r.step(Step {
        variant: find("copy", x.elem.as_str()),
        params: bytemuck::bytes_of(&CopyParams { first: 0, rows, values }).to_vec(),
        bindings: vec![x.into(), y.into()],
        threads: [values, rows],
        cost: Cost::default(),
    });
    y
}
