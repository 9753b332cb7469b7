//! A matrix of weights as products want it.

use std::cell::RefCell;
use std::mem::MaybeUninit;
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
    /// Lanes of the registers that the panels are packed for.
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
            let room = values.len();
            unpack_panels(matrix, blob, self.lanes, panels.clone(), (Shared::new(values), room));
        }
        (of(values.as_ptr().wrapping_sub(panels.start * self.depth * each)), panels)
    }
}

unsafe fn make<L: Lanes>(matrix: &Matrix, blob: Vec<u8>, form: Form) -> Dense {
    let (depth, outputs, bias) = (matrix.depth(), matrix.outputs as usize, matrix.bias(&blob));
    let (lanes, panels) = (L::N, outputs.div_ceil(2 * L::N));
    let values = match form {
        _ if matrix.format != Format::F32 => Values::Bytes(*matrix, blob),
        Form::Plain => {
            let count = outputs.next_multiple_of(lanes) * depth;
            let write = |to| unpack_panels(matrix, &blob, lanes, 0..panels, (to, count));
            // SAFETY: the panels are all of the values.
            Values::Panels(unsafe { Lines::written(count, write) })
        }
        Form::Winograd(kind) => {
            let write = |to| {
                tasks(panels, |panel| {
                    PANEL.with_borrow_mut(|values| {
                        let values = values.room(depth * 2 * lanes);
                        unpack_panel(matrix, &blob, lanes, panel, uninit(values));
                        let first = values.as_ptr().wrapping_sub(panel * depth * 2 * lanes);
                        let from = Panels { first, depth, outputs };
                        // SAFETY: each panel has a place of its own.
                        unsafe { winograd::transform_panel::<L>(kind, from, panel, to) };
                    });
                });
            };
            // SAFETY: the panels are all of the values.
            let lines =
                unsafe { Lines::written(winograd::weights_size::<L>(kind, depth / 9, outputs), write) };
            Values::Transformed(kind, lines)
        }
    };
    Dense { depth, outputs, bias, values, lanes }
}

thread_local!(static PANEL: RefCell<Lines> = RefCell::default());

/// Some panels of a blob, as f32, to where there is room for so many values.
fn unpack_panels(
    matrix: &Matrix,
    blob: &[u8],
    lanes: usize,
    panels: Range<usize>,
    (to, room): (Shared, usize),
) {
    let (depth, outputs) = (matrix.depth(), matrix.outputs as usize);
    let first = panels.start;
    tasks(panels.len(), |i| {
        let (registers, _) = registers(first + i, outputs, lanes);
        let (at, count) = (i * depth * 2 * lanes, depth * registers * lanes);
        assert!(at + count <= room, "panels end at {} of {room}", at + count);
        // SAFETY: each panel has a place of its own.
        let panel = unsafe { std::slice::from_raw_parts_mut(to.get().add(at).cast(), count) };
        unpack_panel(matrix, blob, lanes, first + i, panel);
    });
}

/// One panel of a blob, as f32; outputs that are not there are zero.
fn unpack_panel(matrix: &Matrix, blob: &[u8], lanes: usize, panel: usize, to: &mut [MaybeUninit<f32>]) {
    let outputs = matrix.outputs as usize;
    let (registers, _) = registers(panel, outputs, lanes);
    let (begin, width) = (panel * 2 * lanes, registers * lanes);
    if begin + width > outputs {
        to.fill(MaybeUninit::new(0.0));
    }
    for column in (0..width.min(outputs - begin)).step_by(4) {
        matrix.unpack(blob, (begin + column) / 4, |k, four| {
            to[k * width + column..][..4].write_copy_of_slice(&four);
        });
    }
}

/// Values that are there may be written over as well.
fn uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: both have the same layout, and nothing here makes a value undefined.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}
