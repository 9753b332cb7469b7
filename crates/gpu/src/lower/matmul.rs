//! Products: kernels/matmul.wgsl.

use super::{GEGLU, Lower, Lowering, add_layout, bindings, flags};
use crate::kernels::MatmulParams;
use crate::plan::Tensor;
use crate::plan::ops::{Matmul, Operator};

impl Lower for Matmul {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (m, shape, e) = (self.weight.matrix, self.x.shape, &self.epilogue);
        let (add_at, add_stride) = add_layout(e);
        let params = MatmulParams {
            first: 0,
            rows: shape.rows(),
            rows_per_image: shape.pixels(),
            inputs1: shape.c4(),
            inputs2: self.x2.map_or(0, |t| t.shape.c4()),
            outputs: m.outputs / 4,
            scale_at: m.scale_at(),
            bias_at: m.bias_at(),
            add_at,
            add_stride,
            activation: e.activation as u32,
            flags: flags(e) | if self.geglu { GEGLU } else { 0 },
        };
        let block = l.tuning.matmul(y.elem, shape.rows(), m.outputs);
        let name = format!("{}.{}.{}", y.elem.as_str(), m.format.as_str(), block.as_str());
        let bindings = bindings(self.x, self.x2, self.weight, e, y);
        let threads =
            [m.outputs.div_ceil(4 * block.out_vec4s()), shape.rows().div_ceil(4 * block.row_quads())];
        l.dispatch(("matmul", &name), &params, bindings, threads, self.cost(y));
    }
}
