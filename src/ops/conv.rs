//! Convolutions, 3x3 and 1x1, with stride, with a nearest upsample in front.

use super::{Epilogue, joined, product_flops};
use crate::kernels::{ConvParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::weights::Weight;

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
        let kernel = if m.taps == 9 { 3 } else { 1 };
        let shape = joined(self.x, self.x2);
        assert!(shape.c.next_multiple_of(4) == m.inputs, "conv of {shape} with {} inputs", m.inputs);
        let (h, w) = self.upsample.unwrap_or((shape.h, shape.w));
        let size = |n: u32| (n + self.pad.0 + self.pad.1 - kernel) / self.stride + 1;
        let mut out = shape.with_c(self.outputs);
        (out.h, out.w) = (size(h), size(w));
        let y = r.tensor(out);
        let e = &self.epilogue;
        let (add_at, add_stride) = e.add_layout();
        let params = ConvParams {
            first: 0,
            images: shape.n,
            in_h: shape.h,
            in_w: shape.w,
            virtual_h: h,
            virtual_w: w,
            // As torch computes them, so that an odd size picks the same neighbours.
            ratio_h: shape.h as f32 / h as f32,
            ratio_w: shape.w as f32 / w as f32,
            out_h: out.h,
            out_w: out.w,
            inputs1: self.x.shape.c4(),
            inputs2: self.x2.map_or(0, |t| t.shape.c4()),
            outputs: m.outputs / 4,
            stride: self.stride,
            pad: self.pad.0,
            scale_at: m.scale_at(),
            bias_at: m.bias_at(),
            add_at,
            add_stride,
            activation: e.activation as u32,
            flags: e.flags(out),
        };
        let block = r.target.block;
        r.step(Step {
            variant: find(
                "conv",
                &format!("{}.{}.{}.{kernel}", y.elem.as_str(), m.format.as_str(), block.as_str()),
            ),
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: e.bindings([Some(self.x), self.x2], self.weight, y),
            threads: [
                m.outputs.div_ceil(4 * block.out_vec4s()),
                (out.n * out.h * out.w.div_ceil(4)).div_ceil(block.row_quads()),
            ],
            cost: Cost {
                model_flops: product_flops(
                    out.rows(),
                    u64::from(m.taps) * u64::from(self.inputs) * u64::from(self.outputs),
                ),
                executed_flops: product_flops(
                    out.rows(),
                    u64::from(m.taps) * u64::from(m.inputs) * u64::from(m.outputs),
                ),
            },
        });
        y
    }
}
