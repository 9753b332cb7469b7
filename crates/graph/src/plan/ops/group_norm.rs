//! Group norm, with an activation behind it.

use super::{Activation, Operator, joined};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Handle;

/// Pixels of one slab at least, and slabs of one image at most: enough threads for a small image,
/// few enough partial results for a large one.
const SLAB: u32 = 64;
const SLABS: u32 = 64;

/// `act(group_norm(x))` over `groups` groups of channels, of `x` or of `x` and `x2` side by side. Statistics are of slabs
/// of pixels first, then of all: on every device, since sums of millions of values lose more.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    pub weight: Handle,
    pub groups: u32,
    pub epsilon: f32,
    pub x: Tensor,
    pub x2: Option<Tensor>,
    pub activation: Activation,
    /// Counters of what is wrong with `x` and `x2`.
    pub counters: Tensor,
}

impl GroupNorm {
    /// Of both inputs side by side.
    pub fn shape(&self) -> Shape {
        joined(self.x, self.x2)
    }

    /// Pixels of a slab, the last one may have fewer; and slabs of an image.
    pub fn slabs(&self) -> [u32; 2] {
        let pixels = self.x.shape.pixels();
        let slab = pixels.div_ceil(SLABS).max(SLAB);
        [slab, pixels.div_ceil(slab)]
    }

    /// FLOPs of statistics, of what becomes of them, and of applying that.
    pub fn flops(&self) -> [u64; 3] {
        let (shape, [_, slabs]) = (self.shape(), self.slabs());
        let group = u64::from(shape.c / self.groups);
        let values = 16 * shape.vec4s();
        [values, 8 * u64::from(shape.n * slabs) * group * u64::from(shape.c), values]
    }
}

impl Operator for GroupNorm {
    fn reads(&self) -> Vec<Tensor> {
        [Some(self.x), self.x2].into_iter().flatten().collect()
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        Some((self.weight, u64::from(self.shape().c) * 8))
    }

    fn watch(&self) -> Option<(Tensor, Vec<Tensor>)> {
        Some((self.counters, self.reads()))
    }

    fn cost(&self, _: Tensor) -> Cost {
        Cost { model_flops: 0, executed_flops: self.flops().iter().sum() }
    }
}

pub fn group_norm(
    r: &mut Recorder,
    (weight, groups, epsilon): (Handle, u32, f32),
    x: Tensor,
    x2: Option<Tensor>,
    activation: Activation,
) -> Tensor {
    let counters = r.watch();
    let norm = GroupNorm { weight, groups, epsilon, x, x2, activation, counters };
    let shape = norm.shape();
    assert!(shape.c.is_multiple_of(groups) && shape.c.is_multiple_of(4), "{groups} groups of {shape}");
    let y = r.tensor(shape);
    r.record(norm, y)
}
