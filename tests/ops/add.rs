//! The scaled sum: a factor for each image, chosen by slot.

use crate::harness::{Bench, ELEMS, F32_LIMIT, HALF_MAX, HALVES, compare};
use crate::twin;
use tintype::plan::Tensor;
use tintype::plan::ops;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

/// Factors of `images` images, a thousand in each place that is not read.
fn scales(b: &mut Bench, images: u32, slots: u32, slot: u32) -> (Tensor, Vec<f64>) {
    let k: Vec<f32> = (0..images).map(|n| [0.75, -1.5, 0.0, 2.25][n as usize % 4]).collect();
    let mut values = vec![1e3; (images * slots * 4) as usize];
    for (n, &k) in k.iter().enumerate() {
        values[(n * slots as usize + slot as usize) * 4] = k;
    }
    let (tensor, _) = b.input_of(Shape::new(images, 1, slots, 4), Elem::F32, values);
    (tensor, k.into_iter().map(f64::from).collect())
}

/// `b` has `pictures`, as many as `shape` or one.
fn record(elem: Elem, shape: Shape, pictures: u32, (slots, slot): (u32, u32)) -> (Bench, Tensor, Vec<f64>) {
    let mut bench = Bench::new(elem, Format::F32);
    let (scales, k) = scales(&mut bench, shape.n, slots, slot);
    let (a, a_seen) = bench.input(shape);
    let (b, b_seen) = bench.input(Shape { n: pictures, ..shape });
    let y = ops::add(&mut bench.r, scales, slot, a, b);
    (bench, y, twin::add(&k, &a_seen, &b_seen))
}

fn check(elem: Elem, shape: Shape, pictures: u32, slot: (u32, u32)) {
    let (bench, y, want) = record(elem, shape, pictures, slot);
    let what = format!("{elem:?} {shape}, {pictures} added, slot {} of {}", slot.1, slot.0);
    bench.check(&what, y, &want, F32_LIMIT);
}

#[test]
fn a_factor_for_each_picture() {
    for elem in ELEMS {
        for slot in [(1, 0), (3, 0), (3, 1), (3, 2)] {
            check(elem, Shape::new(1, 1, 1, 4), 1, slot);
            check(elem, Shape::new(2, 5, 7, 12), 2, slot);
            check(elem, Shape::new(3, 3, 5, 9), 3, slot);
        }
    }
}

#[test]
fn one_picture_for_all() {
    for elem in ELEMS {
        check(elem, Shape::new(2, 5, 7, 12), 1, (2, 1));
        check(elem, Shape::new(4, 3, 5, 6), 1, (1, 0));
    }
}

#[test]
fn on_the_cpu() {
    for (pictures, slot) in [(3, (1, 0)), (3, (4, 2)), (1, (2, 1))] {
        let (bench, y, want) = record(Elem::F32, Shape::new(3, 5, 7, 6), pictures, slot);
        let judged = compare(Elem::F32, &bench.run_on_cpu(y), &want, F32_LIMIT);
        judged.unwrap_or_else(|e| panic!("{pictures} added, slot {slot:?}: {e}"));
    }
}

#[test]
fn halves_stop_at_the_largest() {
    for elem in HALVES {
        let mut b = Bench::new(elem, Format::F32);
        let shape = Shape::new(1, 1, 1, 4);
        let (scales, _) = b.input_of(shape, Elem::F32, vec![2.0; 4]);
        let (x, _) = b.input_of(shape, elem, vec![4e4, -4e4, 1.0, 0.0]);
        let y = ops::add(&mut b.r, scales, 0, x, x);
        let largest = HALF_MAX as f32;
        assert_eq!(b.run(y), [largest, -largest, 3.0, 0.0], "{elem:?}");
    }
}
