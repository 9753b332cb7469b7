//! Matrix products: linear layers, 1x1 convolutions, fused projections, gated ones.

use super::{Activation, Epilogue, Operator, blob, joined, product_flops};
use crate::plan::{Cost, Recorder, Tensor};
use crate::weights::{Handle, Weight};

/// `[.., inputs] -> [.., outputs]` over every row of `x`, or of `x` and `x2` side by side.
#[derive(Clone, Copy, Debug)]
pub struct Matmul {
    pub weight: Weight,
    pub x: Tensor,
    pub x2: Option<Tensor>,
    pub epilogue: Epilogue,
    /// The weight holds values and gates alternating by four, and the output, `value * act(gate)` (Shazeer,
    /// arXiv:2002.05202), is half as wide.
    pub gate: Option<Activation>,
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
        let width = if self.gate.is_some() { self.outputs / 2 } else { self.outputs };
        let y = r.tensor(shape.with_c(width));
        self.epilogue.check(y.shape);
        assert!(self.gate.is_none() || self.epilogue.is_empty(), "an epilogue of values and gates");
        r.record(self, y)
    }
}

impl Operator for Matmul {
    fn reads(&self) -> Vec<Tensor> {
        self.epilogue.reads(self.x, self.x2)
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        blob(self.weight)
    }

    fn cost(&self, _: Tensor) -> Cost {
        let (m, rows) = (self.weight.matrix, self.x.shape.rows());
        Cost {
            model_flops: product_flops(rows, self.model_weights),
            executed_flops: product_flops(rows, u64::from(m.inputs) * u64::from(m.outputs)),
        }
    }
}
