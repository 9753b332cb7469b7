//! Products: kernels/matmul.wgsl, and kernels/matmul_tile.wgsl.

use super::{GATED, Lower, Lowering, add_layout, bindings, flag, flags};
use crate::kernels::MatmulParams;
use crate::plan::Tensor;
use crate::plan::ops::{Matmul, Operator};
use crate::tuning::Block;

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
            activation: self.gate.unwrap_or(e.activation) as u32,
            flags: flags(e) | flag(self.gate.is_some(), GATED),
        };
        let bindings = bindings(self.x, self.x2, self.weight, e, y);
        let (types, rows) = (format!("{}.{}", y.elem.as_str(), m.format.as_str()), shape.rows());
        let alone = |name, each, outputs| {
            ("matmul", format!("{types}.{name}"), [m.outputs.div_ceil(outputs), rows.div_ceil(each)])
        };
        let (kernel, name, threads) = match l.tuning.matmul(y.elem, rows, m.outputs) {
            Block::Tile(tile) => ("matmul_tile", tile.name(y.elem, m.format), tile.grid(rows, m.outputs)),
            Block::Large => alone("16x16", 16, 16),
            Block::Small => alone("4x8", 4, 8),
        };
        l.dispatch((kernel, &name), &params, bindings, threads, self.cost(y));
    }
}
