//! Depthwise convolutions, and those of larger groups.

use crate::harness::{Bench, ELEMS, F32_LIMIT};
use crate::twin;
use tintype::nn::GroupConv;
use tintype::plan::ops::{self, Activation};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};
use tintype::weights::Rows;

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Shape,
    /// Inputs of a group, and height and width of the kernel.
    group: [u32; 2],
    bias: bool,
    gated: bool,
    activation: Activation,
}

impl Case {
    fn ready(self, elem: Elem) -> (Bench, tintype::plan::Tensor, Vec<f64>) {
        let Case { shape, group, bias, gated, activation } = self;
        let mut b = Bench::new(elem, Format::F32);
        let outputs = (shape.c, Rows::From(0), shape.c);
        let conv = GroupConv::declare(&mut b.d, "conv", outputs, group, bias);
        let w = b.fill();
        let (x, seen) = b.input(shape);
        let y = ops::GroupConv { gated, activation, ..conv.of(x) }.record(&mut b.r);
        let size = [shape.n, shape.h, shape.w].map(|n| n as usize);
        let bias = bias.then(|| &w["conv.bias"]);
        let made = twin::group_conv(&seen, size, &w["conv.weight"], bias, group.map(|n| n as usize));
        let made = if gated { twin::gated_halves(&made, shape.c as usize / 2) } else { made };
        (b, y, made.into_iter().map(|v| twin::activate(activation, v)).collect())
    }
}

/// Odd sizes, one pixel, channels that are not a whole number of any device's registers.
fn cases() -> Vec<Case> {
    let plain = Case {
        shape: Shape::new(2, 7, 9, 12),
        group: [1, 3],
        bias: true,
        gated: false,
        activation: Activation::None,
    };
    vec![
        plain,
        Case { shape: Shape::new(1, 1, 1, 4), activation: Activation::Silu, ..plain },
        Case { group: [1, 5], bias: false, shape: Shape::new(1, 6, 3, 40), ..plain },
        Case { gated: true, shape: Shape::new(2, 5, 11, 72), ..plain },
        Case { gated: true, bias: false, shape: Shape::new(1, 3, 3, 8), ..plain },
        Case { group: [16, 1], bias: false, shape: Shape::new(2, 3, 5, 48), ..plain },
        Case { group: [4, 3], shape: Shape::new(1, 9, 8, 20), activation: Activation::Relu, ..plain },
    ]
}

#[test]
fn groups_and_gates() {
    for case in cases() {
        for elem in ELEMS {
            let (b, y, want) = case.ready(elem);
            b.check(&format!("{elem:?} {case:?}"), y, &want, F32_LIMIT);
        }
    }
}

#[test]
fn on_the_cpu() {
    for case in cases() {
        let (b, y, want) = case.ready(Elem::F32);
        let got = b.run_on_cpu(y);
        if let Err(e) = crate::harness::compare(Elem::F32, &got, &want, F32_LIMIT) {
            panic!("{case:?}: {e}");
        }
    }
}
