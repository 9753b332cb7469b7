//! The copy that measures memory, and those that join and cut sequences.

use crate::harness::{Bench, ELEMS};
use crate::twin;
use tintype::plan::ops;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

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

/// One image and several, a sequence that is longer than the other and one that is shorter, channels that are padded.
#[test]
fn sequences_follow_one_another_in_each_picture() {
    for (n, s, t, c) in [(1, 1, 1, 4), (3, 5, 2, 8), (2, 3, 70, 6)] {
        for elem in ELEMS {
            let mut b = Bench::new(elem, Format::F32);
            let [(x, first), (z, second)] = [s, t].map(|tokens| b.input(Shape::tokens(n, tokens, c)));
            let y = ops::join(&mut b.r, x, z);
            assert_eq!(y.shape, Shape::tokens(n, s + t, c));
            b.check(
                &format!("{elem:?} {s} and {t} of {n}"),
                y,
                &twin::join(n as usize, &first, &second),
                0.0,
            );
        }
        let mut b = Bench::new(Elem::F32, Format::F32);
        let [(x, first), (z, second)] = [s, t].map(|tokens| b.input(Shape::tokens(n, tokens, c)));
        let y = ops::join(&mut b.r, x, z);
        let got: Vec<f64> = b.run_on_cpu(y).into_iter().map(f64::from).collect();
        assert_eq!(got, twin::join(n as usize, &first, &second));
    }
}

#[test]
fn a_part_of_each_sequence() {
    for elem in ELEMS {
        for (n, tokens, from, count) in [(1, 1, 0, 1), (3, 7, 2, 4), (2, 90, 20, 70)] {
            let mut b = Bench::new(elem, Format::F32);
            let (x, seen) = b.input(Shape::tokens(n, tokens, 8));
            let y = ops::slice(&mut b.r, x, from, count);
            let want = twin::slice(&seen, n as usize, 8, from as usize, count as usize);
            b.check(&format!("{elem:?} {count} from {from} of {tokens}"), y, &want, 0.0);
        }
    }
}
