//! Matrix products: linear layers, 1x1 convolutions, fused projections, GEGLU.

use super::{Epilogue, GEGLU, joined, product_flops};
use crate::kernels::{MatmulParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::weights::Weight;

/// `[.., inputs] -> [.., outputs]` over every row of `x`, or of `x` and `x2` side by side.
#[derive(Clone, Copy, Debug)]
pub struct Matmul {
    pub weight: Weight,
    pub x: Tensor,
    pub x2: Option<Tensor>,
    pub epilogue: Epilogue,
    /// The weight holds values and gates alternating by four; the output is half as wide.
    pub geglu: bool,
    /// True channels of the output; the matrix has them padded to vec4s.
    pub outputs: u32,
    /// Multiply-adds a row that the model defines, without padding.
    pub model_weights: u64,
}

impl Matmul {
    pub fn record(self, r: &mut Recorder) -> Tensor {
        let m = self.weight.matrix;
        let shape = joined(self.x, self.x2);
        assert!(shape.c.next_multiple_of(4) == m.inputs, "matmul of {shape} with {} inputs", m.inputs);
        assert!(m.taps == 1 && self.outputs.next_multiple_of(4) == m.outputs);
        let width = if self.geglu { self.outputs / 2 } else { self.outputs };
        let y = r.tensor(shape.with_c(width));
        let e = &self.epilogue;
        let (add_at, add_stride) = e.add_layout();
        let params = MatmulParams {
            first: 0,
            rows: shape.rows(),
            rows_per_image: shape.pixels(),
            inputs1: self.x.shape.c4(),
            inputs2: self.x2.map_or(0, |t| t.shape.c4()),
            outputs: m.outputs / 4,
            scale_at: m.scale_at(),
            bias_at: m.bias_at(),
            add_at,
            add_stride,
            activation: e.activation as u32,
            flags: e.flags(y.shape) | if self.geglu { GEGLU } else { 0 },
        };
        let block = r.target.block;
        r.step(Step {
            variant: find("matmul", &format!("{}.{}.{}", y.elem.as_str(), m.format.as_str(), block.as_str())),
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: e.bindings([Some(self.x), self.x2], self.weight, y),
            threads: [
                m.outputs.div_ceil(4 * block.out_vec4s()),
                shape.rows().div_ceil(4 * block.row_quads()),
            ],
            cost: Cost {
                model_flops: product_flops(shape.rows(), self.model_weights),
                executed_flops: product_flops(shape.rows(), u64::from(m.inputs) * u64::from(m.outputs)),
            },
        });
        y
    }
}
