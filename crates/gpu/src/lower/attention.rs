//! Attention: kernels/attention.wgsl, a query a thread, and kernels/attention_quad.wgsl, four.

use super::{CAUSAL, Lower, Lowering};
use crate::kernels::{AttentionParams, VARIANTS, VariantId};
use crate::plan::Tensor;
use crate::plan::ops::{Attention, Operator};
use crate::tuning::Block;

impl Lower for Attention {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let [(q, q_at), (k, k_at), (v, v_at)] = [self.q, self.k, self.v].map(|(t, at)| (t.shape, at / 4));
        let params = AttentionParams {
            first: 0,
            images: q.n,
            heads: self.heads,
            head: self.padded / 4,
            queries: q.pixels(),
            keys: k.pixels(),
            q_at,
            q_stride: q.c4(),
            k_at,
            k_stride: k.c4(),
            v_at,
            v_stride: v.c4(),
            scale: 1.0 / (self.size as f32).sqrt(),
            flags: if self.causal { CAUSAL } else { 0 },
        };
        // Queries of one thread. The two kernels have the same parameters.
        let (kernel, queries) = match l.tuning.attention(y.elem, q.pixels(), self.padded) {
            Block::Small => ("attention", 1),
            Block::Large => ("attention_quad", 4),
        };
        let variant = variant(kernel, y.elem.as_str(), self.padded / 4);
        let bindings = vec![self.q.0.into(), self.k.0.into(), self.v.0.into(), y.into()];
        let threads = [q.n * self.heads, q.pixels().div_ceil(queries)];
        l.dispatch_of(variant, &params, bindings, threads, self.cost(y));
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
