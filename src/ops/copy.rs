//! A copy: whole, for measuring how fast a device moves memory, and of two sequences one behind the other.

use crate::kernels::{CopyParams, find};
use crate::plan::{Cost, Recorder, Step, Tensor};
use crate::shape::Shape;

pub fn copy(r: &mut Recorder, x: Tensor) -> Tensor {
    let y = r.tensor_of(x.shape, x.elem);
    let (rows, values) = (x.shape.n * x.shape.h, x.shape.w * x.shape.c4());
    step(r, x, y, CopyParams { first: 0, rows, values, at: 0, stride: values });
    y
}

/// The tokens of `a` and behind them those of `b`, `[N, S, C]` and `[N, T, C]` to `[N, S + T, C]`.
pub fn join(r: &mut Recorder, a: Tensor, b: Tensor) -> Tensor {
    let (s, t) = (a.shape, b.shape);
    assert!((s.n, s.c, a.elem) == (t.n, t.c, b.elem), "{s} and {t} one behind the other");
    let y = r.tensor_of(Shape::tokens(s.n, s.pixels() + t.pixels(), s.c), a.elem);
    let stride = y.shape.pixels() * s.c4();
    let mut at = 0;
    for x in [a, b] {
        let values = x.shape.pixels() * s.c4();
        step(r, x, y, CopyParams { first: 0, rows: s.n, values, at, stride });
        at += values;
    }
    y
}

fn step(r: &mut Recorder, x: Tensor, y: Tensor, params: CopyParams) {
    r.step(Step {
        variant: find("copy", x.elem.as_str()),
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![x.into(), y.into()],
        threads: [params.values, params.rows],
        cost: Cost::default(),
    });
}
