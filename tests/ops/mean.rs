//! Means of four pixels, at even and odd sizes.

use crate::harness::{Bench, ELEMS, F32_LIMIT, compare};
use crate::twin;
use tintype::plan::Tensor;
use tintype::plan::ops;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

const SHAPES: [Shape; 6] = [
    Shape { n: 1, h: 2, w: 2, c: 4 },
    Shape { n: 1, h: 1, w: 1, c: 8 },
    Shape { n: 2, h: 6, w: 10, c: 12 },
    Shape { n: 2, h: 5, w: 8, c: 6 },
    Shape { n: 3, h: 4, w: 7, c: 20 },
    Shape { n: 2, h: 9, w: 13, c: 3 },
];

fn record(elem: Elem, shape: Shape) -> (Bench, Tensor, Vec<f64>) {
    let mut b = Bench::new(elem, Format::F32);
    let (x, seen) = b.input(shape);
    let y = ops::mean(&mut b.r, x);
    let Shape { n, h, w, c } = shape;
    (b, y, twin::mean(&seen, [n, h, w, c].map(|v| v as usize)))
}

#[test]
fn even_and_odd_sizes() {
    for elem in ELEMS {
        for shape in SHAPES {
            let (b, y, want) = record(elem, shape);
            b.check(&format!("{elem:?} {shape}"), y, &want, F32_LIMIT);
        }
    }
}

#[test]
fn on_the_cpu() {
    for shape in SHAPES {
        let (b, y, want) = record(Elem::F32, shape);
        compare(Elem::F32, &b.run_on_cpu(y), &want, F32_LIMIT).unwrap_or_else(|e| panic!("{shape}: {e}"));
    }
}
