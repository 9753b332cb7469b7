//! Scaling on the way into a network, and every activation by itself.

use super::ACTIVATIONS;
use crate::harness::{Bench, ELEMS, F32_LIMIT, HALF_MAX, HALVES, lanes, on_gpu};
use crate::twin;
use tintype::plan::Tensor;
use tintype::plan::ops::{self, Activation};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

/// `y = act(a x + b)` of these values.
fn record(
    elem: Elem,
    shape: Shape,
    values: Vec<f32>,
    (a, b): (f32, f32),
    images: u32,
    activation: Activation,
) -> (Bench, Tensor, Vec<f64>) {
    let mut bench = Bench::new(elem, Format::F32);
    let (x, seen) = bench.input_of(shape, Elem::F32, values);
    let (coefficients, _) = bench.input_of(Shape::new(1, 1, 1, 4), Elem::F32, vec![a, b, 77.0, 78.0]);
    let y = ops::scale(&mut bench.r, x, coefficients, images, activation);
    let times = (images / shape.n) as usize;
    (bench, y, twin::scale(&seen, f64::from(a), f64::from(b), times, activation))
}

#[test]
fn shapes_and_repeats() {
    for elem in ELEMS {
        for (shape, images) in [
            (Shape::new(1, 1, 1, 4), 1),
            (Shape::new(1, 5, 7, 3), 2),
            (Shape::new(2, 5, 7, 4), 4),
            (Shape::new(1, 3, 17, 12), 3),
            (Shape::new(2, 3, 5, 9), 2),
        ] {
            let values = Bench::new(elem, Format::F32).random.values((shape.rows() * shape.c) as usize);
            let (b, y, want) = record(elem, shape, values, (0.18215, -0.5), images, Activation::None);
            b.check(&format!("{shape} to {images}"), y, &want, F32_LIMIT);
        }
    }
}

#[test]
fn padding_stays_zero() {
    for elem in ELEMS {
        for channels in [1, 3, 6] {
            let shape = Shape::new(1, 5, 7, channels);
            let values = vec![0.5; 35 * channels as usize];
            let (mut b, y, _) = record(elem, shape, values, (1.0, 1.0), 2, Activation::Signed);
            b.r.output("y", y);
            let stored = on_gpu(move |gpu| {
                let ready = b.ready(gpu, |_| {});
                ready.run();
                lanes(elem, &ready.bytes("y"))
            });
            for pixel in stored.chunks(shape.c4() as usize * 4) {
                let (real, padding) = pixel.split_at(channels as usize);
                assert!(real.iter().all(|&v| v == 2.0) && padding.iter().all(|&v| v == 0.0), "{pixel:?}");
            }
        }
    }
}

#[test]
fn every_activation_at_every_size() {
    for activation in ACTIVATIONS {
        // Small values by themselves, where 1 - exp and erf could cancel; then past where exp overflows.
        for range in [1e-3, 0.5, 4.0, 300.0] {
            let values = Bench::new(Elem::F32, Format::F32).random.values(400);
            let values = values.into_iter().map(|v| v * range).collect();
            let (b, y, want) = record(Elem::F32, Shape::new(1, 10, 10, 4), values, (1.0, 0.0), 1, activation);
            b.check(&format!("{activation:?} to {range}"), y, &want, F32_LIMIT);
        }
    }
}

#[test]
fn halves_stop_at_the_largest() {
    for elem in HALVES {
        let values = vec![65504.0, 65520.0, 1e30, -1e30];
        let (b, y, _) = record(elem, Shape::new(1, 1, 1, 4), values, (1.0, 0.0), 1, Activation::None);
        let largest = HALF_MAX as f32;
        assert_eq!(b.run(y), [largest, largest, largest, -largest], "{elem:?}");
    }
}
