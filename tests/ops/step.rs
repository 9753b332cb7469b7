//! One step of a scheduler, in place.

use crate::harness::{Bench, ELEMS, F32_LIMIT, compare, on_gpu};
use crate::twin::{self, Coefficients};
use tintype::plan::ops;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

const PLAIN: Coefficients = Coefficients {
    a: 1.25,
    b: -0.75,
    clip: 1e30,
    guidance: 0.0,
    c: 0.5,
    d: 0.25,
    e: 0.0,
    f: 0.0,
    before: [0.0; 3],
    remembers: false,
};

fn check(elem: Elem, k: Coefficients, guided: bool) {
    let mut b = Bench::new(elem, Format::F32);
    let shape = Shape::new(2, 5, 7, 4);
    let [b1, b2, b3] = k.before;
    let remembers = if k.remembers { 1.0 } else { 0.0 };
    let values = [k.a, k.b, k.clip, k.guidance, k.c, k.d, k.e, k.f, b1, b2, b3, remembers];
    let values = values.map(|v| v as f32).to_vec();
    let (coefficients, _) = b.input_of(Shape::new(1, 1, 3, 4), Elem::F32, values);
    let (model, m) = b.input(Shape { n: if guided { 4 } else { 2 }, ..shape });
    let mut f32_input = |times: u32| {
        let shape = Shape { n: times * shape.n, ..shape };
        let values = b.random.values(280 * times as usize);
        b.input_of(shape, Elem::F32, values)
    };
    let ((noise, n), (sample, x), (predictions, past)) = (f32_input(1), f32_input(1), f32_input(4));
    ops::step(&mut b.r, coefficients, model, noise, sample, predictions);
    b.r.output("sample", sample);
    b.r.output("predictions", predictions);
    let [got, got_past] = on_gpu(move |gpu| {
        let ready = b.ready(gpu, |_| {});
        ready.run();
        [ready.values("sample"), ready.values("predictions")]
    });
    let (want, want_past) = twin::step(k, &m, &n, &x, &past);
    for (what, got, want) in [("sample", got, want), ("predictions", got_past, want_past)] {
        compare(Elem::F32, &got, &want, F32_LIMIT).unwrap_or_else(|e| panic!("{what}, {elem:?}: {e}"));
    }
}

#[test]
fn with_and_without_guidance() {
    for elem in ELEMS {
        check(elem, PLAIN, false);
        check(elem, Coefficients { guidance: 7.5, ..PLAIN }, true);
        // A guidance scale is nothing to a batch that is not doubled.
        check(elem, Coefficients { guidance: 7.5, ..PLAIN }, false);
    }
}

#[test]
fn noise_and_the_model_itself() {
    check(Elem::F32, Coefficients { e: -0.375, f: 1.5, ..PLAIN }, false);
    check(Elem::F32, Coefficients { guidance: 2.0, e: 0.625, f: -0.25, ..PLAIN }, true);
}

#[test]
fn predictions_from_before() {
    let before = [-0.5, 0.75, -1.25];
    check(Elem::F32, Coefficients { before, ..PLAIN }, false);
    check(Elem::F32, Coefficients { before, remembers: true, ..PLAIN }, false);
    check(Elem::Pack16, Coefficients { before, remembers: true, guidance: 3.0, ..PLAIN }, true);
}

#[test]
fn clip() {
    check(Elem::F32, Coefficients { clip: 0.5, e: 1.0, f: 1.0, ..PLAIN }, false);
    check(Elem::Pack16, Coefficients { clip: 1.0, guidance: 7.5, ..PLAIN }, true);
}
