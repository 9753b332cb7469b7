//! Convolutions, also with a stride and behind an upsample.

use super::{ACTIVATIONS, tiled, tunings};
use crate::harness::{Bench, ELEMS, F32_LIMIT, FORMATS, HALF_MAX, HALVES};
use crate::twin;
use tintype::gpu::{Block, Rule, Tile, Tuning, Winograd, lower};
use tintype::nn::Conv;
use tintype::plan::ops::{Activation, Epilogue};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

/// One convolution layer.
#[derive(Clone, Copy, Debug)]
struct Case {
    elem: Elem,
    format: Format,
    /// Of the input, or of the first of two.
    shape: Shape,
    inputs2: u32,
    outputs: u32,
    kernel: u32,
    how: How,
    add: bool,
    residual: bool,
    activation: Activation,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Same,
    /// Every second pixel, with zeros before and after.
    Down(u32, u32),
    /// To this height and width.
    Up(u32, u32),
}

const CASE: Case = Case {
    elem: Elem::F32,
    format: Format::F32,
    shape: Shape { n: 1, h: 5, w: 7, c: 8 },
    inputs2: 0,
    outputs: 12,
    kernel: 3,
    how: How::Same,
    add: false,
    residual: false,
    activation: Activation::None,
};

/// Whatever the size.
const WINOGRAD: Option<Winograd> = Some(Winograd { pixels: 0, channels: 0, bytes: 1 << 20 });

/// Where `add` begins in its tensor.
const ADD_AT: u32 = 4;

impl Case {
    fn check(self) {
        tunings().for_each(|tuning| self.check_with(tuning));
        self.check_winograd(WINOGRAD);
    }

    fn check_winograd(self, winograd: Option<Winograd>) {
        for tile in [Tile::WIDE, Tile::THIN] {
            self.check_with(Tuning { matmul: tiled(&ELEMS, tile), winograd, ..Tuning::BASE });
        }
    }

    fn check_with(self, tuning: Tuning) {
        let mut b = Bench { tuning, ..Bench::new(self.elem, self.format) };
        let inputs = self.shape.c + self.inputs2;
        let layer = Conv::declare(&mut b.d, "layer", inputs, self.outputs, self.kernel, true);
        let w = b.fill();
        let (x, mut seen) = b.input(self.shape);
        let x2 = (self.inputs2 > 0).then(|| b.input(self.shape.with_c(self.inputs2)));
        if let Some((_, seen2)) = &x2 {
            seen = twin::beside(&seen, self.shape.c as usize, seen2, self.inputs2 as usize);
        }
        let width = ADD_AT + self.outputs.next_multiple_of(4) + 4;
        let add = self.add.then(|| b.input(Shape::new(self.shape.n, 1, 1, width)));
        let residual = self.residual.then(|| b.input(self.shape.with_c(self.outputs)));
        let epilogue = Epilogue {
            add: add.as_ref().map(|(t, _)| (*t, ADD_AT)),
            gate: None,
            residual: residual.as_ref().map(|(t, _)| *t),
            activation: self.activation,
        };
        let same = (self.kernel / 2, self.kernel / 2);
        let (y, stride, pad, upsample) = match self.how {
            How::Same => (layer.record(&mut b.r, x, x2.map(|(t, _)| t), epilogue), 1, same, None),
            How::Down(before, after) => {
                (layer.downsample(&mut b.r, x, (before, after)), 2, (before, after), None)
            }
            How::Up(h, w) => (layer.upsample(&mut b.r, x, (h, w)), 1, same, Some((h as usize, w as usize))),
        };
        let sum = twin::conv(&twin::Conv {
            x: &seen,
            size: [self.shape.n, self.shape.h, self.shape.w].map(|n| n as usize),
            weight: &w["layer.weight"],
            bias: &w["layer.bias"],
            kernel: self.kernel as usize,
            stride,
            pad: (pad.0 as usize, pad.1 as usize),
            upsample,
        });
        let (images, outputs) = (self.shape.n as usize, self.outputs as usize);
        let add = add.map(|(_, a)| twin::columns(&a, width as usize, ADD_AT as usize, outputs));
        let residual = residual.map(|(_, r)| r);
        let want =
            twin::epilogue(&sum, images, outputs, add.as_deref(), residual.as_deref(), self.activation);
        b.check(&format!("{self:?} with {tuning:?}"), y, &want, F32_LIMIT);
    }
}

#[test]
fn weights_as_dequantised() {
    for elem in ELEMS {
        for format in FORMATS {
            for (h, w, inputs, outputs) in [
                (1, 1, 4, 4),
                (5, 7, 3, 12),
                (17, 2, 12, 20),
                (4, 9, 40, 3),
                (6, 5, 32, 36),
                (11, 13, 20, 72),
            ] {
                Case { elem, format, shape: Shape::new(1, h, w, inputs), outputs, ..CASE }.check();
            }
        }
    }
}

/// Operands that workgroup memory keeps as halves are summed in f32: as deep as the deepest convolution of a U-Net.
#[test]
fn halves_at_a_depth_of_11520() {
    let shape = Shape::new(1, 3, 5, 1280);
    let conv = tiled(&HALVES, Tile::THIN_STORED);
    for elem in HALVES {
        for format in [Format::F16, Format::Q8] {
            let case = Case { elem, format, shape, outputs: 8, ..CASE };
            case.check_with(Tuning { conv, ..Tuning::BASE });
        }
    }
}

/// Where memory is limited there are more bands, and the same bits.
#[test]
fn winograd_with_less_workspace() {
    let run = |tuning: Tuning| {
        let mut b = Bench { tuning, ..Bench::new(Elem::F32, Format::Q8) };
        let layer = Conv::declare(&mut b.d, "layer", 64, 64, 3, true);
        b.fill();
        let x = b.input(Shape::new(1, 200, 200, 64)).0;
        let y = layer.record(&mut b.r, x, None, Epilogue::default());
        let program = lower(b.r.clone().finish(), &tuning);
        (program.buffers.sizes.iter().sum::<u64>(), program.dispatches.len(), b.run(y))
    };
    let [whole, saved] = [Tuning::THIN, Tuning::THIN.saving()].map(run);
    assert!(saved.1 > whole.1 && saved.0 + (20 << 20) < whole.0, "{:?} {:?}", &saved.0, &whole.0);
    assert!(saved.2 == whole.2, "bands change the result");
}

/// The last band and the last slab are smaller than the others.
#[test]
fn winograd_in_bands_of_tiles_and_slabs_of_outputs() {
    // What 64 tiles take, or 64 outputs.
    let least = Some(Winograd { bytes: 36 * 64 * 4 * 256, ..WINOGRAD.unwrap() });
    for (elem, format) in [(Elem::F32, Format::Q8), (Elem::Pack16, Format::F16)] {
        let shape = Shape::new(2, 23, 26, 200);
        let case = Case { elem, format, shape, inputs2: 56, outputs: 72, ..CASE };
        Case { add: true, residual: true, ..case }.check_winograd(least);
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
fn every_activation() {
    for activation in ACTIVATIONS {
        Case { activation, ..CASE }.check();
    }
}

#[test]
fn half_the_size() {
    for elem in ELEMS {
        for (before, after) in [(1, 1), (0, 1)] {
            for (h, w) in [(2, 2), (5, 7), (8, 6), (17, 4)] {
                let shape = Shape::new(2, h, w, 8);
                Case { elem, shape, how: How::Down(before, after), ..CASE }.check();
            }
        }
    }
}

#[test]
fn behind_an_upsample() {
    for elem in ELEMS {
        for (to_h, to_w) in [(10, 14), (9, 13), (17, 13), (5, 8), (23, 41)] {
            Case { elem, shape: Shape::new(2, 5, 7, 8), how: How::Up(to_h, to_w), ..CASE }.check();
        }
    }
}

#[test]
fn upsampled_indices_are_rounded_as_torch_does() {
    // i * (from / to) in f32 may fall below a whole number that it should reach.
    let exact = |i: u32, from: u32, to: u32| i * from / to;
    let torch = |i: u32, from: u32, to: u32| (i as f32 * (from as f32 / to as f32)) as u32;
    let differ = |&(from, to): &(u32, u32)| (0..to).any(|i| exact(i, from, to) != torch(i, from, to));
    let mut sizes = (2..40).flat_map(|from| (from + 1..4 * from).map(move |to| (from, to)));
    let (from, to) = sizes.find(differ).expect("a size where f32 rounds down");
    Case { shape: Shape::new(1, 2, from, 4), how: How::Up(3, to), ..CASE }.check();
}

#[test]
fn one_tap() {
    for elem in ELEMS {
        for format in FORMATS {
            Case { elem, format, kernel: 1, how: How::Down(0, 0), ..CASE }.check();
        }
    }
    Case { kernel: 1, how: How::Up(9, 14), ..CASE }.check();
}

#[test]
fn halves_stop_at_the_largest() {
    for elem in HALVES {
        let mut b = Bench::new(elem, Format::F32);
        let layer = Conv::declare(&mut b.d, "layer", 4, 4, 3, true);
        let w = b.fill();
        let x = b.input_of(Shape::new(1, 1, 1, 4), elem, vec![60000.0; 4]).0;
        let y = layer.record(&mut b.r, x, None, Epilogue::default());
        // One pixel sees the middle of each 3x3.
        for (o, got) in b.run(y).into_iter().enumerate() {
            let sum: f64 = (0..4).map(|i| w["layer.weight"][(o * 4 + i) * 9 + 4] * 60000.0).sum();
            assert!(
                (f64::from(got) - sum.clamp(-HALF_MAX, HALF_MAX)).abs() < 64.0,
                "{elem:?} {got} for {sum}"
            );
        }
    }
}

/// A kernel is chosen for each operation by its shape, and computes the same.
#[test]
fn blocks_are_chosen_by_shape() {
    let rule = Rule { elem: Elem::F32, rows: 64, outputs: 16, block: Block::Large };
    let tuning = Tuning { name: "by shape", conv: Vec::leak(vec![rule]), ..Tuning::BASE };
    let mut b = Bench::new(Elem::F32, Format::F32);
    b.tuning = tuning;
    let [many, few] =
        [("many", 20), ("few", 8)].map(|(path, outputs)| Conv::declare(&mut b.d, path, 8, outputs, 3, true));
    let w = b.fill();
    let (large, seen) = b.input(Shape::new(1, 9, 11, 8));
    let (small, _) = b.input(Shape::new(1, 5, 7, 8));
    let y = many.record(&mut b.r, large, None, Epilogue::default());
    for (conv, x) in [(many, small), (few, large), (few, small)] {
        conv.record(&mut b.r, x, None, Epilogue::default());
    }
    let program = lower(b.r.clone().finish(), &tuning);
    let variants: Vec<&str> = program.dispatches.iter().map(|d| d.variant.get().name).collect();
    assert_eq!(variants, ["f32.f32.16x16.3", "f32.f32.4x8.3", "f32.f32.4x8.3", "f32.f32.4x8.3"]);
    let want = twin::conv(&twin::Conv {
        x: &seen,
        size: [1, 9, 11],
        weight: &w["many.weight"],
        bias: &w["many.bias"],
        kernel: 3,
        stride: 1,
        pad: (1, 1),
        upsample: None,
    });
    b.check("large blocks", y, &want, F32_LIMIT);
}
