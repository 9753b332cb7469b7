//! The copy that measures memory.

use crate::harness::{Bench, ELEMS};
use crate::twin;
use tintype::ops;
use tintype::quant::Format;
use tintype::shape::Shape;

#[test]
fn every_value() {
    for elem in ELEMS {
        for shape in [Shape::new(1, 1, 2, 4), Shape::new(3, 17, 90, 4)] {
            let mut b = Bench::new(elem, Format::F32);
            let (x, seen) = b.input(shape);
            let y = ops::copy(&mut b.r, x);
            b.check(&format!("{elem:?} {shape}"), y, &twin::copy(&seen), 0.0);
        }
    }
}
