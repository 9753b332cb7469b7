//! Operations: from shapes to one step of a plan each. A file an operation, named like its kernel.

mod add;
mod attention;
mod conv;
mod copy;
mod group_norm;
mod image;
mod layer_norm;
mod matmul;
mod mean;
mod multiply_add;
mod scale;
mod step;

pub use add::add;
pub use attention::Attention;
pub use conv::Conv;
pub use copy::{copy, join};
pub use group_norm::group_norm;
pub use image::image;
pub use layer_norm::layer_norm;
pub use matmul::Matmul;
pub use mean::mean;
pub use multiply_add::multiply_add;
pub(crate) use multiply_add::{CHAINS, ROUNDS};
pub use scale::scale;
pub use step::step;

use crate::plan::{Binding, Tensor};
use crate::shape::Shape;
use crate::weights::Weight;

/// Applied to four channels at a time by `kernels/lib/activation.wgsl`, which has the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    #[default]
    None = 0,
    Silu = 1,
    /// The exact one, with erf.
    Gelu = 2,
    /// x * sigmoid(1.702 x)
    QuickGelu = 3,
    Relu = 4,
    /// 3 tanh(x / 3), the soft clamp before AutoencoderTiny's decoder.
    SoftClamp = 5,
    /// 2x - 1, from [0, 1] to [-1, 1].
    Signed = 6,
    /// The approximation with tanh (T5, MMDiT).
    GeluTanh = 7,
}

/// What a matrix product or convolution does with its result before storing it:
/// `act(result + add[image] + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue {
    /// A vector a picture, from this channel of the tensor on.
    pub add: Option<(Tensor, u32)>,
    pub residual: Option<Tensor>,
    pub activation: Activation,
}

/// Flags of kernels, as their WGSL has them.
pub(crate) const ADD: u32 = 1;
pub(crate) const RESIDUAL: u32 = 2;
pub(crate) const GEGLU: u32 = 4;
pub(crate) const CAUSAL: u32 = 1;
pub(crate) const GUIDED: u32 = 1;

impl Epilogue {
    /// The kernel's flags; asserts that the shapes agree with the output's.
    fn flags(&self, output: Shape) -> u32 {
        let mut flags = 0;
        if let Some((t, at)) = self.add {
            assert!(at % 4 == 0 && at + output.c <= t.shape.c, "add {}.. of {} to {output}", at, t.shape);
            assert!(t.shape.rows() == output.n, "add {} to {output}", t.shape);
            flags |= ADD;
        }
        if let Some(t) = self.residual {
            assert!(t.shape.vec4s() == output.vec4s(), "residual {} of {output}", t.shape);
            flags |= RESIDUAL;
        }
        flags
    }

    /// The bindings of a product, as its kernels have them.
    fn bindings(&self, x: [Option<Tensor>; 2], weight: Weight, y: Tensor) -> Vec<Binding> {
        let [x1, x2] = x.map(Binding::from);
        let blob = Binding::Weight(weight.handle, weight.matrix.bytes() as u64);
        vec![x1, x2, blob, self.add.map(|(t, _)| t).into(), self.residual.into(), y.into()]
    }

    /// (start, stride) of `add` in vec4s.
    fn add_layout(&self) -> (u32, u32) {
        self.add.map_or((0, 0), |(t, at)| (at / 4, t.shape.c4()))
    }
}

/// Inputs side by side on channels; the first one's width must be a multiple of four.
fn joined(x1: Tensor, x2: Option<Tensor>) -> Shape {
    let Some(x2) = x2 else { return x1.shape };
    assert!(x1.shape.c.is_multiple_of(4), "{} before another input", x1.shape);
    assert!(x1.shape.with_c(0) == x2.shape.with_c(0), "{} beside {}", x1.shape, x2.shape);
    x1.shape.with_c(x1.shape.c + x2.shape.c)
}

/// FLOPs of a product with `weights` multiply-adds for each of `rows`.
fn product_flops(rows: u32, weights: u64) -> u64 {
    2 * u64::from(rows) * weights
}
