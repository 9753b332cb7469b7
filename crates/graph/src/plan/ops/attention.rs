//! Scaled dot-product attention over heads.

use super::Operator;
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Elem;

/// `q` is `[N, T, ..]`, `k` and `v` are `[N, S, ..]`; each is used from its channel `at` on, where heads of
/// `padded` channels follow one another. Returns `[N, T, heads * padded]`.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    pub q: (Tensor, u32),
    pub k: (Tensor, u32),
    pub v: (Tensor, u32),
    pub heads: u32,
    /// The model's head size.
    pub size: u32,
    /// The head size with zeros to a multiple of four.
    pub padded: u32,
    pub causal: bool,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Heads of queries that share a head of keys and values (grouped-query attention); 1 if none do.
    pub shared: u32,
    /// The bound `c` of scores, which become `c tanh(score / c)` (Gemma 2's soft capping).
    pub cap: Option<f32>,
    /// Added to the scores.
    pub bias: Option<Bias>,
}

/// What is added to scores, in f32.
#[derive(Clone, Copy, Debug)]
pub enum Bias {
    /// `[N, 1, 1, C]`: a number for each key of an image, `C` at least their number. A mask has [`HIDDEN`] for some.
    Keys(Tensor),
    /// `[1, 1, heads, C]`: a number for each head and distance, the key's place less the query's, from `1 - T` on; `C` is at
    /// least `S + T - 1`. T5's.
    Distances(Tensor),
    /// The sum of one of each kind.
    Both { keys: Tensor, distances: Tensor },
}

/// What a mask adds to the score of a key that is not seen: it gets no weight, as long as another key is seen.
pub const HIDDEN: f32 = -1e30;

impl Bias {
    pub fn keys(self) -> Option<Tensor> {
        match self {
            Bias::Keys(keys) | Bias::Both { keys, .. } => Some(keys),
            Bias::Distances(_) => None,
        }
    }

    pub fn distances(self) -> Option<Tensor> {
        match self {
            Bias::Distances(distances) | Bias::Both { distances, .. } => Some(distances),
            Bias::Keys(_) => None,
        }
    }
}

impl Attention {
    /// Heads that have keys and values of their own, and scores divided by the square root of their size.
    pub fn of(q: (Tensor, u32), k: (Tensor, u32), v: (Tensor, u32), heads: u32, size: u32) -> Attention {
        let padded = size.next_multiple_of(4);
        let scale = 1.0 / (size as f32).sqrt();
        Attention { q, k, v, heads, size, padded, causal: false, scale, shared: 1, cap: None, bias: None }
    }

    /// The bias of keys.
    pub fn keys(&self) -> Option<Tensor> {
        self.bias.and_then(Bias::keys)
    }

    /// The bias of distances.
    pub fn distances(&self) -> Option<Tensor> {
        self.bias.and_then(Bias::distances)
    }

    pub fn record(self, r: &mut Recorder) -> Tensor {
        let (q, k, v) = (self.q.0.shape, self.k.0.shape, self.v.0.shape);
        assert!(k.with_c(0) == v.with_c(0) && q.n == k.n, "attention of {q} over {k}, {v}");
        assert!(self.heads.is_multiple_of(self.shared), "{} heads share by {}", self.heads, self.shared);
        let width = self.heads * self.padded;
        for ((t, at), shared) in [(self.q, 1), (self.k, self.shared), (self.v, self.shared)] {
            assert!(at % 4 == 0 && at + width / shared <= t.shape.c, "heads at {at} of {}", t.shape);
        }
        let (keys, queries) = (k.pixels(), q.pixels());
        let wanted = [(self.keys(), q.n, keys), (self.distances(), self.heads, keys + queries - 1)];
        for (bias, rows, least) in wanted {
            let Some(Tensor { shape, elem, .. }) = bias else { continue };
            let fits = shape.rows() == rows && shape.c >= least && shape.c.is_multiple_of(4);
            assert!(elem == Elem::F32 && fits, "bias {shape} of attention of {q} over {k}");
        }
        let y = r.tensor(q.with_c(width));
        r.record(self, y)
    }
}

impl Operator for Attention {
    fn reads(&self) -> Vec<Tensor> {
        let biases = self.keys().into_iter().chain(self.distances());
        [self.q.0, self.k.0, self.v.0].into_iter().chain(biases).collect()
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
