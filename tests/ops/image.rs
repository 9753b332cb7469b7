//! Images as bytes.

use crate::harness::{Bench, ELEMS, on_gpu};
use crate::twin;
use tintype::plan::ops;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

/// The bytes of these values and, of the values as stored, the twin's.
fn bytes(elem: Elem, shape: Shape, values: Vec<f32>) -> (Vec<u8>, Vec<u8>) {
    let mut b = Bench::new(elem, Format::F32);
    let (x, seen) = b.input_of(shape, elem, values);
    let y = ops::image(&mut b.r, x);
    b.r.output("y", y);
    let got = on_gpu(move |gpu| {
        let ready = b.ready(gpu, |_| {});
        ready.run();
        ready.bytes("y")
    });
    let (picture, rest) = got.split_at(shape.rows() as usize * 4);
    // Four pixels are one element; those past the image are left alone.
    assert!(rest.iter().all(|&b| b == 0xff), "behind the image: {rest:?}");
    (picture.to_vec(), twin::image(&seen))
}

#[test]
fn levels() {
    for elem in ELEMS {
        for shape in [Shape::new(1, 1, 1, 3), Shape::new(1, 5, 7, 3), Shape::new(2, 17, 5, 3)] {
            let values = Bench::new(elem, Format::F32).random.values((shape.rows() * 3) as usize);
            // Some beyond -1 and 1.
            let (got, want) = bytes(elem, shape, values.into_iter().map(|v| v * 1.2).collect());
            assert_eq!(got, want, "{elem:?} {shape}");
        }
    }
}

#[test]
fn clamped() {
    for elem in ELEMS {
        let values = vec![-1.0, 1.0, -1.01, 1.01, 60000.0, -60000.0];
        let (got, _) = bytes(elem, Shape::new(1, 1, 2, 3), values);
        assert_eq!(got, [0, 255, 0, 255, 255, 255, 0, 255], "{elem:?}");
    }
}

#[test]
fn ties_go_to_even() {
    // Values whose level is n + 1/2 exactly when computed in f32, for as many n as there are.
    let level = |v: f32| (v / 2.0 + 0.5) * 255.0;
    let tie = |n: u32| {
        let start = ((f64::from(n) + 0.5) / 255.0 * 2.0 - 1.0) as f32;
        let near = (-4i32..=4).map(|d| f32::from_bits((start.to_bits() as i32 + d) as u32));
        near.into_iter().find(|&v| level(v) == n as f32 + 0.5)
    };
    let ties: Vec<(u32, f32)> = (0..255).filter_map(|n| Some((n, tie(n)?))).collect();
    assert!(ties.iter().filter(|(n, _)| n % 2 == 0).count() > 20, "too few ties to tell: {}", ties.len());
    let values: Vec<f32> = ties.iter().flat_map(|&(_, v)| [v; 3]).collect();
    let (got, _) = bytes(Elem::F32, Shape::new(1, 1, ties.len() as u32, 3), values);
    for (&(n, v), rgba) in ties.iter().zip(got.chunks(4)) {
        let even = n.next_multiple_of(2) as u8;
        assert_eq!(rgba, [even, even, even, 255], "{v} is level {n}.5");
    }
}
