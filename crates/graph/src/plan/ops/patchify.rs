//! Squares of pixels side by side on channels, and back: what transformers see of latents.

use super::Operator;
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Shape;

/// `[N, H, W, C]` to `[N, H / p, W / p, p p C]`, channels in the order row, column, channel; or back.
#[derive(Clone, Copy, Debug)]
pub struct Patchify {
    pub x: Tensor,
    /// Pixels of a square along one side.
    pub size: u32,
    /// From squares to pixels.
    pub back: bool,
}

impl Operator for Patchify {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn cost(&self, _: Tensor) -> Cost {
        Cost::default()
    }
}

/// `[N, H, W, C] -> [N, H / size, W / size, size size C]`; C is a multiple of four.
pub fn patchify(r: &mut Recorder, x: Tensor, size: u32) -> Tensor {
    let Shape { n, h, w, c } = x.shape;
    assert!(
        c.is_multiple_of(4) && h.is_multiple_of(size) && w.is_multiple_of(size),
        "squares of {}",
        x.shape
    );
    let y = r.tensor_of(Shape::new(n, h / size, w / size, size * size * c), x.elem);
    r.record(Patchify { x, size, back: false }, y)
}

/// `[N, h, w, size size C] -> [N, h size, w size, C]`; C is a multiple of four.
pub fn unpatchify(r: &mut Recorder, x: Tensor, size: u32) -> Tensor {
    let Shape { n, h, w, c } = x.shape;
    assert!(c.is_multiple_of(4 * size * size), "pixels of {}", x.shape);
    let y = r.tensor_of(Shape::new(n, h * size, w * size, c / (size * size)), x.elem);
    r.record(Patchify { x, size, back: true }, y)
}
