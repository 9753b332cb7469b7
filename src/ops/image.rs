//! The picture: rgba8 from a decoder's output.

use crate::kernels::{ImageParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::shape::{Elem, Shape};

/// `x` is `[N, H, W, 3]` in [-1, 1]. The result holds one u32 a pixel, red lowest; its shape counts
/// four pixels as one element.
pub fn image(r: &mut Recorder, x: Tensor) -> Tensor {
    assert!(x.shape.c == 3, "a picture of {}", x.shape);
    let y = r.tensor_of(Shape::new(1, 1, 1, x.shape.rows()), Elem::F32);
    let watch = r.watch();
    let params = ImageParams { first: 0, pixels: x.shape.rows() };
    r.step(Step {
        variant: find("image", x.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![x.into(), watch.into(), y.into()],
        threads: [1, x.shape.rows()],
        cost: Cost { model_flops: 0, executed_flops: 12 * x.shape.vec4s() },
    });
    y
}
