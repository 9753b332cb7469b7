//! From f32 latents or pixels into a network: `act(a x + b)`.

use super::Activation;
use crate::kernels::{ScaleParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::shape::Elem;

/// `x` is f32 `[N, H, W, C]`, `coefficients` f32 `[1, 1, 1, 4]` with a and b first. The result has `images`
/// pictures: x repeated when that is more than N.
pub fn scale(
    r: &mut Recorder,
    x: Tensor,
    coefficients: Tensor,
    images: u32,
    activation: Activation,
) -> Tensor {
    assert!(x.elem == Elem::F32 && coefficients.shape.vec4s() == 1);
    assert!(images.is_multiple_of(x.shape.n), "{} repeated to {images}", x.shape);
    let mut shape = x.shape;
    shape.n = images;
    let y = r.tensor(shape);
    let params = ScaleParams {
        first: 0,
        count: x.shape.vec4s() as u32,
        total: shape.vec4s() as u32,
        channels: x.shape.c4(),
        last: x.shape.c - 4 * (x.shape.c4() - 1),
        activation: activation as u32,
    };
    r.step(Step {
        variant: find("scale", y.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![x.into(), coefficients.into(), y.into()],
        threads: [1, params.total],
        cost: Cost { model_flops: 0, executed_flops: 8 * shape.vec4s() },
    });
    y
}
