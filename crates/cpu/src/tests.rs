//! Whole steps against plain sums in f64, in every width of registers that this machine has.

use tintype_quant::{Format, Matrix, Scales};

use crate::attention::{Attention, Rows};
use crate::conv::{Conv, Shape};
use crate::lanes::{Isa, forced};
use crate::matmul::Matmul;
use crate::winograd::Kind;
use crate::{Dense, Epilogue, Form, Scratch};

/// Calls `test` in each of them.
fn everywhere(test: impl Fn()) {
    let all = [
        Isa::Portable,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512,
    ];
    for isa in all.into_iter().filter(|isa| isa.is_here()) {
        forced(isa, &test);
    }
}

/// Values about from -1 to 1, of a linear congruential generator.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// |a - b| / |b|
fn off(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |sum: f64, v: f64| sum + v * v;
    let difference = got.iter().zip(want).map(|(&g, w)| f64::from(g) - w).fold(0.0, square);
    (difference / want.iter().copied().fold(0.0, square)).sqrt()
}

struct Weights {
    matrix: Matrix,
    blob: Vec<u8>,
    /// `[outputs, taps, inputs]`, as they are stored.
    values: Vec<f32>,
    bias: Vec<f32>,
}

fn weights(format: Format, outputs: usize, inputs: usize, taps: usize) -> Weights {
    let matrix = Matrix { format, outputs: outputs as u32, inputs: inputs as u32, taps: taps as u32 };
    let mut blob = vec![0; matrix.bytes()];
    let bias = values(outputs, 3);
    for o in 0..outputs {
        let row = values(inputs * taps, 1000 + o as u32);
        matrix.store_row(&mut blob, o as u32, &row, |c| c, Scales::Chosen);
        matrix.store_bias(&mut blob, o as u32, bias[o]);
    }
    Weights { matrix, values: matrix.dequantise(&blob), blob, bias }
}

/// A convolution: sizes are height and width.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    images: usize,
    stored: [usize; 2],
    size: [usize; 2],
    inputs: [usize; 2],
    outputs: usize,
    kernel: usize,
    stride: usize,
    format: Format,
    form: Form,
    /// Rows of the output that are compared: a few where there are many channels.
    only: usize,
}

const CASE: Case = Case {
    name: "",
    images: 1,
    stored: [13, 18],
    size: [13, 18],
    inputs: [20, 0],
    outputs: 36,
    kernel: 3,
    stride: 1,
    format: Format::F32,
    form: Form::Plain,
    only: usize::MAX,
};

fn cases() -> Vec<Case> {
    let f2 = Form::Winograd(Kind::F2);
    let f4 = Form::Winograd(Kind::F4);
    vec![
        Case { name: "gathered", ..CASE },
        Case { name: "gathered, bytes", format: Format::Q8, ..CASE },
        Case { name: "stride 2", stride: 2, ..CASE },
        Case { name: "1x1", kernel: 1, ..CASE },
        Case { name: "1x1, stride 2", kernel: 1, stride: 2, ..CASE },
        Case { name: "few outputs", outputs: 4, ..CASE },
        Case { name: "F2", form: f2, ..CASE },
        Case { name: "F4", form: f4, ..CASE },
        Case { name: "F4, one tile", stored: [3, 2], size: [3, 2], form: f4, ..CASE },
        Case { name: "F4, two inputs, batch 2", inputs: [20, 44], images: 2, form: f4, ..CASE },
        Case { name: "F2, two inputs, batch 2", inputs: [20, 44], images: 2, form: f2, ..CASE },
        Case { name: "F4, doubled", size: [26, 36], form: f4, ..CASE },
        Case { name: "F4, not doubled", size: [29, 31], form: f4, ..CASE },
        Case { name: "F2, not doubled", size: [29, 31], form: f2, ..CASE },
        Case { name: "F4 for a call", size: [32, 36], ..CASE },
        Case {
            name: "F4 for a call, two inputs, batch 2",
            images: 2,
            inputs: [24, 8],
            size: [33, 35],
            ..CASE
        },
        Case { name: "F4 for a call, halves", size: [32, 36], format: Format::F16, ..CASE },
        Case { name: "F4 for a call, bytes", size: [32, 36], format: Format::Q8, ..CASE },
        Case {
            name: "F4 for a call, four bits",
            size: [32, 36],
            inputs: [32, 0],
            format: Format::Q4,
            ..CASE
        },
    ]
}

fn large() -> Vec<Case> {
    let base = Case { inputs: [1280, 0], outputs: 64, stored: [8, 8], size: [8, 8], only: 64, ..CASE };
    vec![
        Case { name: "F4, 1280 channels", form: Form::Winograd(Kind::F4), ..base },
        Case { name: "F2, 1280 channels", form: Form::Winograd(Kind::F2), ..base },
        Case { name: "gathered, 1280 channels", ..base },
        // Whose weights are unpacked in more than one block.
        Case {
            name: "F4 for a call, 1280 channels",
            outputs: 196,
            size: [32, 32],
            only: 16,
            format: Format::Q8,
            ..base
        },
    ]
}

impl Case {
    fn out(&self) -> [usize; 2] {
        let pad = usize::from(self.kernel == 3);
        self.size.map(|side| (side + 2 * pad - self.kernel) / self.stride + 1)
    }

    /// What it makes, and what it should.
    fn run(&self) -> (Vec<f32>, Vec<f64>) {
        let [c1, c2] = self.inputs;
        let w = weights(self.format, self.outputs, c1 + c2, self.kernel * self.kernel);
        let dense = Dense::new(&w.matrix, w.blob.clone(), self.form);
        assert_eq!(dense.form(), self.form);
        let pixels = self.images * self.stored[0] * self.stored[1];
        let x = [values(pixels * c1, 1), values(pixels * c2, 2)];
        let out = self.out();
        let rows = self.images * out[0] * out[1];
        let (add, residual) = (values(self.images * self.outputs + 4, 4), values(rows * self.outputs, 5));
        let epilogue = Epilogue {
            bias: &dense.bias,
            vectors: Some((&add, 4, self.outputs)),
            gates: false,
            rows_per_image: out[0] * out[1],
            residual: Some(&residual),
            width: self.outputs,
            activation: 6,
        };
        let ratio = [0, 1].map(|axis| self.stored[axis] as f32 / self.size[axis] as f32);
        let shape = Shape {
            images: self.images,
            inputs: self.inputs,
            outputs: self.outputs,
            stored: self.stored,
            size: self.size,
            out,
            kernel: self.kernel,
            stride: self.stride,
            pad: usize::from(self.kernel == 3),
        };
        let conv = Conv { shape, x: [&x[0], &x[1]], weight: &dense, epilogue, way: None };
        // What was there before must not count.
        let mut y = vec![f32::NAN; rows * self.outputs];
        let mut scratch = Scratch::default();
        (0..conv.pieces()).for_each(|piece| conv.run(piece, &mut y, &mut scratch));
        let mut want = vec![];
        for row in 0..rows.min(self.only) {
            let image = row / (out[0] * out[1]);
            for o in 0..self.outputs {
                let mut sum = f64::from(w.bias[o]);
                for tap in 0..self.kernel * self.kernel {
                    let at = [row / out[1] % out[0], row % out[1]];
                    let at = [0, 1].map(|axis| {
                        let offset = if axis == 0 { tap / self.kernel } else { tap % self.kernel };
                        let index = (at[axis] * self.stride + offset).checked_sub(shape.pad)?;
                        (index < self.size[axis]).then(|| (index as f32 * ratio[axis]) as usize)
                    });
                    let [Some(i), Some(j)] = at else { continue };
                    let pixel = (image * self.stored[0] + i) * self.stored[1] + j;
                    let row = x[0][pixel * c1..][..c1].iter().chain(&x[1][pixel * c2..][..c2]);
                    let weights = &w.values[(o * self.kernel * self.kernel + tap) * (c1 + c2)..];
                    sum += row.zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                }
                sum += f64::from(add[4 + image * self.outputs + o])
                    + f64::from(residual[row * self.outputs + o]);
                want.push(2.0 * sum - 1.0);
            }
        }
        y.truncate(want.len());
        (y, want)
    }
}

#[test]
fn convolutions() {
    everywhere(|| {
        for case in cases() {
            let (got, want) = case.run();
            let off = off(&got, &want);
            assert!(off < 2e-6, "{}: off by {off}", case.name);
        }
    });
}

#[test]
fn convolutions_of_many_channels() {
    everywhere(|| {
        for case in large() {
            let (got, want) = case.run();
            let off = off(&got, &want);
            assert!(off < 5e-6, "{}: off by {off}", case.name);
        }
    });
}

#[test]
fn bits_do_not_depend_on_threads() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    everywhere(|| {
        for case in cases() {
            let [one, five] = [1, 5].map(|threads| {
                let isa = crate::lanes::isa();
                let mut bits = vec![];
                pool(threads).install(|| bits = forced(isa, &|| case.run().0));
                bits
            });
            assert!(one.iter().map(|v| v.to_bits()).eq(five.iter().map(|v| v.to_bits())), "{}", case.name);
        }
    });
}

#[test]
fn products() {
    everywhere(|| {
        for (rows, inputs, outputs, format, gated) in [
            (1, [64, 0], 40, Format::F32, false),
            (77, [520, 12], 100, Format::F32, false),
            (301, [64, 32], 72, Format::Q8, true),
            (13, [96, 0], 64, Format::Q4, true),
            (5, [32, 0], 4, Format::F16, false),
            // Unpacked in more than one block.
            (7, [2048, 0], 1300, Format::Q8, false),
        ] {
            let w = weights(format, outputs, inputs[0] + inputs[1], 1);
            let dense = Dense::new(&w.matrix, w.blob.clone(), Form::Plain);
            let x = [values(rows * inputs[0], 1), values(rows * inputs[1], 2)];
            let residual = values(rows * outputs, 5);
            let epilogue = Epilogue {
                bias: &dense.bias,
                vectors: None,
                gates: false,
                rows_per_image: rows,
                residual: (!gated).then_some(&residual),
                width: outputs,
                activation: 0,
            };
            let width = if gated { outputs / 2 } else { outputs };
            let matmul = Matmul {
                rows,
                x: [&x[0], &x[1]],
                inputs,
                weight: &dense,
                epilogue,
                gate: gated.then_some(2),
            };
            let mut y = vec![f32::NAN; rows * width];
            let mut scratch = Scratch::default();
            (0..matmul.pieces()).for_each(|piece| matmul.run(piece, &mut y, &mut scratch));
            let sum = |row: usize, o: usize| {
                let x =
                    x[0][row * inputs[0]..][..inputs[0]].iter().chain(&x[1][row * inputs[1]..][..inputs[1]]);
                let weights = &w.values[o * (inputs[0] + inputs[1])..];
                let sum: f64 = x.zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                sum + f64::from(w.bias[o])
            };
            let gelu = |v: f64| 0.5 * v * (1.0 + libm::erf(v / 2f64.sqrt()));
            let want: Vec<f64> = (0..rows * width)
                .map(|i| match (i / width, i % width) {
                    (row, o) if gated => sum(row, o / 4 * 8 + o % 4) * gelu(sum(row, o / 4 * 8 + o % 4 + 4)),
                    (row, o) => sum(row, o) + f64::from(residual[row * outputs + o]),
                })
                .collect();
            let off = off(&y, &want);
            assert!(off < 2e-6, "{rows} rows of {inputs:?}, {outputs} outputs of {format:?}: off by {off}");
        }
    });
}

#[test]
fn attentions() {
    everywhere(|| {
        for (images, heads, size, queries, keys, causal) in [
            (1, 2, 8, 77, 77, true),
            (2, 3, 40, 100, 77, false),
            (1, 1, 20, 5, 300, false),
            (1, 2, 64, 49, 49, false),
        ] {
            let width = heads * size;
            let (q_stride, k_stride) = (width + 8, 2 * width);
            let q = values(images * queries * q_stride, 1);
            let kv = values(images * keys * k_stride, 2);
            let scale = 2.0 / (size as f32).sqrt();
            let rows = |values, stride, at| Rows { values, stride, at };
            let attention = Attention {
                images,
                heads,
                size,
                queries,
                keys,
                causal,
                scale,
                shared: 1,
                cap: None,
                keys_bias: None,
                distances_bias: None,
                q: rows(&q, q_stride, 8),
                k: rows(&kv, k_stride, 0),
                v: rows(&kv, k_stride, width),
            };
            let mut y = vec![f32::NAN; images * queries * width];
            let mut scratch = Scratch::default();
            (0..attention.pieces()).for_each(|piece| attention.run(piece, &mut y, &mut scratch));
            let mut want = vec![];
            for (image, query) in (0..images * queries).map(|i| (i / queries, i % queries)) {
                for head in 0..heads {
                    let q = &q[(image * queries + query) * q_stride + 8 + head * size..][..size];
                    let row = |key: usize, at: usize| {
                        &kv[(image * keys + key) * k_stride + at + head * size..][..size]
                    };
                    let seen = if causal { query + 1 } else { keys };
                    let score = |key| -> f64 {
                        let products = q.iter().zip(row(key, 0)).map(|(a, b)| f64::from(*a) * f64::from(*b));
                        (products.sum::<f64>() * f64::from(scale)).exp()
                    };
                    let scores: Vec<f64> = (0..seen).map(score).collect();
                    let sum: f64 = scores.iter().sum();
                    for d in 0..size {
                        let values =
                            scores.iter().enumerate().map(|(key, s)| s * f64::from(row(key, width)[d]));
                        want.push(values.sum::<f64>() / sum);
                    }
                }
            }
            let off = off(&y, &want);
            assert!(off < 2e-6, "{queries} queries, {keys} keys of {size}: off by {off}");
        }
    });
}

/// Every loop takes what it is given; a browser calls this while nothing can see it fail.
#[test]
fn warm_up_runs_every_loop() {
    everywhere(|| assert!(crate::warm_up().count() > 10));
}
