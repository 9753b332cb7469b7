//! Loops run a little before they are wanted. An engine of wasm runs a function as its quick compiler made it until it has
//! run some 2 MB of its code, and then compiles it for good, beside it: some 100 ms for all of these, which a load has and
//! the first image has not.

use tintype_quant::{Format, Matrix, Scales};

use crate::attention::{Attention, Rows};
use crate::conv::{Conv, Shape};
use crate::matmul::Matmul;
use crate::norm::{self, Inputs};
use crate::winograd::Kind;
use crate::{Dense, Epilogue, Form, Scratch};

/// Inputs and outputs of products: several registers of every width.
const DEPTH: usize = 256;
const OUTPUTS: usize = 64;
/// Channels of convolutions; height and width: 64 tiles of F(4x4).
const CHANNELS: usize = 64;
const SIDE: usize = 32;
/// Rows of tokens.
const TOKENS: usize = 96;
/// Rounds of products: often enough for every number of rows.
const ROUNDS: usize = 6;

/// Runs each loop often enough, on zeros: an item each few milliseconds, some 50 in all, between which whoever runs it may
/// do what is more urgent.
pub fn warm_up() -> impl Iterator<Item = ()> {
    let mut room = Room::new();
    (0..).map_while(move |at| room.run(at))
}

/// What the loops read and write.
struct Room {
    zeros: Vec<f32>,
    y: Vec<f32>,
    scratch: Scratch,
}

impl Room {
    fn new() -> Room {
        let values = SIDE * SIDE * CHANNELS;
        Room { zeros: vec![0.0; values], y: vec![0.0; values], scratch: Scratch::default() }
    }

    /// One piece of all; nothing where there are no more.
    fn run(&mut self, at: usize) -> Option<()> {
        const FORMATS: [Format; 3] = [Format::F16, Format::Q8, Format::Q4];
        const FORMS: [Form; 3] = [Form::Plain, Form::Winograd(Kind::F2), Form::Winograd(Kind::F4)];
        match at {
            0..ROUNDS => {
                let weight = dense(Format::F32, DEPTH, 1, Form::Plain);
                // Every number of rows that a register tile can be left with.
                (12..24).for_each(|rows| self.matmul(rows, None, &weight));
                self.matmul(TOKENS, Some(GELU), &weight);
            }
            ROUNDS..9 => {
                let weight = dense(FORMATS[at - ROUNDS], DEPTH, 1, Form::Plain);
                (0..8).for_each(|_| self.matmul(12, None, &weight));
            }
            9..12 => self.conv(FORMS[at - 9], 1),
            12 => self.conv(Form::Plain, 2),
            13 => self.attention(),
            14 => self.norms(),
            _ => return None,
        }
        Some(())
    }

    fn matmul(&mut self, rows: usize, gate: Option<u32>, weight: &Dense) {
        let epilogue = self::epilogue(&self.zeros, rows);
        let x: [&[f32]; 2] = [&self.zeros, &[]];
        let matmul = Matmul { rows, x, inputs: [DEPTH, 0], weight, epilogue, gate };
        for piece in 0..matmul.pieces() {
            matmul.run(piece, &mut self.y, &mut self.scratch);
        }
    }

    fn conv(&mut self, form: Form, stride: usize) {
        let weight = dense(Format::F32, CHANNELS, 9, form);
        let size = [SIDE; 2];
        let out = [SIDE / stride; 2];
        let inputs = [CHANNELS, 0];
        let shape =
            Shape { images: 1, inputs, outputs: OUTPUTS, stored: size, size, out, kernel: 3, stride, pad: 1 };
        let epilogue = self::epilogue(&self.zeros, out[0] * out[1]);
        let conv = Conv { shape, x: [&self.zeros, &[]], weight: &weight, epilogue, way: None };
        for piece in 0..conv.pieces() {
            conv.run(piece, &mut self.y, &mut self.scratch);
        }
    }

    fn attention(&mut self) {
        let [heads, size] = [4, OUTPUTS];
        let rows = Rows { values: &self.zeros, stride: heads * size, at: 0 };
        let attention = Attention {
            images: 1,
            heads,
            size,
            queries: TOKENS,
            keys: TOKENS,
            causal: false,
            scale: 1.0,
            shared: 1,
            cap: None,
            keys_bias: None,
            distances_bias: None,
            q: rows,
            k: rows,
            v: rows,
        };
        for piece in 0..attention.pieces() {
            attention.run(piece, &mut self.y, &mut self.scratch);
        }
    }

    fn norms(&mut self) {
        let pixels = SIDE * SIDE;
        let inputs = Inputs { x: [&self.zeros, &[]], channels: [CHANNELS, 0], pixels };
        norm::stats(&inputs, 1, pixels, &mut self.y[..2 * CHANNELS]);
        let affine = vec![1.0; 2 * DEPTH];
        for activation in [0, SILU] {
            norm::apply(&inputs, activation, &affine, &mut self.y);
        }
        let (width, pixels) = (DEPTH, self.y.len() / DEPTH);
        let rows = norm::Rows {
            width,
            pixels,
            epsilon: 1e-5,
            rms: false,
            affine: Some(&affine),
            biased: true,
            modulation: None,
            residual: None,
            activation: 0,
        };
        norm::layer(&rows, &self.zeros, &mut self.y);
    }
}

/// As kernels/lib/activation.wgsl numbers them.
const SILU: u32 = 1;
const GELU: u32 = 2;

fn dense(format: Format, inputs: usize, taps: usize, form: Form) -> Dense {
    let matrix = Matrix { format, outputs: OUTPUTS as u32, inputs: inputs as u32, taps: taps as u32 };
    let mut blob = vec![0; matrix.bytes()];
    matrix.store_row(&mut blob, 0, &vec![0.0; matrix.depth()], |c| c, Scales::Chosen);
    Dense::new(&matrix, blob, form)
}

fn epilogue(zeros: &[f32], rows: usize) -> Epilogue<'_> {
    Epilogue {
        bias: zeros,
        vectors: None,
        gates: false,
        rows_per_image: rows,
        residual: None,
        width: OUTPUTS,
        activation: SILU,
    }
}
