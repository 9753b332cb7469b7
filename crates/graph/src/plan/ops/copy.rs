//! A copy: whole, for measuring how fast a device moves memory, of two sequences one behind the other, and of a part of one.

use super::Operator;
use crate::plan::{Cost, Recorder, Tensor};
use crate::shape::Shape;

/// `y = x`.
#[derive(Clone, Copy, Debug)]
pub struct CopyTensor {
    pub x: Tensor,
}

impl Operator for CopyTensor {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn cost(&self, _: Tensor) -> Cost {
        Cost::default()
    }
}

pub fn copy(r: &mut Recorder, x: Tensor) -> Tensor {
    let y = r.tensor_of(x.shape, x.elem);
    r.record(CopyTensor { x }, y)
}

/// The tokens of `a` and behind them those of `b`, `[N, S, C]` and `[N, T, C]` to `[N, S + T, C]`.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    pub a: Tensor,
    pub b: Tensor,
}

impl Operator for Join {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.a, self.b]
    }

    fn cost(&self, _: Tensor) -> Cost {
        Cost::default()
    }
}

pub fn join(r: &mut Recorder, a: Tensor, b: Tensor) -> Tensor {
    let (s, t) = (a.shape, b.shape);
    assert!((s.n, s.c, a.elem) == (t.n, t.c, b.elem), "{s} and {t} one behind the other");
    let y = r.tensor_of(Shape::tokens(s.n, s.pixels() + t.pixels(), s.c), a.elem);
    r.record(Join { a, b }, y)
}

/// Tokens from `from` on of every sequence, `[N, S, C]` to `[N, T, C]`.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    pub x: Tensor,
    pub from: u32,
}

impl Operator for Slice {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn cost(&self, _: Tensor) -> Cost {
        Cost::default()
    }
}

/// The `count` tokens from `from` on.
pub fn slice(r: &mut Recorder, x: Tensor, from: u32, count: u32) -> Tensor {
    assert!(from + count <= x.shape.pixels(), "tokens {from} to {} of {}", from + count, x.shape);
    let y = r.tensor_of(Shape::tokens(x.shape.n, count, x.shape.c), x.elem);
    r.record(Slice { x, from }, y)
}
