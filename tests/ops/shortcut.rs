//! Shortcuts around changes of size.

use crate::harness::{Bench, ELEMS, F32_LIMIT, compare};
use crate::twin;
use tintype::plan::{Tensor, ops};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

/// Of the smaller side: images, height, width, channels; pixels of a square; channels of the larger side.
const CASES: [([u32; 4], u32, u32); 6] = [
    ([1, 1, 1, 4], 2, 4),
    ([2, 3, 5, 16], 2, 8),
    ([1, 4, 70, 8], 2, 8),
    ([2, 2, 3, 16], 2, 4),
    ([1, 5, 7, 8], 1, 32),
    ([1, 3, 2, 36], 3, 8),
];

fn ready(
    elem: Elem,
    back: bool,
    ([n, h, w, c], size, wide): ([u32; 4], u32, u32),
) -> (Bench, Tensor, Vec<f64>) {
    let mut b = Bench::new(elem, Format::F32);
    let small = Shape::new(n, h, w, c);
    let large = Shape::new(n, h * size, w * size, wide);
    let (x, seen) = b.input(if back { small } else { large });
    let (s, side) = (x.shape, size as usize);
    let sizes = [s.n, s.h, s.w, s.c].map(|n| n as usize);
    let (y, want) = match back {
        true => (ops::grow(&mut b.r, x, size, wide), twin::grow(&seen, sizes, side, wide as usize)),
        false => (ops::shrink(&mut b.r, x, size, c), twin::shrink(&seen, sizes, side, c as usize)),
    };
    assert_eq!(y.shape, if back { large } else { small });
    (b, y, want)
}

#[test]
fn means_and_copies() {
    for case in CASES {
        for back in [false, true] {
            for elem in ELEMS {
                let (b, y, want) = ready(elem, back, case);
                b.check(
                    &format!("{elem:?} {case:?}, back: {back}"),
                    y,
                    &want,
                    if back { 0.0 } else { F32_LIMIT },
                );
            }
            let (b, y, want) = ready(Elem::F32, back, case);
            if let Err(e) = compare(Elem::F32, &b.run_on_cpu(y), &want, F32_LIMIT) {
                panic!("{case:?}, back: {back}: {e}");
            }
        }
    }
}

/// Of small numbers every place is known: two channels of a pixel become the four pixels of one.
#[test]
fn channels_are_repeated_in_their_place() {
    let mut b = Bench::new(Elem::F32, Format::F32);
    let values = (0..8).map(|v| v as f32).collect();
    let (x, _) = b.input_of(Shape::new(1, 1, 1, 8), Elem::F32, values);
    let y = ops::grow(&mut b.r, x, 2, 4);
    let got = b.run(y);
    assert_eq!(got[..4], [0.0, 2.0, 4.0, 6.0]);
    assert_eq!(got[12..], [1.0, 3.0, 5.0, 7.0]);
}
