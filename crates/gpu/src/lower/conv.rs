//! Convolutions: kernels/conv.wgsl.

use super::{Lower, Lowering, add_layout, bindings, flags};
use crate::kernels::ConvParams;
use crate::plan::Tensor;
use crate::plan::ops::{Conv, Operator};

impl Lower for Conv {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (m, shape, out, e) = (self.weight.matrix, self.x.shape, y.shape, &self.epilogue);
        let [h, w] = self.size();
        let (add_at, add_stride) = add_layout(e);
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
            inputs1: shape.c4(),
            inputs2: self.x2.map_or(0, |t| t.shape.c4()),
            outputs: m.outputs / 4,
            stride: self.stride,
            pad: self.pad.0,
            scale_at: m.scale_at(),
            bias_at: m.bias_at(),
            add_at,
            add_stride,
            activation: e.activation as u32,
            flags: flags(e),
        };
        let block = l.tuning.conv(y.elem, out.rows(), m.outputs);
        let name = format!("{}.{}.{}.{}", y.elem.as_str(), m.format.as_str(), block.as_str(), self.kernel());
        let bindings = bindings(self.x, self.x2, self.weight, e, y);
        let threads = [
            m.outputs.div_ceil(4 * block.out_vec4s()),
            (out.n * out.h * out.w.div_ceil(4)).div_ceil(block.row_quads()),
        ];
        l.dispatch(("conv", &name), &params, bindings, threads, self.cost(y));
    }
}
