//! Attention without a softmax, whose work grows with the number of tokens and not with its square.

use super::Operator;
use crate::plan::{Cost, Recorder, Tensor};

/// `q`, `k` and `v` are `[N, T, ..]`; each is used from its channel `at` on, where heads of `size` channels begin `each`
/// channels after one another. With queries and keys behind a ReLU, `q . (sum of k v) / (q . sum of k + 1e-15)` (Katharopoulos
/// et al., arXiv:2006.16236). Returns `[N, T, heads * size]`.
#[derive(Clone, Copy, Debug)]
pub struct LinearAttention {
    pub q: (Tensor, u32),
    pub k: (Tensor, u32),
    pub v: (Tensor, u32),
    pub heads: u32,
    /// A multiple of four.
    pub size: u32,
    pub each: u32,
}

impl LinearAttention {
    pub fn record(self, r: &mut Recorder) -> Tensor {
        assert!(self.size.is_multiple_of(4) && self.each.is_multiple_of(4), "heads of {}", self.size);
        let shape = self.q.0.shape;
        for (t, at) in [self.q, self.k, self.v] {
            let end = at + (self.heads - 1) * self.each + self.size;
            assert!(at % 4 == 0 && end <= t.shape.c, "heads at {at} of {}", t.shape);
            assert!(t.shape.with_c(0) == shape.with_c(0), "attention of {shape} over {}", t.shape);
        }
        let y = r.tensor(shape.with_c(self.heads * self.size));
        r.record(self, y)
    }

    /// Work of a half: what all tokens make, and what each token makes of that.
    pub fn half(&self) -> u64 {
        let channels = u64::from(self.heads * self.size);
        2 * u64::from(self.q.0.shape.rows()) * channels * u64::from(self.size + 1)
    }
}

impl Operator for LinearAttention {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.q.0, self.k.0, self.v.0]
    }

    fn cost(&self, _: Tensor) -> Cost {
        Cost { model_flops: 2 * self.half(), executed_flops: 2 * self.half() }
    }
}
