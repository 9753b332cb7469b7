//! What diffusion transformers are made of: embeddings of timesteps and patches, attention over two streams, feed-forward
//! layers. Their blocks are modulated: scales, shifts and gates come from the timestep (Peebles and Xie, arXiv:2212.09748).

mod attention;
mod embeddings;
mod feed_forward;
mod gated_conv;
pub mod rotary;
mod shared_modulation;
mod streams;
mod text_mask;

pub use attention::{First, JointAttention, SelfAttention, Single, qkv};
pub use embeddings::{PatchEmbed, Positions, TwoLinears, grid};
pub use feed_forward::FeedForward;
pub use gated_conv::GatedConv;
pub use shared_modulation::SharedModulation;
pub use streams::{JointBlock, Streams};
pub use text_mask::{text_mask, text_mask_values};

use crate::plan::ops::{self, Modulation, NormKind};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::unet::timestep_embedding;

/// Numbers that a timestep becomes, or a guidance scale.
pub const FEATURES: u32 = 256;

/// The features of a timestep, cosines first, `[FEATURES]`.
pub fn features(timestep: f32) -> Vec<f32> {
    timestep_embedding(timestep, FEATURES as usize, true, 0.0)
}

/// The first channels of `x`, a whole part of all: noise in front of a variance that nothing uses.
pub fn first_channels(r: &mut Recorder, x: Tensor, channels: u32) -> Tensor {
    let shape = x.shape;
    if shape.c == channels {
        return x;
    }
    let parts = x.viewed(Shape::tokens(shape.rows(), shape.c / channels, channels));
    ops::slice(r, parts, 0, 1).viewed(shape.with_c(channels))
}

/// Of layer norms in blocks, which have no weights of their own.
pub const EPSILON: f32 = 1e-6;

/// Places of vectors in the modulation of a block: each is as wide as the block.
#[derive(Clone, Copy, Debug)]
pub struct Modulated {
    /// `[N, 1, 1, ..]`.
    pub vectors: Tensor,
    pub width: u32,
}

impl Modulated {
    /// The vector of this number, for a gate.
    pub fn vector(self, i: u32) -> (Tensor, u32) {
        (self.vectors, i * self.width)
    }

    /// The vector of this number, for a scale.
    pub fn scale(self, i: u32) -> Modulation {
        Modulation { vectors: self.vectors, scale: i * self.width, shift: None, gate: false }
    }

    /// A layer norm of `x` with the scale and the shift of these numbers.
    pub fn norm(self, r: &mut Recorder, x: Tensor, scale: u32, shift: u32) -> Tensor {
        self.norm_with(r, x, [scale, shift], EPSILON)
    }

    /// The same with this epsilon.
    pub fn norm_with(self, r: &mut Recorder, x: Tensor, [scale, shift]: [u32; 2], epsilon: f32) -> Tensor {
        let modulation = Modulation { shift: Some(shift * self.width), ..self.scale(scale) };
        ops::layer_norm(r, NormKind::Layer(None), epsilon, x, Some(modulation))
    }
}
