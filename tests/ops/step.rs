//! One step of a scheduler, in place.

use crate::harness::{Bench, ELEMS, F32_LIMIT, compare, on_gpu};
use crate::twin::{self, Coefficients};
use tintype::ops;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

const PLAIN: Coefficients =
    Coefficients { a: 1.25, b: -0.75, clip: 1e30, guidance: 0.0, c: 0.5, d: 0.25, e: 0.0, f: 0.0 };

fn check(elem: Elem, k: Coefficients, guided: bool) {
    let mut b = Bench::new(elem, Format::F32);
    let shape = Shape::new(2, 5, 7, 4);
    let values = [k.a, k.b, k.clip, k.guidance, k.c, k.d, k.e, k.f].map(|v| v as f32).to_vec();
    let (coefficients, _) = b.input_of(Shape::new(1, 1, 2, 4), Elem::F32, values);
    let (model, m) = b.input(Shape { n: if guided { 4 } else { 2 }, ..shape });
    let mut f32_input = || {
        let values = b.random.values(280);
        b.input_of(shape, Elem::F32, values)
    };
    let ((noise, n), (sample, x), (clean, x0)) = (f32_input(), f32_input(), f32_input());
    ops::step(&mut b.r, coefficients, model, noise, sample, clean);
    b.r.output("sample", sample);
    b.r.output("clean", clean);
    let [got, got_clean] = on_gpu(move |gpu| {
        let ready = b.ready(gpu, |_| {});
        ready.run(gpu);
        [ready.values(gpu, "sample"), ready.values(gpu, "clean")]
    });
    let (want, want_clean) = twin::step(k, &m, &n, &x, &x0);
    for (what, got, want) in [("sample", got, want), ("clean", got_clean, want_clean)] {
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
fn noise_and_the_original_before() {
    check(Elem::F32, Coefficients { e: -0.375, f: 1.5, ..PLAIN }, false);
    check(Elem::F32, Coefficients { guidance: 2.0, e: 0.625, f: -0.25, ..PLAIN }, true);
}

#[test]
fn clip() {
    check(Elem::F32, Coefficients { clip: 0.5, e: 1.0, f: 1.0, ..PLAIN }, false);
    check(Elem::Pack16, Coefficients { clip: 1.0, guidance: 7.5, ..PLAIN }, true);
}
