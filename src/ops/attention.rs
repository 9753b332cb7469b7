//! Scaled dot-product attention over heads.

use super::CAUSAL;
use crate::kernels::{AttentionParams, VARIANTS, VariantId};
use crate::plan::{Block, Cost, Recorder, Step, Tensor};

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
        let params = AttentionParams {
            first: 0,
            images: q.n,
            heads: self.heads,
            head: self.padded / 4,
            queries: q.pixels(),
            keys: k.pixels(),
            q_at: self.q.1 / 4,
            q_stride: q.c4(),
            k_at: self.k.1 / 4,
            k_stride: k.c4(),
            v_at: self.v.1 / 4,
            v_stride: v.c4(),
            scale: 1.0 / (self.size as f32).sqrt(),
            flags: if self.causal { CAUSAL } else { 0 },
        };
        let products = 4 * u64::from(q.n * self.heads) * u64::from(q.pixels()) * u64::from(k.pixels());
        // Queries of one thread. The two kernels have the same parameters.
        let (kernel, queries) = match r.target.block {
            Block::Small => ("attention", 1),
            Block::Large => ("attention_quad", 4),
        };
        r.step(Step {
            variant: variant(kernel, y.elem.as_str(), self.padded / 4),
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![self.q.0.into(), self.k.0.into(), self.v.0.into(), y.into()],
            threads: [q.n * self.heads, q.pixels().div_ceil(queries)],
            cost: Cost {
                model_flops: products * u64::from(self.size),
                executed_flops: products * u64::from(self.padded),
            },
        });
        y
    }
}

/// The smallest capacity that holds a head of `vec4s` vec4s.
fn variant(kernel: &str, elem: &str, vec4s: u32) -> VariantId {
    let capacity = |name: &str| {
        let (e, head) = name.split_once('.')?;
        (e == elem).then(|| head.parse::<u32>().unwrap()).filter(|&h| h >= vec4s)
    };
    let fits = (0..VARIANTS.len())
        .filter(|&i| VARIANTS[i].kernel == kernel)
        .filter_map(|i| Some((capacity(VARIANTS[i].name)?, i)));
    VariantId(fits.min().unwrap_or_else(|| panic!("no {kernel} for heads of {}", vec4s * 4)).1)
}
