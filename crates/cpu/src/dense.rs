//! A matrix of weights as products want it.

use std::ops::Range;

use tintype_quant::{Format, Matrix};

use crate::Lines;
use crate::lanes::{Lanes, widest};
use crate::tasks::{Shared, tasks};
use crate::tile::{Panels, registers};
use crate::winograd::{self, Kind};

/// Values that are unpacked at a time.
const BLOCK: usize = 1 << 20;

/// How the weights of a 3x3 convolution are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Plain,
    /// Transformed, in their place.
    Winograd(Kind),
}

/// A matrix, `[taps, inputs, outputs]`, and its bias.
pub struct Dense {
    /// Taps times inputs.
    pub depth: usize,
    pub outputs: usize,
    pub bias: Vec<f32>,
    values: Values,
    /// Those of the registers that it is packed for.
    lanes: usize,
}

enum Values {
    /// `[outputs / 2 N][depth][2 N]`, the last panel as wide as it must.
    Panels(Lines),
    Transformed(Kind, Lines),
    /// The blob, whose layout this is.
    Bytes(Matrix, Vec<u8>),
}

impl Dense {
    /// Of a blob; only f32 can be `form`.
    pub fn new(matrix: &Matrix, blob: Vec<u8>, form: Form) -> Dense {
        widest!(make(matrix, blob, form))
    }

    /// The form that its weights are kept in.
    pub fn form(&self) -> Form {
        match &self.values {
            Values::Transformed(kind, _) => Form::Winograd(*kind),
            _ => Form::Plain,
        }
    }

    /// Transformed weights, where they are kept.
    pub(crate) fn transformed(&self) -> Option<(Kind, &[f32])> {
        match &self.values {
            Values::Transformed(kind, lines) => Some((*kind, lines.values())),
            _ => None,
        }
    }

    /// Outputs of a block: all of them where nothing has to be unpacked.
    pub(crate) fn block(&self) -> usize {
        match self.values {
            Values::Bytes(..) => {
                let panel = 2 * self.lanes;
                (BLOCK / self.depth / panel).max(1) * panel
            }
            _ => self.outputs,
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.outputs.div_ceil(self.block())
    }

    /// The panels of a block, and which they are; the pointer is where the first of all would be. Where they must be
    /// unpacked they go into `scratch`, unless they are there from the last call.
    pub(crate) fn panels(&self, block: usize, unpack: bool, scratch: &mut Lines) -> (Panels, Range<usize>) {
        let each = 2 * self.lanes;
        let all = self.outputs.div_ceil(each);
        let of = |first: *const f32| Panels { first, depth: self.depth, outputs: self.outputs };
        let (matrix, blob) = match &self.values {
            Values::Panels(lines) => return (of(lines.values().as_ptr()), 0..all),
            Values::Bytes(matrix, blob) => (matrix, blob),
            Values::Transformed(..) => panic!("weights of a 3x3 convolution that are transformed"),
        };
        let panels = block * self.block() / each..((block + 1) * self.block() / each).min(all);
        let values = scratch.room(panels.len() * self.depth * each);
        if unpack {
            unpack_panels(matrix, blob, self.lanes, panels.clone(), values);
        }
        (of(values.as_ptr().wrapping_sub(panels.start * self.depth * each)), panels)
    }
}

unsafe fn make<L: Lanes>(matrix: &Matrix, blob: Vec<u8>, form: Form) -> Dense {
    let (depth, outputs, bias) = (matrix.depth(), matrix.outputs as usize, matrix.bias(&blob));
    let lanes = L::N;
    let values = if matrix.format != Format::F32 {
        Values::Bytes(*matrix, blob)
    } else {
        let mut lines = Lines::new(outputs.next_multiple_of(lanes) * depth);
        unpack_panels(matrix, &blob, lanes, 0..outputs.div_ceil(2 * lanes), lines.values_mut());
        drop(blob);
        match form {
            Form::Plain => Values::Panels(lines),
            Form::Winograd(kind) => {
                let panels = Panels { first: lines.values().as_ptr(), depth, outputs };
                let mut made = Lines::new(winograd::weights_size::<L>(kind, depth / 9, outputs));
                let to = Shared::new(made.values_mut());
                unsafe { winograd::weights::<L>(kind, panels, 0..outputs.div_ceil(2 * lanes), to) };
                Values::Transformed(kind, made)
            }
        }
    };
    Dense { depth, outputs, bias, values, lanes }
}

/// Some panels of a blob, as f32; those of outputs that are not there are zero.
fn unpack_panels(matrix: &Matrix, blob: &[u8], lanes: usize, panels: Range<usize>, to: &mut [f32]) {
    let (depth, outputs) = (matrix.depth(), matrix.outputs as usize);
    assert!(to.len() >= (panels.len() - 1) * depth * 2 * lanes);
    let shared = Shared::new(to);
    let first = panels.start;
    tasks(panels.len(), |i| {
        let (registers, _) = registers(first + i, outputs, lanes);
        let width = registers * lanes;
        // SAFETY: each panel has a place of its own.
        let panel =
            unsafe { std::slice::from_raw_parts_mut(shared.get().add(i * depth * 2 * lanes), depth * width) };
        let begin = (first + i) * 2 * lanes;
        if begin + width > outputs {
            panel.fill(0.0);
        }
        for column in (0..width.min(outputs - begin)).step_by(4) {
            matrix.unpack(blob, (begin + column) / 4, |k, four| {
                panel[k * width + column..][..4].copy_from_slice(&four);
            });
        }
    });
}
