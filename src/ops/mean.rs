//! Half the size, each pixel a mean of four.

use crate::kernels::{MeanParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};

/// `[N, H, W, C] -> [N, ceil(H / 2), ceil(W / 2), C]`; at an odd end, means of the pixels that are there.
pub fn mean(r: &mut Recorder, x: Tensor) -> Tensor {
    let mut shape = x.shape;
    (shape.h, shape.w) = (x.shape.h.div_ceil(2), x.shape.w.div_ceil(2));
    let y = r.tensor_of(shape, x.elem);
    let params =
        MeanParams { first: 0, images: shape.n, in_h: x.shape.h, in_w: x.shape.w, channels: shape.c4() };
    r.step(Step {
        variant: find("mean", y.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![x.into(), y.into()],
        threads: [params.channels, shape.rows()],
        cost: Cost { model_flops: 0, executed_flops: 4 * x.shape.vec4s() },
    });
    y
}
