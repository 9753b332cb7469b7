//! Convolutions.

use crate::plan::ops::{self, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Rows, Weight, weight_and_bias};

#[derive(Clone, Copy, Debug)]
pub struct Conv {
    weight: Weight,
    inputs: u32,
    outputs: u32,
}

impl Conv {
    /// `path.weight` `[outputs, inputs, kernel, kernel]` with kernel 1 or 3, and, if it has one, `path.bias`.
    pub fn declare(
        d: &mut Declarations,
        path: &str,
        inputs: u32,
        outputs: u32,
        kernel: u32,
        bias: bool,
    ) -> Conv {
        let shape = vec![outputs as usize, inputs as usize, kernel as usize, kernel as usize];
        let parts = weight_and_bias(path, shape, bias, Rows::From(0), Columns::Same);
        Conv { weight: d.matrix(outputs, inputs, kernel * kernel, parts), inputs, outputs }
    }

    /// Records a convolution of stride 1 that keeps height and width; a 1x1 convolution is a matrix product over pixels.
    pub fn record(&self, r: &mut Recorder, x: Tensor, x2: Option<Tensor>, epilogue: Epilogue) -> Tensor {
        if self.weight.matrix.taps == 1 {
            let model_weights = u64::from(self.inputs) * u64::from(self.outputs);
            let (weight, outputs) = (self.weight, self.outputs);
            return Matmul { weight, x, x2, epilogue, gate: None, outputs, model_weights }.record(r);
        }
        ops::Conv { x2, epilogue, ..self.of(x) }.record(r)
    }

    /// Half the size. U-Nets pad by one all around, autoencoders right and below only.
    pub fn downsample(&self, r: &mut Recorder, x: Tensor, pad: (u32, u32)) -> Tensor {
        ops::Conv { stride: 2, pad, ..self.of(x) }.record(r)
    }

    /// Behind a nearest upsample to this height and width.
    pub fn upsample(&self, r: &mut Recorder, x: Tensor, to: (u32, u32)) -> Tensor {
        ops::Conv { upsample: Some(to), ..self.of(x) }.record(r)
    }

    /// The operation for `x`, of stride 1 and with padding that keeps the size; callers change fields, then record it.
    pub fn of(&self, x: Tensor) -> ops::Conv {
        let pad = if self.weight.matrix.taps == 9 { 1 } else { 0 };
        ops::Conv {
            weight: self.weight,
            x,
            x2: None,
            outputs: self.outputs,
            inputs: self.inputs,
            stride: 1,
            pad: (pad, pad),
            upsample: None,
            epilogue: Epilogue::default(),
        }
    }
}
