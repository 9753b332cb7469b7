//! The chains that measure arithmetic.

use crate::harness::{Bench, F32_LIMIT};
use crate::twin;
use tintype::plan::ops;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

#[test]
fn ends_of_chains() {
    // In halves each of the last roundings, 2^-11, moves a chain by four of itself at most.
    for (elem, limit) in [(Elem::F32, F32_LIMIT), (Elem::F16, 4.0 / 2048.0)] {
        for shape in [Shape::new(1, 1, 1, 4), Shape::new(3, 17, 90, 4)] {
            let mut b = Bench::new(elem, Format::F32);
            let (x, seen) = b.input(shape);
            let y = ops::multiply_add(&mut b.r, x);
            b.check(&format!("{elem:?} {shape}"), y, &twin::multiply_add(&seen), limit);
        }
    }
}
