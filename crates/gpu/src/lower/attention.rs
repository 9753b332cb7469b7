//! Attention: kernels/attention.wgsl, a query a thread, kernels/attention_quad.wgsl, four, and kernels/attention_tile.wgsl,
//! a workgroup several together.

use super::{CAUSAL, DISTANCES_BIAS, KEYS_BIAS, Lower, Lowering, flag};
use crate::kernels::{AttentionParams, VARIANTS, VariantId};
use crate::plan::Tensor;
use crate::plan::ops::{Attention, Operator};
use crate::tuning::{Block, Tile};

impl Lower for Attention {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let [(q, q_at), (k, k_at), (v, v_at)] = [self.q, self.k, self.v].map(|(t, at)| (t.shape, at / 4));
        let (keys, distances) = (self.keys(), self.distances());
        let row = |bias: Option<Tensor>| bias.map_or(0, |t| t.shape.c);
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
            scale: self.scale,
            shared_by: self.shared,
            cap: self.cap.unwrap_or(0.0),
            keys_row: row(keys),
            distances_row: row(distances),
            flags: flag(self.causal, CAUSAL)
                | flag(keys.is_some(), KEYS_BIAS)
                | flag(distances.is_some(), DISTANCES_BIAS),
        };
        // All kernels have the same parameters.
        let of = |kernel, each| variant(kernel, y.elem.as_str(), self.padded / 4, each);
        let (rows, queries) = (q.n * self.heads, q.pixels());
        let (variant, threads) = match l.tuning.attention(y.elem, queries, self.padded) {
            Block::Small => (of("attention", 1), [rows, queries]),
            Block::Large => (of("attention_quad", 4), [rows, queries.div_ceil(4)]),
            Block::Tile(Tile { each, .. }) => {
                let tile = of("attention_tile", each);
                let v = tile.get();
                (tile, [rows * v.workgroup[0], queries.div_ceil(v.constant("QUERIES"))])
            }
        };
        let bindings =
            vec![self.q.0.into(), self.k.0.into(), self.v.0.into(), keys.into(), distances.into(), y.into()];
        l.dispatch_of(variant, &params, bindings, threads, self.cost(y));
    }
}

/// The smallest capacity that holds a head of `vec4s` vec4s, with at most `each` queries a thread, and as many of those as
/// there are.
fn variant(kernel: &str, elem: &str, vec4s: u32, each: u32) -> VariantId {
    let of = |i: usize| VARIANTS[i].kernel == kernel && VARIANTS[i].name.split('.').next() == Some(elem);
    let fits = (0..VARIANTS.len()).filter(|&i| of(i)).filter_map(|i| {
        let head = VARIANTS[i].constant("HEAD");
        let queries = VARIANTS[i].find_constant("EACH").unwrap_or(each);
        (head >= vec4s && queries <= each).then(|| (head, each - queries, i))
    });
    VariantId(fits.min().unwrap_or_else(|| panic!("no {kernel} for heads of {}", vec4s * 4)).2)
}
