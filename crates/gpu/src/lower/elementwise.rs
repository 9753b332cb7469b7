//! What has a kernel of its own name and a thread a vec4, or a thread a row.

use super::{GUIDED, Lower, Lowering};
use crate::kernels::{
    AddParams, CopyParams, ImageParams, LayerNormParams, MeanParams, MultiplyAddParams, ScaleParams,
    StepParams,
};
use crate::plan::ops::{Add, CopyTensor, Image, Join, LayerNorm, Mean, MultiplyAdd, Operator, Scale, Step};
use crate::plan::{Cost, Tensor};
use crate::program::Binding;

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
        copy(l, self.x, y, CopyParams { first: 0, rows, values, at: 0, stride: values });
    }
}

impl Lower for Join {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let c4 = y.shape.c4();
        let mut at = 0;
        for x in [self.a, self.b] {
            let values = x.shape.pixels() * c4;
            copy(
                l,
                x,
                y,
                CopyParams { first: 0, rows: y.shape.n, values, at, stride: y.shape.pixels() * c4 },
            );
            at += values;
        }
    }
}

fn copy(l: &mut Lowering, x: Tensor, y: Tensor, params: CopyParams) {
    let threads = [params.values, params.rows];
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
        let shape = y.shape;
        let params = LayerNormParams {
            first: 0,
            rows: shape.rows(),
            channels: shape.c4(),
            width: shape.c,
            epsilon: self.epsilon,
        };
        let (handle, bytes) = self.weight().expect("weight and bias");
        let bindings = vec![self.x.into(), Binding::Weight(handle, bytes), y.into()];
        l.dispatch(("layer_norm", self.x.elem.as_str()), &params, bindings, [1, shape.rows()], self.cost(y));
    }
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
        let params = StepParams { first: 0, count, flags: if self.guided() { GUIDED } else { 0 } };
        let bindings = [self.coefficients, self.model, self.noise, self.counters, self.sample, y];
        let bindings = bindings.into_iter().map(Binding::from).collect();
        l.dispatch(("step", self.model.elem.as_str()), &params, bindings, [1, count], self.cost(y));
    }
}
