//! Convolutions, 3x3 and 1x1, with stride, with a nearest upsample in front.

use super::{Epilogue, Operator, blob, joined, product_flops};
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::{Handle, Weight};

/// `[N, H, W, inputs] -> [N, H', W', outputs]`, zero outside.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    pub weight: Weight,
    pub x: Tensor,
    pub x2: Option<Tensor>,
    /// True channels of the output.
    pub outputs: u32,
    /// True channels of the input.
    pub inputs: u32,
    pub stride: u32,
    /// Zeros before the first row and column, and after the last.
    pub pad: (u32, u32),
    /// Height and width to upsample the input to, nearest neighbour, before the convolution.
    pub upsample: Option<(u32, u32)>,
    pub epilogue: Epilogue,
}

impl Conv {
    pub fn record(self, r: &mut Recorder) -> Tensor {
        let m = self.weight.matrix;
        let shape = joined(self.x, self.x2);
        assert!(shape.c.next_multiple_of(4) == m.inputs, "conv of {shape} with {} inputs", m.inputs);
        let out = self.output();
        let y = r.tensor(out);
        self.epilogue.check(out);
        r.record(self, y)
    }

    /// Height and width of the kernel, 3 or 1.
    pub fn kernel(&self) -> u32 {
        if self.weight.matrix.taps == 9 { 3 } else { 1 }
    }

    /// Height and width that the kernel sees.
    pub fn size(&self) -> [u32; 2] {
        let (h, w) = self.upsample.unwrap_or((self.x.shape.h, self.x.shape.w));
        [h, w]
    }

    fn output(&self) -> Shape {
        let [h, w] = self.size().map(|n| (n + self.pad.0 + self.pad.1 - self.kernel()) / self.stride + 1);
        Shape { h, w, ..self.x.shape.with_c(self.outputs) }
    }
}

impl Operator for Conv {
    fn reads(&self) -> Vec<Tensor> {
        self.epilogue.reads(self.x, self.x2)
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        blob(self.weight)
    }

    fn cost(&self, y: Tensor) -> Cost {
        let m = self.weight.matrix;
        let flops = |inputs: u32, outputs: u32| {
            product_flops(y.shape.rows(), u64::from(m.taps) * u64::from(inputs) * u64::from(outputs))
        };
        Cost { model_flops: flops(self.inputs, self.outputs), executed_flops: flops(m.inputs, m.outputs) }
    }
}
