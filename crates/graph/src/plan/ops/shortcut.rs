//! What goes around a change of height, width and channels (Chen et al., arXiv:2410.10733): a fixed one, without weights.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Shape;

/// Squares of pixels side by side on channels, in the order channel, row, column; then, of channels that follow one another,
/// means. Or back: channels repeated in their place, then squares of pixels.
#[derive(Clone, Copy, Debug)]
pub struct Shortcut {
    pub x: Tensor,
    /// Pixels of a square along one side.
    pub size: u32,
    /// From squares to pixels.
    pub back: bool,
    /// Channels of a mean, or copies of each.
    pub ratio: u32,
}

impl Operator for Shortcut {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn cost(&self, y: Tensor) -> Cost {
        uncounted(if self.back { 0 } else { 4 * y.shape.vec4s() * u64::from(self.ratio) })
    }
}

/// `[N, H, W, C] -> [N, H / size, W / size, channels]`: means of `size size C / channels`.
pub fn shrink(r: &mut Recorder, x: Tensor, size: u32, channels: u32) -> Tensor {
    let Shape { n, h, w, c } = x.shape;
    let all = size * size * c;
    assert!(h.is_multiple_of(size) && w.is_multiple_of(size), "squares of {}", x.shape);
    assert!(
        c.is_multiple_of(4) && channels.is_multiple_of(4) && all.is_multiple_of(channels),
        "{c} to {channels}"
    );
    let y = r.tensor_of(Shape::new(n, h / size, w / size, channels), x.elem);
    r.record(Shortcut { x, size, back: false, ratio: all / channels }, y)
}

/// `[N, h, w, C] -> [N, h size, w size, channels]`: each repeated `size size channels / C` times.
pub fn grow(r: &mut Recorder, x: Tensor, size: u32, channels: u32) -> Tensor {
    let Shape { n, h, w, c } = x.shape;
    let all = size * size * channels;
    assert!(c.is_multiple_of(4) && channels.is_multiple_of(4) && all.is_multiple_of(c), "{c} to {channels}");
    let y = r.tensor_of(Shape::new(n, h * size, w * size, channels), x.elem);
    r.record(Shortcut { x, size, back: true, ratio: all / c }, y)
}
