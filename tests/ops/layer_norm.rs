//! Layer norm and RMS norm over rows.

use crate::harness::{Bench, ELEMS, F32_LIMIT, compare};
use crate::twin;
use tintype::nn::{LayerNorm, RmsNorm};
use tintype::plan::ops::{self, Activation, Modulation, NormKind};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

const EPSILON: f32 = 1e-5;

fn check(elem: Elem, shape: Shape, values: Option<Vec<f32>>, limit: f64) {
    let mut b = Bench::new(elem, Format::F32);
    let norm = LayerNorm::declare(&mut b.d, "norm", shape.c, EPSILON);
    let w = b.fill();
    let (x, seen) = match values {
        Some(values) => b.input_of(shape, elem, values),
        None => b.input(shape),
    };
    let y = norm.record(&mut b.r, x);
    let want = twin::layer_norm(&seen, &w["norm.weight"], &w["norm.bias"], f64::from(EPSILON));
    b.check(&format!("layer norm of {shape}"), y, &want, limit);
}

#[test]
fn rows_and_widths() {
    for elem in ELEMS {
        for (rows, width) in [(1, 4), (17, 12), (130, 20), (5, 320)] {
            check(elem, Shape::tokens(2, rows, width), None, F32_LIMIT);
        }
    }
}

#[test]
fn mean_much_larger_than_deviation() {
    let shape = Shape::tokens(1, 17, 320);
    let noise = Bench::new(Elem::F32, Format::F32).random.values(17 * 320);
    let values: Vec<f32> = noise.into_iter().map(|v| 1000.0 + v).collect();
    // A lane's sum of 80 values near 1000 rounds 80 times by up to 2^-24 of 80000, at random some
    // sqrt(80) * 0.0048 / sqrt(3) = 0.025; over 320 values and four lanes that shifts the mean by 1.5e-4, where
    // the deviation is 0.58. E[x^2] - E[x]^2 would round by 0.06 of 1e6 and miss the variance by a tenth.
    check(Elem::F32, shape, Some(values), 1e-3);
}

#[test]
fn epsilon_counts() {
    // Variance 3e-7, far below epsilon.
    let noise = Bench::new(Elem::F32, Format::F32).random.values(17 * 12);
    check(Elem::F32, Shape::tokens(1, 17, 12), Some(noise.iter().map(|v| v * 1e-3).collect()), F32_LIMIT);
    // No variance: the bias remains.
    check(Elem::F32, Shape::tokens(1, 17, 12), Some(vec![0.25; 17 * 12]), F32_LIMIT);
}

/// All kinds, with scale and shift of every image, with a scale alone, with a gate, and without.
#[test]
fn kinds_and_modulations() {
    for elem in ELEMS {
        for kind in ["layer", "bare", "rms", "biased", "rms from one"] {
            for (n, rows, width, modulated, shifted, gate) in [
                (1, 5, 320, false, false, false),
                (2, 35, 12, true, true, false),
                (3, 70, 64, true, false, false),
                (2, 9, 20, true, false, true),
            ] {
                let mut b = Bench::new(elem, Format::F32);
                let of = match kind {
                    "layer" => NormKind::Layer(Some(b.d.norm("norm", width))),
                    "bare" => NormKind::Layer(None),
                    "biased" => NormKind::RmsBias(b.d.norm("norm", width)),
                    "rms from one" => NormKind::Rms(b.d.vector_from_one("norm.weight".to_owned(), width)),
                    _ => NormKind::Rms(b.d.vectors(["norm.weight".to_owned()], width)),
                };
                let w = b.fill();
                let from_one = |w: &[f64]| -> Vec<f64> { w.iter().map(|w| 1.0 + w).collect() };
                let (x, seen) = b.input(Shape::tokens(n, rows, width));
                let (vectors, told) = b.input(Shape::new(n, 1, 1, 2 * width + 8));
                let (scale, shift) = (width + 8, shifted.then_some(4));
                let modulation = modulated.then_some(Modulation { vectors, scale, shift, gate });
                let y = ops::layer_norm(&mut b.r, of, EPSILON, x, modulation);
                let (channels, epsilon) = (width as usize, f64::from(EPSILON));
                let normal = match kind {
                    "layer" => twin::layer_norm(&seen, &w["norm.weight"], &w["norm.bias"], epsilon),
                    "bare" => twin::layer_norm(&seen, &vec![1.0; channels], &vec![0.0; channels], epsilon),
                    "biased" => biased(twin::rms_norm(&seen, &w["norm.weight"], epsilon), &w["norm.bias"]),
                    "rms" => twin::rms_norm(&seen, &w["norm.weight"], epsilon),
                    _ => twin::rms_norm(&seen, &from_one(&w["norm.weight"]), epsilon),
                };
                let vector = |at: u32| twin::columns(&told, 2 * channels + 8, at as usize, channels);
                let shift = shift.map(vector);
                let want = match modulated {
                    true => twin::modulate(&normal, n as usize, &vector(scale), shift.as_deref(), gate),
                    false => normal,
                };
                b.check(&format!("{kind} norm of {n} times {rows} rows of {width}"), y, &want, F32_LIMIT);
            }
        }
    }
}

fn biased(normal: Vec<f64>, bias: &[f64]) -> Vec<f64> {
    (0..normal.len()).map(|i| normal[i] + bias[i % bias.len()]).collect()
}

/// What comes behind a norm, on the GPU and on the CPU.
#[test]
fn residual_and_activation() {
    for elem in ELEMS {
        for (rows, width, added) in [(70, 12, true), (5, 320, false)] {
            let ready = || {
                let mut b = Bench::new(elem, Format::F32);
                let norm = RmsNorm::with_bias(&mut b.d, "norm", width, EPSILON);
                let w = b.fill();
                let [(x, seen), (residual, more)] = [0, 1].map(|_| b.input(Shape::tokens(2, rows, width)));
                let (residual, activation) = (added.then_some(residual), Activation::Relu);
                let y = ops::LayerNorm { residual, activation, ..norm.of(x) }.record(&mut b.r);
                let normal = twin::rms_norm(&seen, &w["norm.weight"], f64::from(EPSILON));
                let normal = biased(normal, &w["norm.bias"]);
                let more = added.then_some(&more[..]);
                (b, y, twin::epilogue(&normal, 2, width as usize, None, more, activation))
            };
            let (b, y, want) = ready();
            b.check(&format!("{rows} rows of {width}"), y, &want, F32_LIMIT);
            if elem == Elem::F32 {
                let (b, y, want) = ready();
                compare(elem, &b.run_on_cpu(y), &want, F32_LIMIT).unwrap();
            }
        }
    }
}
