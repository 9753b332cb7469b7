//! From f32 latents or pixels into a network: `act(a x + b)`.

use super::{Activation, Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Elem;

/// `x` is f32 `[N, H, W, C]`, `coefficients` f32 `[1, 1, 1, 4]` with a and b first. The output may have more images: x
/// repeated.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub x: Tensor,
    pub coefficients: Tensor,
    pub activation: Activation,
}

impl Operator for Scale {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x, self.coefficients]
    }

    fn cost(&self, y: Tensor) -> Cost {
        uncounted(8 * y.shape.vec4s())
    }
}

/// The result has `images` images.
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
    r.record(Scale { x, coefficients, activation }, y)
}
