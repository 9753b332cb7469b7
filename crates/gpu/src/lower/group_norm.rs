//! Group norm in three kernels: statistics of slabs, scale and shift of channels, their application.

use super::{Lower, Lowering};
use crate::kernels::{NormApplyParams, NormScaleParams, NormStatsParams};
use crate::plan::ops::{GroupNorm, Operator};
use crate::plan::{Cost, Tensor};
use crate::program::Binding;
use crate::shape::Shape;

impl Lower for GroupNorm {
    fn lower(&self, l: &mut Lowering, y: Tensor) {
        let (shape, [slab, slabs]) = (self.shape(), self.slabs());
        let (images, pixels, channels) = (shape.n, shape.pixels(), shape.c4());
        let (channels1, channels2) = (self.x.shape.c4(), self.x2.map_or(0, |t| t.shape.c4()));
        let elem = self.x.elem.as_str();
        let [x, x2] = [self.x.into(), Binding::from(self.x2)];
        let [stats_cost, scale_cost, apply_cost] =
            self.flops().map(|executed_flops| Cost { model_flops: 0, executed_flops });

        let stats = l.workspace(Shape::new(images, slabs, 2, shape.c));
        let params = NormStatsParams { first: 0, images, pixels, channels1, channels2, slabs, slab };
        let bindings = vec![x, x2, self.counters.into(), stats.into()];
        l.dispatch(("norm_stats", elem), &params, bindings, [channels, images * slabs], stats_cost);

        let affine = l.workspace(Shape::new(images, 1, 2, shape.c));
        let (group, epsilon) = (shape.c / self.groups, self.epsilon);
        let params = NormScaleParams { first: 0, images, pixels, channels, group, slabs, slab, epsilon };
        let (handle, bytes) = self.weight().expect("weight and bias");
        let bindings = vec![stats.into(), Binding::Weight(handle, bytes), affine.into()];
        l.dispatch(("norm_scale", ""), &params, bindings, [channels, images], scale_cost);

        let activation = self.activation as u32;
        let params = NormApplyParams { first: 0, images, pixels, channels1, channels2, activation };
        let bindings = vec![x, x2, affine.into(), y.into()];
        l.dispatch(("norm_apply", elem), &params, bindings, [channels, shape.rows()], apply_cost);
    }
}
