//! Queries and keys on their way into attention: RMS norm of every head, rotary positions.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Elem;
use crate::weights::Handle;

/// Heads of `size` channels from channel `at` of `x` `[N, T, ..]` on: `sets` times `heads` of them, such as those of queries
/// and then those of keys. Returns `[N, T, sets * heads * size]`, in the same order.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm {
    pub x: (Tensor, u32),
    pub sets: u32,
    pub heads: u32,
    /// A multiple of four, or of eight where halves are turned.
    pub size: u32,
    pub norm: Option<HeadWeight>,
    pub rotary: Option<Rotary>,
}

/// An RMS norm of every head.
#[derive(Clone, Copy, Debug)]
pub struct HeadWeight {
    /// `[segments, sets, size]`: tokens from `split` on have the second segment, where there is one.
    pub weight: Handle,
    pub epsilon: f32,
    /// The first token of the second segment.
    pub split: Option<u32>,
}

/// Rotary positions (Su et al., arXiv:2104.09864): channels in pairs `(a, b)` become `(a cos - b sin, b cos + a sin)`.
#[derive(Clone, Copy, Debug)]
pub struct Rotary {
    /// f32 `[1, T, 1, size]`, for all images: a cosine and a sine for each pair, one after the other.
    pub table: Tensor,
    /// A pair is of neighbours; or else of channels half a head apart.
    pub neighbours: bool,
}

impl Operator for HeadNorm {
    fn reads(&self) -> Vec<Tensor> {
        [self.x.0].into_iter().chain(self.rotary.map(|rotary| rotary.table)).collect()
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        let norm = self.norm?;
        let segments = if norm.split.is_some() { 2 } else { 1 };
        Some((norm.weight, u64::from(segments * self.sets * self.size) * 4))
    }

    fn cost(&self, y: Tensor) -> Cost {
        uncounted(24 * y.shape.vec4s())
    }
}

impl HeadNorm {
    pub fn record(self, r: &mut Recorder) -> Tensor {
        let ((x, at), width) = (self.x, self.sets * self.heads * self.size);
        assert!(at % 4 == 0 && at + width <= x.shape.c, "heads at {at} of {}", x.shape);
        assert!(self.size.is_multiple_of(4), "heads of {}", self.size);
        if let Some(Rotary { table, neighbours }) = self.rotary {
            assert!(neighbours || self.size.is_multiple_of(8), "halves of heads of {}", self.size);
            let (rows, tokens) = (table.shape.rows(), x.shape.pixels());
            assert!(
                table.elem == Elem::F32 && table.shape.c == self.size && rows == tokens,
                "{}",
                table.shape
            );
        }
        let y = r.tensor(x.shape.with_c(width));
        r.record(self, y)
    }
}
