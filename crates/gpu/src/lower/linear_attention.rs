//! Linear attention in two dispatches: what all tokens of a head make, and what each token makes of that.

use super::{Lower, Lowering};
use crate::kernels::{LinearAttentionParams, LinearAttentionStateParams};
use crate::plan::ops::LinearAttention;
use crate::plan::{Cost, Tensor};
use crate::shape::Shape;

/// Threads that share the tokens of a block (`LANES` of kernels/linear_attention_state.wgsl).
const LANES: u32 = 16;

impl Lower for LinearAttention {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let ((q, q_at), (k, k_at), (v, v_at)) = (self.q, self.k, self.v);
        let (heads, size, each, tokens) = (self.heads, self.size / 4, self.each / 4, q.shape.pixels());
        let (rows, elem) = (q.shape.n * heads * (size + 1) * size, y.elem.as_str());
        let cost = Cost { model_flops: self.half(), executed_flops: self.half() };
        let state = l.workspace(Shape::new(1, 1, rows, 16));
        let params = LinearAttentionStateParams {
            first: 0,
            rows,
            tokens,
            heads,
            size,
            each,
            k_at: k_at / 4,
            k_stride: k.shape.c4(),
            v_at: v_at / 4,
            v_stride: v.shape.c4(),
        };
        let bindings = vec![k.into(), v.into(), state.into()];
        l.dispatch(("linear_attention_state", elem), &params, bindings, [LANES, rows], cost);
        let rows = q.shape.rows();
        let stride = q.shape.c4();
        let params =
            LinearAttentionParams { first: 0, rows, tokens, heads, size, each, at: q_at / 4, stride };
        let bindings = vec![q.into(), state.into(), y.into()];
        l.dispatch(("linear_attention", elem), &params, bindings, [heads * size, rows], cost);
    }
}
