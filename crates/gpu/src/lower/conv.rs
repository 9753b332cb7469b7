//! Convolutions: kernels/conv.wgsl, kernels/conv_tile.wgsl, and those by Winograd's F(4x4, 3x3).

use super::{Lower, Lowering, add_layout, bindings, flags, winograd};
use crate::kernels::ConvParams;
use crate::plan::Tensor;
use crate::plan::ops::{Conv, Operator};
use crate::tuning::Block;

impl Lower for Conv {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (m, shape, out, e) = (self.weight.matrix, self.x.shape, y.shape, &self.epilogue);
        if winograd::fits(self)
            && let Some(how) = l.tuning.winograd(y.elem, out.rows(), m.inputs, m.outputs)
        {
            return winograd::lower(self, l, y, how);
        }
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
        let bindings = bindings(self.x, self.x2, self.weight, e, y);
        let (types, kernel) = (format!("{}.{}", y.elem.as_str(), m.format.as_str()), self.kernel());
        // Of rows of an image, whose rest counts as whole.
        let quads = out.n * out.h * out.w.div_ceil(4);
        let alone = |name, each: u32, outputs| {
            (
                "conv",
                format!("{types}.{name}.{kernel}"),
                [m.outputs.div_ceil(outputs), quads.div_ceil(each / 4)],
            )
        };
        let (kernel, name, threads) = match l.tuning.conv(y.elem, out.rows(), m.outputs) {
            Block::Tile(tile) if kernel == 3 => {
                ("conv_tile", format!("{}.3", tile.name(y.elem, m.format)), tile.grid(out.rows(), m.outputs))
            }
            Block::Large => alone("16x16", 16, 16),
            Block::Small | Block::Tile(_) => alone("4x8", 4, 8),
        };
        l.dispatch((kernel, &name), &params, bindings, threads, self.cost(y));
    }
}
