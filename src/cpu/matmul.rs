//! kernels/matmul.wgsl on the CPU, and the epilogue that it shares with convolutions.

use super::activation::{activate, gelu};
use super::gemm::{View, product};
use super::weights::Dense;
use super::{parallel, params};
use crate::kernels::MatmulParams;
use crate::ops::{ADD, GEGLU, RESIDUAL};

/// What a product's result goes through: `act(result + bias + add[image] + residual)`.
pub struct Epilogue<'a> {
    pub bias: &'a [f32],
    pub flags: u32,
    pub activation: u32,
    /// The vector of an image begins at `image * add_stride + add_at`, in single channels.
    pub add: &'a [f32],
    pub add_at: usize,
    pub add_stride: usize,
    pub rows_per_image: usize,
    pub residual: &'a [f32],
}

impl Epilogue<'_> {
    /// Finishes row `row` of the result.
    pub fn finish(&self, row: usize, values: &mut [f32]) {
        let width = values.len();
        for (v, b) in values.iter_mut().zip(self.bias) {
            *v += b;
        }
        if self.flags & ADD != 0 {
            let at = row / self.rows_per_image * self.add_stride + self.add_at;
            values.iter_mut().zip(&self.add[at..at + width]).for_each(|(v, a)| *v += a);
        }
        if self.flags & RESIDUAL != 0 {
            values.iter_mut().zip(&self.residual[row * width..]).for_each(|(v, r)| *v += r);
        }
        activate(self.activation, values);
    }
}

pub fn run(bytes: &[u8], x: [&[f32]; 2], weight: &Dense, add: &[f32], residual: &[f32], y: &mut [f32]) {
    let p: MatmulParams = params(bytes);
    let fours = |n: u32| n as usize * 4;
    let (rows, outputs) = (p.rows as usize, fours(p.outputs));
    let epilogue = Epilogue {
        bias: &weight.bias,
        flags: p.flags,
        activation: p.activation,
        add,
        add_at: fours(p.add_at),
        add_stride: fours(p.add_stride),
        rows_per_image: p.rows_per_image as usize,
        residual,
    };
    let geglu = p.flags & GEGLU != 0;
    let mut wide = vec![];
    let out: &mut [f32] = if geglu {
        wide.resize(rows * outputs, 0.0);
        &mut wide
    } else {
        &mut y[..rows * outputs]
    };
    let mut scratch = vec![];
    for first in (0..outputs).step_by(weight.panel()) {
        let count = weight.panel().min(outputs - first);
        let (panel, stride) = weight.columns(first, count, &mut scratch);
        let mut start = 0;
        for (x, inputs) in x.into_iter().zip([fours(p.inputs1), fours(p.inputs2)]).filter(|(_, n)| *n > 0) {
            let a = View { data: x, start: 0, row: inputs, column: 1 };
            let b = View { data: panel, start: start * stride, row: stride, column: 1 };
            product([rows, count, inputs], out, first, outputs, start > 0, a, b, 1.0, false);
            start += inputs;
        }
    }
    parallel::rows(out, outputs, |row, values| epilogue.finish(row, values));
    if geglu {
        parallel::rows(&mut y[..rows * outputs / 2], outputs / 2, |row, y| gate(&wide[row * outputs..], y));
    }
}

/// Values and gates alternate by four.
fn gate(wide: &[f32], y: &mut [f32]) {
    for (y, pair) in y.chunks_exact_mut(4).zip(wide.chunks_exact(8)) {
        y.copy_from_slice(&pair[4..]);
        y.iter_mut().zip(pair).for_each(|(g, v)| *g = v * gelu(*g));
    }
}
