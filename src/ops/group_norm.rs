//! Group norm in three kernels: statistics, scale and shift, application.

use super::{Activation, joined};
use crate::kernels::{NormApplyParams, NormScaleParams, NormStatsParams, find};
use crate::plan::{Binding, Cost, Recorder, Step, Tensor};
use crate::shape::{Elem, Shape};
use crate::weights::Handle;

/// Pixels of one slab at least, and slabs of one picture at most: enough threads for a small picture,
/// few enough partial results for a large one.
const SLAB: u32 = 64;
const SLABS: u32 = 64;

/// `act(group_norm(x))` over `groups` groups of channels, of `x` or of `x` and `x2` side by side.
pub fn group_norm(
    r: &mut Recorder,
    weight: Handle,
    groups: u32,
    epsilon: f32,
    x: Tensor,
    x2: Option<Tensor>,
    activation: Activation,
) -> Tensor {
    let shape = joined(x, x2);
    let (images, pixels, channels) = (shape.n, shape.pixels(), shape.c4());
    assert!(shape.c.is_multiple_of(groups) && shape.c.is_multiple_of(4), "{groups} groups of {shape}");
    let slab = pixels.div_ceil(SLABS).max(SLAB);
    let slabs = pixels.div_ceil(slab);
    let (channels1, channels2) = (x.shape.c4(), x2.map_or(0, |t| t.shape.c4()));
    let elem = x.elem.as_str();

    let stats = r.tensor_of(Shape::new(images, slabs, 2, shape.c), Elem::F32);
    let watch = r.watch();
    let params = NormStatsParams { first: 0, images, pixels, channels1, channels2, slabs, slab };
    r.step(Step {
        variant: find("norm_stats", elem),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![x.into(), x2.into(), watch.into(), stats.into()],
        threads: [channels, images * slabs],
        cost: Cost { model_flops: 0, executed_flops: 16 * shape.vec4s() },
    });

    let affine = r.tensor_of(Shape::new(images, 1, 2, shape.c), Elem::F32);
    let group = shape.c / groups;
    let params = NormScaleParams { first: 0, images, pixels, channels, group, slabs, slab, epsilon };
    r.step(Step {
        variant: find("norm_scale", ""),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![stats.into(), Binding::Weight(weight, u64::from(shape.c) * 8), affine.into()],
        threads: [channels, images],
        cost: Cost {
            model_flops: 0,
            executed_flops: 8 * u64::from(images * slabs) * u64::from(group) * u64::from(shape.c),
        },
    });

    let y = r.tensor(shape);
    let params =
        NormApplyParams { first: 0, images, pixels, channels1, channels2, activation: activation as u32 };
    r.step(Step {
        variant: find("norm_apply", elem),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![x.into(), x2.into(), affine.into(), y.into()],
        threads: [channels, shape.rows()],
        cost: Cost { model_flops: 0, executed_flops: 16 * shape.vec4s() },
    });
    y
}
