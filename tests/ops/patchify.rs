//! Squares of pixels, and back.

use crate::harness::{Bench, ELEMS};
use crate::twin;
use tintype::plan::ops;
use tintype::quant::Format;
use tintype::shape::Shape;

#[test]
fn every_value_has_its_place() {
    for elem in ELEMS {
        for (n, h, w, c, size) in [(1, 2, 2, 4, 2), (3, 6, 10, 16, 2), (2, 9, 3, 4, 3), (2, 5, 70, 8, 1)] {
            let shape = Shape::new(n, h, w, c);
            let mut b = Bench::new(elem, Format::F32);
            let (x, seen) = b.input(shape);
            let y = ops::patchify(&mut b.r, x, size);
            assert_eq!(y.shape, Shape::new(n, h / size, w / size, c * size * size));
            let sizes = [n, h, w, c].map(|n| n as usize);
            let want = twin::patchify(&seen, sizes, size as usize);
            b.check(&format!("{elem:?} {shape} in squares of {size}"), y, &want, 0.0);

            let squares = Shape::new(n, h, w, c * size * size);
            let mut b = Bench::new(elem, Format::F32);
            let (x, seen) = b.input(squares);
            let y = ops::unpatchify(&mut b.r, x, size);
            assert_eq!(y.shape, Shape::new(n, h * size, w * size, c));
            let sizes = [n, h, w, squares.c].map(|n| n as usize);
            let want = twin::unpatchify(&seen, sizes, size as usize);
            b.check(&format!("{elem:?} {squares} from squares of {size}"), y, &want, 0.0);
        }
    }
}
