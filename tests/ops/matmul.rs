//! Linear layers and 1x1 convolutions.

use super::{ACTIVATIONS, tunings};
use crate::harness::{Bench, ELEMS, F32_LIMIT, FORMATS, HALF_MAX, HALVES, compare, on_gpu};
use crate::twin;
use tintype::gpu::Tuning;
use tintype::nn::{Conv, Linear};
use tintype::plan::ops::{Activation, Epilogue, Matmul};
use tintype::quant::{Format, Scales};
use tintype::shape::{Elem, Shape};
use tintype::weights::{Columns, Rows, weight_and_bias};

/// One linear layer.
#[derive(Clone, Copy, Debug)]
struct Case {
    elem: Elem,
    format: Format,
    /// Of the input, or of the first of two.
    shape: Shape,
    inputs2: u32,
    outputs: u32,
    add: bool,
    /// The vector of each image is a factor.
    gate: bool,
    residual: bool,
    activation: Activation,
}

const CASE: Case = Case {
    elem: Elem::F32,
    format: Format::F32,
    shape: Shape { n: 1, h: 17, w: 1, c: 12 },
    inputs2: 0,
    outputs: 20,
    add: false,
    gate: false,
    residual: false,
    activation: Activation::None,
};

/// Where `add` begins in its tensor.
const ADD_AT: u32 = 8;

impl Case {
    fn check(self) {
        tunings().for_each(|tuning| self.check_with(tuning));
    }

    fn check_with(self, tuning: Tuning) {
        let mut b = Bench { tuning, ..Bench::new(self.elem, self.format) };
        let inputs = self.shape.c + self.inputs2;
        let layer = Linear::declare(&mut b.d, "layer", inputs, self.outputs, true);
        let w = b.fill();
        let (x, mut seen) = b.input(self.shape);
        let mut matmul = layer.of(x);
        if self.inputs2 > 0 {
            let (x2, seen2) = b.input(self.shape.with_c(self.inputs2));
            seen = twin::beside(&seen, self.shape.c as usize, &seen2, self.inputs2 as usize);
            matmul.x2 = Some(x2);
        }
        let width = ADD_AT + self.outputs.next_multiple_of(4) + 4;
        let vectors = (self.add || self.gate).then(|| b.input(Shape::new(self.shape.n, 1, 1, width)));
        let residual = self.residual.then(|| b.input(self.shape.with_c(self.outputs)));
        matmul.epilogue = Epilogue {
            add: vectors.as_ref().filter(|_| self.add).map(|(t, _)| (*t, ADD_AT)),
            gate: vectors.as_ref().filter(|_| self.gate).map(|(t, _)| (*t, ADD_AT)),
            residual: residual.as_ref().map(|(t, _)| *t),
            activation: self.activation,
        };
        let y = matmul.record(&mut b.r);
        let mut product = twin::matmul(&seen, &w["layer.weight"], &w["layer.bias"]);
        let (images, outputs) = (self.shape.n as usize, self.outputs as usize);
        let mut add = vectors.map(|(_, a)| twin::columns(&a, width as usize, ADD_AT as usize, outputs));
        if self.gate {
            product = twin::gate(&product, images, outputs, &add.take().unwrap());
        }
        let residual = residual.map(|(_, r)| r);
        let want =
            twin::epilogue(&product, images, outputs, add.as_deref(), residual.as_deref(), self.activation);
        b.check(&format!("{self:?} with {tuning:?}"), y, &want, F32_LIMIT);
    }
}

#[test]
fn weights_as_dequantised() {
    for elem in ELEMS {
        for format in FORMATS {
            for (rows, inputs, outputs) in
                [(1, 1, 1), (1, 320, 12), (17, 12, 20), (35, 3, 4), (64, 40, 3), (40, 96, 36), (130, 44, 72)]
            {
                Case { elem, format, shape: Shape::tokens(1, rows, inputs), outputs, ..CASE }.check();
            }
        }
    }
}

#[test]
fn two_inputs() {
    for elem in ELEMS {
        for (inputs, inputs2) in [(8, 12), (4, 3), (20, 4)] {
            Case { elem, shape: Shape::new(2, 5, 7, inputs), inputs2, ..CASE }.check();
        }
    }
}

#[test]
fn add_and_residual_of_a_batch() {
    for elem in ELEMS {
        for (add, residual) in [(true, false), (false, true), (true, true)] {
            for outputs in [4, 12, 20, 3] {
                let shape = Shape::new(2, 5, 7, 8);
                Case { elem, shape, outputs, add, residual, activation: Activation::Silu, ..CASE }.check();
            }
        }
    }
}

#[test]
fn gates_of_a_batch() {
    for elem in ELEMS {
        for (residual, outputs) in [(false, 12), (true, 20), (true, 3)] {
            let shape = Shape::new(2, 5, 7, 8);
            Case { elem, shape, outputs, gate: true, residual, ..CASE }.check();
        }
    }
}

#[test]
fn every_activation() {
    for elem in ELEMS {
        for activation in ACTIVATIONS {
            Case { elem, activation, ..CASE }.check();
        }
    }
}

/// SwiGLU and others of two tensors.
#[test]
fn gated_by_any_activation() {
    for elem in ELEMS {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            for tuning in tunings() {
                let mut b = Bench { tuning, ..Bench::new(elem, Format::Q8) };
                let part = |name: &str, at| {
                    weight_and_bias(name, vec![20, 12], true, Rows::Fours(at), Columns::Same)
                };
                let parts = [part("gate", 4), part("value", 0)].concat();
                let layer = Linear::fused(&mut b.d, 12, 40, parts).gated(activation);
                let w = b.fill();
                let (x, seen) = b.input(Shape::tokens(2, 17, 12));
                let y = layer.of(x).record(&mut b.r);
                let [value, gate] = ["value", "gate"].map(|name| {
                    twin::matmul(&seen, &w[&format!("{name}.weight")], &w[&format!("{name}.bias")])
                });
                let want = twin::gated(&twin::beside(&value, 20, &gate, 20), 20, activation);
                b.check(&format!("{activation:?} with {tuning:?}"), y, &want, F32_LIMIT);
            }
        }
    }
}

#[test]
fn geglu() {
    for elem in ELEMS {
        for format in FORMATS {
            for (inputs, outputs) in [(12, 4), (12, 12), (12, 20), (32, 20)] {
                for tuning in tunings() {
                    let mut b = Bench { tuning, ..Bench::new(elem, format) };
                    let layer = Linear::geglu(&mut b.d, "layer", inputs, outputs);
                    let w = b.fill();
                    let (x, seen) = b.input(Shape::tokens(2, 17, inputs));
                    let y = layer.of(x).record(&mut b.r);
                    let product = twin::matmul(&seen, &w["layer.weight"], &w["layer.bias"]);
                    let want = twin::gated(&product, outputs as usize, Activation::Gelu);
                    b.check(&format!("geglu to {outputs} with {tuning:?}"), y, &want, F32_LIMIT);
                }
            }
        }
    }
}

#[test]
fn without_bias() {
    let mut b = Bench::new(Elem::F32, Format::Q8);
    let layer = Linear::declare(&mut b.d, "layer", 12, 20, false);
    let w = b.fill();
    let (x, seen) = b.input(Shape::tokens(1, 5, 12));
    let y = layer.of(x).record(&mut b.r);
    b.check("without bias", y, &twin::matmul(&seen, &w["layer.weight"], &[0.0; 20]), F32_LIMIT);
}

#[test]
fn a_1x1_convolution_is_a_product_over_pixels() {
    let mut b = Bench::new(Elem::F32, Format::F16);
    let layer = Conv::declare(&mut b.d, "layer", 12, 20, 1, true);
    let w = b.fill();
    let (x, seen) = b.input(Shape::new(2, 5, 7, 12));
    let y = layer.record(&mut b.r, x, None, Epilogue::default());
    b.check("1x1", y, &twin::matmul(&seen, &w["layer.weight"], &w["layer.bias"]), F32_LIMIT);
}

#[test]
fn halves_stop_at_the_largest() {
    for elem in HALVES {
        let mut b = Bench::new(elem, Format::F32);
        let layer = Linear::declare(&mut b.d, "layer", 4, 4, false);
        b.fill();
        // Each output is 4 times its input.
        let Matmul { weight, .. } = layer.of(b.input(Shape::tokens(1, 1, 4)).0);
        let blob = &mut b.blobs[0].1;
        for o in 0..4 {
            let row: Vec<f32> = (0..4).map(|i| if i == o { 4.0 } else { 0.0 }).collect();
            weight.matrix.store_row(blob, o, &row, |c| c, Scales::Chosen);
        }
        let x = b.input_of(Shape::tokens(1, 1, 4), elem, vec![60000.0, -60000.0, 16376.0, 2.0]).0;
        let y = layer.of(x).record(&mut b.r);
        let largest = HALF_MAX as f32;
        assert_eq!(b.run(y), [largest, -largest, largest, 8.0], "{elem:?}");
    }
}

#[test]
fn more_rows_than_one_dispatch_holds() {
    // 65535 groups of 8 threads of 4 rows, and some more.
    let rows = 65535 * 32 + 5;
    let mut b = Bench::new(Elem::Pack16, Format::F32);
    let layer = Linear::declare(&mut b.d, "layer", 1, 1, true);
    let w = b.fill();
    let (x, seen) = b.input(Shape::tokens(1, rows, 1));
    let y = layer.of(x).record(&mut b.r);
    let want = twin::matmul(&seen, &w["layer.weight"], &w["layer.bias"]);
    b.r.output("y", y);
    let got = on_gpu(move |gpu| {
        // At a high rate nothing else cuts the step.
        gpu.set_rate(1e15);
        let ready = b.ready(gpu, |_| {});
        ready.run();
        ready.values("y")
    });
    compare(Elem::Pack16, &got, &want, F32_LIMIT).unwrap();
}
