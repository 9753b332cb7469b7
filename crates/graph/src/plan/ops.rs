//! Operations: what a plan is a list of, as plain data. A file an operation: its fields, its shape rule, its cost. How a
//! device computes one is that device's business.

mod add;
mod attention;
mod conv;
mod copy;
mod group_conv;
mod group_norm;
mod head_norm;
mod image;
mod layer_norm;
mod linear_attention;
mod matmul;
mod mean;
mod multiply_add;
mod patchify;
mod scale;
mod shortcut;
mod step;

pub use add::{Add, add};
pub use attention::{Attention, Bias, HIDDEN};
pub use conv::Conv;
pub use copy::{CopyTensor, Join, Slice, copy, join, slice};
pub use group_conv::GroupConv;
pub use group_norm::{GroupNorm, group_norm};
pub use head_norm::{HeadNorm, HeadWeight, Rotary};
pub use image::{Image, image};
pub use layer_norm::{LayerNorm, Modulation, NormKind, layer_norm};
pub use linear_attention::LinearAttention;
pub use matmul::Matmul;
pub use mean::{Mean, mean};
pub use multiply_add::{CHAINS, ROUNDS};
pub use multiply_add::{MultiplyAdd, multiply_add};
pub use patchify::{Patchify, patchify, unpatchify};
pub use scale::{Scale, scale};
pub use shortcut::{Shortcut, grow, shrink};
pub use step::{Step, step};

use crate::plan::{Cost, Tensor};
use crate::shape::Shape;
use crate::weights::{Handle, Weight};

/// What is known of every operation.
pub trait Operator {
    /// What it reads, beside weights.
    fn reads(&self) -> Vec<Tensor>;

    /// The blob that it reads, and its bytes.
    fn weight(&self) -> Option<(Handle, u64)> {
        None
    }

    /// What it changes in place, beside its output.
    fn changes(&self) -> Option<Tensor> {
        None
    }

    /// Where it counts what is wrong with the values that it reads, and which of those it looks at.
    fn watch(&self) -> Option<(Tensor, Vec<Tensor>)> {
        None
    }

    /// Its work, where this is its output.
    fn cost(&self, y: Tensor) -> Cost;
}

macro_rules! operations {
    ($($name:ident: $word:literal,)*) => {
        /// An operation with its operands.
        #[derive(Clone, Copy, Debug)]
        pub enum Op {
            $($name($name),)*
        }

        impl Op {
            /// The word that it is called by, in reports.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$name(_) => $word,)*
                }
            }
        }

        impl std::ops::Deref for Op {
            type Target = dyn Operator;

            fn deref(&self) -> &(dyn Operator + 'static) {
                match self {
                    $(Op::$name(op) => op,)*
                }
            }
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Op {
                Op::$name(op)
            }
        })*
    };
}

operations! {
    Add: "add",
    Attention: "attention",
    Conv: "conv",
    CopyTensor: "copy",
    GroupConv: "group_conv",
    GroupNorm: "group_norm",
    HeadNorm: "head_norm",
    Image: "image",
    Join: "join",
    LayerNorm: "layer_norm",
    LinearAttention: "linear_attention",
    Matmul: "matmul",
    Mean: "mean",
    MultiplyAdd: "multiply_add",
    Patchify: "patchify",
    Scale: "scale",
    Shortcut: "shortcut",
    Slice: "slice",
    Step: "step",
}

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
    Tanh = 8,
}

/// What a matrix product or convolution does with its result before storing it:
/// `act((result + add[image]) * gate[image] + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue {
    /// A vector an image, from this channel of the tensor on.
    pub add: Option<(Tensor, u32)>,
    /// A vector an image, likewise; there is this or that one.
    pub gate: Option<(Tensor, u32)>,
    pub residual: Option<Tensor>,
    pub activation: Activation,
}

impl Epilogue {
    /// Asserts that the shapes agree with the output's.
    fn check(&self, output: Shape) {
        assert!(self.add.is_none() || self.gate.is_none(), "one vector an image");
        if let Some((t, at)) = self.vector() {
            assert!(at % 4 == 0 && at + output.c <= t.shape.c, "add {}.. of {} to {output}", at, t.shape);
            assert!(t.shape.rows() == output.n, "add {} to {output}", t.shape);
        }
        if let Some(t) = self.residual {
            assert!(t.shape.vec4s() == output.vec4s(), "residual {} of {output}", t.shape);
        }
    }

    /// The vector of each image, whatever is done with it.
    pub fn vector(&self) -> Option<(Tensor, u32)> {
        self.add.or(self.gate)
    }

    /// Whether nothing but the bias is added.
    fn is_empty(&self) -> bool {
        self.vector().is_none() && self.residual.is_none() && self.activation == Activation::None
    }

    /// What a product of these inputs reads.
    fn reads(&self, x: Tensor, x2: Option<Tensor>) -> Vec<Tensor> {
        [Some(x), x2, self.vector().map(|(t, _)| t), self.residual].into_iter().flatten().collect()
    }
}

/// The blob of a product.
fn blob(weight: Weight) -> Option<(Handle, u64)> {
    Some((weight.handle, weight.matrix.bytes() as u64))
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

/// Work that is not a product: so many FLOPs that no model counts.
fn uncounted(executed_flops: u64) -> Cost {
    Cost { model_flops: 0, executed_flops }
}
