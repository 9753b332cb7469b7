//! What has a kernel of its own name and a thread a vec4, or a thread a row.

use super::{GUIDED, Lower, Lowering, flag};
use crate::kernels::{
    AddParams, CopyParams, GroupConvParams, HeadNormParams, ImageParams, LayerNormParams, MeanParams,
    MultiplyAddParams, PatchifyParams, ScaleParams, StepParams,
};
use crate::plan::ops::{
    Add, CopyTensor, GroupConv, HeadNorm, Image, Join, LayerNorm, Mean, MultiplyAdd, Operator, Patchify,
    Scale, Shortcut, Slice, Step,
};
use crate::plan::{Cost, Tensor};
use crate::program::Binding;
use tintype_weights::Handle;

/// Flags of norms, as their WGSL has them.
const RMS: u32 = 1;
const AFFINE: u32 = 2;
const SCALE: u32 = 4;
const SHIFT: u32 = 8;
const BIASED: u32 = 16;
const ADDED: u32 = 32;
const GATE: u32 = 64;
const NORM: u32 = 1;
const TURN: u32 = 2;
const NEIGHBOURS: u32 = 4;
const BACK: u32 = 1;
const MEANS: u32 = 2;
const REPEATED: u32 = 4;
const CONV_BIAS: u32 = 1;
const CONV_GATED: u32 = 2;

impl Lower for Add {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let total = y.shape.vec4s() as u32;
        let params = AddParams {
            first: 0,
            total,
            image: total / y.shape.n,
            count: self.b.shape.vec4s() as u32,
            slots: self.scales.shape.w,
            slot: self.slot,
        };
        let bindings = vec![self.scales.into(), self.a.into(), self.b.into(), y.into()];
        l.dispatch(("add", y.elem.as_str()), &params, bindings, [1, total], self.cost(y));
    }
}

impl Lower for CopyTensor {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (rows, values) = (y.shape.n * y.shape.h, y.shape.w * y.shape.c4());
        copy(l, (self.x, y), [rows, values], [0, values], [0, values]);
    }
}

impl Lower for Join {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let c4 = y.shape.c4();
        let mut at = 0;
        for x in [self.a, self.b] {
            let values = x.shape.pixels() * c4;
            copy(l, (x, y), [y.shape.n, values], [0, values], [at, y.shape.pixels() * c4]);
            at += values;
        }
    }
}

impl Lower for Slice {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (c4, x) = (y.shape.c4(), self.x.shape);
        let values = y.shape.pixels() * c4;
        copy(l, (self.x, y), [y.shape.n, values], [self.from * c4, x.pixels() * c4], [0, values]);
    }
}

/// `from` and `to`: where the first row begins, and how far apart rows are.
fn copy(l: &mut Lowering, (x, y): (Tensor, Tensor), [rows, values]: [u32; 2], from: [u32; 2], to: [u32; 2]) {
    let ([x_at, x_stride], [y_at, y_stride]) = (from, to);
    let params = CopyParams { first: 0, rows, values, x_at, x_stride, y_at, y_stride };
    let threads = [values, rows];
    l.dispatch(("copy", x.elem.as_str()), &params, vec![x.into(), y.into()], threads, Cost::default());
}

impl Lower for Image {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let params = ImageParams { first: 0, pixels: self.x.shape.rows() };
        let bindings = vec![self.x.into(), self.counters.into(), y.into()];
        l.dispatch(("image", self.x.elem.as_str()), &params, bindings, [1, params.pixels], self.cost(y));
    }
}

impl Lower for LayerNorm {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (shape, m) = (y.shape, self.modulation);
        let shift = m.and_then(|m| m.shift);
        let params = LayerNormParams {
            first: 0,
            rows: shape.rows(),
            rows_per_image: shape.pixels(),
            channels: shape.c4(),
            width: shape.c,
            stride: m.map_or(0, |m| m.vectors.shape.c4()),
            scale_at: m.map_or(0, |m| m.scale / 4),
            shift_at: shift.unwrap_or(0) / 4,
            epsilon: self.epsilon,
            activation: self.activation as u32,
            flags: flag(self.kind.is_rms(), RMS)
                | flag(self.weight().is_some(), AFFINE)
                | flag(self.kind.has_bias(), BIASED)
                | flag(self.residual.is_some(), ADDED)
                | flag(m.is_some(), SCALE)
                | flag(m.is_some_and(|m| m.gate), GATE)
                | flag(shift.is_some(), SHIFT),
        };
        let vectors = m.map(|m| m.vectors).into();
        let bindings = vec![self.x.into(), blob(self.weight()), vectors, self.residual.into(), y.into()];
        l.dispatch(("layer_norm", self.x.elem.as_str()), &params, bindings, [1, shape.rows()], self.cost(y));
    }
}

impl Lower for HeadNorm {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let ((x, at), rotary) = (self.x, self.rotary);
        let params = HeadNormParams {
            first: 0,
            rows: x.shape.rows(),
            tokens: x.shape.pixels(),
            sets: self.sets,
            heads: self.heads,
            size: self.size / 4,
            at: at / 4,
            stride: x.shape.c4(),
            split: self.norm.and_then(|norm| norm.split).unwrap_or(u32::MAX),
            epsilon: self.norm.map_or(0.0, |norm| norm.epsilon),
            flags: flag(self.norm.is_some(), NORM)
                | flag(rotary.is_some(), TURN)
                | flag(rotary.is_some_and(|rotary| rotary.neighbours), NEIGHBOURS),
        };
        let table = rotary.map(|rotary| rotary.table).into();
        let bindings = vec![x.into(), blob(self.weight()), table, y.into()];
        let threads = [self.sets * self.heads, x.shape.rows()];
        l.dispatch(("head_norm", x.elem.as_str()), &params, bindings, threads, self.cost(y));
    }
}

/// The blob of a norm that may have none.
fn blob(weight: Option<(Handle, u64)>) -> Binding {
    weight.map_or(Binding::Unused, |(handle, bytes)| Binding::Weight(handle, bytes))
}

impl Lower for Mean {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (from, to) = (self.x.shape, y.shape);
        let params = MeanParams { first: 0, images: to.n, in_h: from.h, in_w: from.w, channels: to.c4() };
        let threads = [params.channels, to.rows()];
        l.dispatch(("mean", y.elem.as_str()), &params, vec![self.x.into(), y.into()], threads, self.cost(y));
    }
}

impl Lower for MultiplyAdd {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (rows, values) = (y.shape.n * y.shape.h, y.shape.w * y.shape.c4());
        let params = MultiplyAddParams { first: 0, rows, values };
        let bindings = vec![self.x.into(), y.into()];
        l.dispatch(("multiply_add", y.elem.as_str()), &params, bindings, [values, rows], self.cost(y));
    }
}

impl Lower for Patchify {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let squares = if self.back { self.x.shape } else { y.shape };
        let square = self.size * self.size;
        let params = PatchifyParams {
            first: 0,
            rows: squares.n * squares.h,
            across: squares.w,
            size: self.size,
            channels: squares.c4() / square,
            wide: squares.c4(),
            ratio: 1,
            flags: flag(self.back, BACK),
        };
        let threads = [squares.w * squares.c4(), params.rows];
        l.dispatch(
            ("patchify", y.elem.as_str()),
            &params,
            vec![self.x.into(), y.into()],
            threads,
            self.cost(y),
        );
    }
}

impl Lower for Shortcut {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (pixels, squares) = if self.back { (y.shape, self.x.shape) } else { (self.x.shape, y.shape) };
        let params = PatchifyParams {
            first: 0,
            rows: squares.n * squares.h,
            across: squares.w,
            size: self.size,
            channels: pixels.c4(),
            wide: squares.c4(),
            ratio: self.ratio,
            flags: if self.back { REPEATED } else { MEANS },
        };
        let across = if self.back { self.size * self.size * pixels.c4() } else { squares.c4() };
        let (bindings, threads) = (vec![self.x.into(), y.into()], [squares.w * across, params.rows]);
        l.dispatch(("patchify", y.elem.as_str()), &params, bindings, threads, self.cost(y));
    }
}

impl Lower for GroupConv {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let params = GroupConvParams {
            first: 0,
            images: y.shape.n,
            h: y.shape.h,
            w: y.shape.w,
            channels: self.x.shape.c4(),
            outputs: y.shape.c4(),
            inputs: self.inputs,
            kernel: self.kernel,
            activation: self.activation as u32,
            flags: flag(self.biased, CONV_BIAS) | flag(self.gated, CONV_GATED),
        };
        let bindings = vec![self.x.into(), blob(self.weight()), y.into()];
        let threads = [y.shape.c4(), y.shape.rows()];
        l.dispatch(("group_conv", y.elem.as_str()), &params, bindings, threads, self.cost(y));
    }
}

impl Lower for Scale {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let x = self.x.shape;
        let params = ScaleParams {
            first: 0,
            count: x.vec4s() as u32,
            total: y.shape.vec4s() as u32,
            channels: x.c4(),
            last: x.c - 4 * (x.c4() - 1),
            activation: self.activation as u32,
        };
        let bindings = vec![self.x.into(), self.coefficients.into(), y.into()];
        l.dispatch(("scale", y.elem.as_str()), &params, bindings, [1, params.total], self.cost(y));
    }
}

impl Lower for Step {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let count = self.sample.shape.vec4s() as u32;
        let params = StepParams { first: 0, count, flags: flag(self.guided(), GUIDED) };
        let bindings = [self.coefficients, self.model, self.noise, self.counters, self.sample, y];
        let bindings = bindings.into_iter().map(Binding::from).collect();
        l.dispatch(("step", self.model.elem.as_str()), &params, bindings, [1, count], self.cost(y));
    }
}
