//! Attention: kernels/attention.wgsl, a query a thread, kernels/attention_quad.wgsl, four, and kernels/attention_tile.wgsl,
//! a workgroup several together.

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
        // All kernels have the same parameters.
        let of = |kernel| variant(kernel, y.elem.as_str(), self.padded / 4);
        let (rows, queries) = (q.n * self.heads, q.pixels());
        let (variant, threads) = match l.tuning.attention(y.elem, queries, self.padded) {
            Block::Small => (of("attention"), [rows, queries]),
            Block::Large => (of("attention_quad"), [rows, queries.div_ceil(4)]),
            Block::Tile(_) => {
                let tile = of("attention_tile");
                let each = tile.get().constant("QUERIES");
                (tile, [rows * tile.get().workgroup[0], queries.div_ceil(each)])
            }
        };
        let bindings = vec![self.q.0.into(), self.k.0.into(), self.v.0.into(), y.into()];
        l.dispatch_of(variant, &params, bindings, threads, self.cost(y));
    }
}

/// The smallest capacity that holds a head of `vec4s` vec4s.
fn variant(kernel: &str, elem: &str, vec4s: u32) -> VariantId {
    let fits = (0..VARIANTS.len())
        .filter(|&i| VARIANTS[i].kernel == kernel && VARIANTS[i].name.split('.').next() == Some(elem))
        .map(|i| (VARIANTS[i].constant("HEAD"), i))
        .filter(|(head, _)| *head >= vec4s);
    VariantId(fits.min().unwrap_or_else(|| panic!("no {kernel} for heads of {}", vec4s * 4)).1)
}
