//! What is wrong with a network's values is counted, and nothing hides it on the way.

use tintype::nn::GroupNorm;
use tintype::plan::ops::{self, Activation, Attention};
use tintype::plan::{Faults, Tensor};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

use crate::harness::{Bench, ELEMS, on_gpu};

/// The counters after a run that begins with zeros.
fn count(mut b: Bench) -> Faults {
    b.inputs.push(("watch".to_owned(), vec![0.0; 4]));
    on_gpu(move |gpu| {
        let ready = b.ready(gpu, |program| {
            let watch = program.plan.inputs["watch"];
            program.plan.outputs.insert("counters".to_owned(), watch);
        });
        ready.run();
        let bytes = ready.bytes("counters");
        Faults::stored([0, 4].map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())))
    })
}

/// So many values, of which every one in `put` stands at its place.
fn with(count: usize, put: &[(usize, f32)]) -> Vec<f32> {
    let mut values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
    put.iter().for_each(|&(at, v)| values[at] = v);
    values
}

/// Halves at the limit, which f32 has no count of.
fn limits(elem: Elem, count: u32) -> u32 {
    if elem == Elem::F32 { 0 } else { count }
}

#[test]
fn statistics_count_both_inputs() {
    for elem in ELEMS {
        let mut b = Bench::new(elem, Format::F32);
        let norm = GroupNorm::declare(&mut b.d, "norm", 20, 2, 1e-5);
        b.fill();
        // Two images of two slabs.
        let shape = Shape::new(2, 9, 10, 12);
        let put = [
            (0, f32::NAN),
            (77, f32::INFINITY),
            (1079, -65504.0),
            (1080, 65504.0),
            (2159, f32::NEG_INFINITY),
        ];
        let (x, _) = b.input_of(shape, elem, with(2160, &put));
        let (x2, _) =
            b.input_of(shape.with_c(8), elem, with(1440, &[(5, -f32::NAN), (1439, 65504.0), (700, 65472.0)]));
        norm.record(&mut b.r, x, Some(x2), Activation::Silu);
        assert_eq!(count(b), Faults { not_finite: 4, clamped: limits(elem, 3) }, "{elem:?}");
    }
}

#[test]
fn a_step_counts_the_model_output() {
    for elem in ELEMS {
        for guided in [false, true] {
            let mut b = Bench::new(elem, Format::F32);
            let shape = Shape::new(1, 5, 7, 4);
            let (k, _) = b.input_of(Shape::new(1, 1, 3, 4), Elem::F32, with(12, &[]));
            let images = if guided { 2 } else { 1 };
            let put = [(3, f32::NAN), (139, 65504.0), (140 * images - 2, f32::NEG_INFINITY)];
            let (model, _) = b.input_of(Shape { n: images as u32, ..shape }, elem, with(140 * images, &put));
            let [(noise, _), (sample, _)] = [(); 2].map(|()| b.input_of(shape, Elem::F32, with(140, &[])));
            let (past, _) = b.input_of(Shape { n: 4, ..shape }, Elem::F32, with(560, &[]));
            ops::step(&mut b.r, k, model, noise, sample, past);
            let wanted = Faults { not_finite: 2, clamped: limits(elem, 1) };
            assert_eq!(count(b), wanted, "{elem:?}, guided: {guided}");
        }
    }
}

#[test]
fn an_image_counts_its_values() {
    for elem in ELEMS {
        let mut b = Bench::new(elem, Format::F32);
        let put = [(0, f32::NAN), (1, 65504.0), (104, f32::INFINITY), (52, -f32::NAN)];
        let (x, _) = b.input_of(Shape::new(1, 5, 7, 3), elem, with(105, &put));
        ops::image(&mut b.r, x);
        assert_eq!(count(b), Faults { not_finite: 3, clamped: limits(elem, 1) }, "{elem:?}");
    }
}

#[test]
fn nothing_is_counted_where_nothing_is_wrong() {
    for elem in ELEMS {
        let mut b = Bench::new(elem, Format::F32);
        let (x, _) = b.input_of(Shape::new(1, 5, 7, 3), elem, with(105, &[(7, 65472.0), (8, -65472.0)]));
        ops::image(&mut b.r, x);
        assert_eq!(count(b), Faults::default(), "{elem:?}");
    }
}

/// A value, and whether what became of it is not a number.
fn kept(b: Bench, y: Tensor) -> Vec<bool> {
    b.run(y).into_iter().map(|v| v.is_nan()).collect()
}

#[test]
fn no_activation_hides_what_is_not_a_number() {
    // A soft clamp is applied to latents alone, which the host looks at.
    let activations = super::ACTIVATIONS.into_iter().filter(|a| *a != Activation::SoftClamp);
    for activation in activations {
        for elem in ELEMS {
            let mut b = Bench::new(elem, Format::F32);
            let values: Vec<f32> = [f32::NAN, -f32::NAN].repeat(4);
            let (x, _) = b.input_of(Shape::tokens(1, 2, 4), Elem::F32, values);
            let (k, _) = b.input_of(Shape::new(1, 1, 1, 4), Elem::F32, vec![1.0, 0.0, 0.0, 0.0]);
            let y = ops::scale(&mut b.r, x, k, 1, activation);
            let found = kept(b, y);
            assert!(found.iter().all(|nan| *nan), "{activation:?} {elem:?}: {found:?}");
        }
    }
}

#[test]
fn attention_does_not_hide_what_is_not_a_number() {
    for elem in ELEMS {
        for which in 0..3 {
            let mut b = Bench::new(elem, Format::F32);
            let shape = Shape::tokens(1, 5, 8);
            let mut input = |at| {
                let put = if at == which { vec![(9, f32::NAN)] } else { vec![] };
                b.input_of(shape, elem, with(40, &put)).0
            };
            let [q, k, v] = [0, 1, 2].map(&mut input);
            let attention = Attention::of((q, 0), (k, 0), (v, 0), 2, 4);
            let y = attention.record(&mut b.r);
            let found = kept(b, y);
            // Row 1 of the first head alone, or every query of it.
            let wanted = |i: usize| match which {
                0 => i / 8 == 1 && i % 8 < 4,
                1 => i % 8 < 4,
                _ => i % 8 == 1,
            };
            let right = found.iter().enumerate().all(|(i, nan)| *nan == wanted(i));
            assert!(right, "{elem:?}, input {which}: {found:?}");
        }
    }
}
