//! Scaled dot-product attention over heads.

use super::Operator;
use crate::plan::{Cost, Recorder, Tensor};

/// `q` is `[N, T, ..]`, `k` and `v` are `[N, S, ..]`; each is used from its channel `at` on, where heads of
/// `padded` channels follow one another. Returns `[N, T, heads * padded]`.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    pub q: (Tensor, u32),
    pub k: (Tensor, u32),
    pub v: (Tensor, u32),
    pub heads: u32,
    /// The model's head size: scores are scaled by 1 / sqrt(size).
    pub size: u32,
    /// The head size with zeros to a multiple of four.
    pub padded: u32,
    pub causal: bool,
}

impl Attention {
    pub fn record(self, r: &mut Recorder) -> Tensor {
        let (q, k, v) = (self.q.0.shape, self.k.0.shape, self.v.0.shape);
        assert!(k.with_c(0) == v.with_c(0) && q.n == k.n, "attention of {q} over {k}, {v}");
        let width = self.heads * self.padded;
        for (t, at) in [self.q, self.k, self.v] {
            assert!(at % 4 == 0 && at + width <= t.shape.c, "heads at {at} of {}", t.shape);
        }
        let y = r.tensor(q.with_c(width));
        r.record(self, y)
    }
}

impl Operator for Attention {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.q.0, self.k.0, self.v.0]
    }

    fn cost(&self, _: Tensor) -> Cost {
        let (q, k) = (self.q.0.shape, self.k.0.shape);
        let products = 4 * u64::from(q.n * self.heads) * u64::from(q.pixels()) * u64::from(k.pixels());
        Cost {
            model_flops: products * u64::from(self.size),
            executed_flops: products * u64::from(self.padded),
        }
    }
}
