//! kernels/matmul.wgsl on the CPU.

use std::cell::RefCell;
use std::ops::Range;

use crate::dense::Dense;
use crate::epilogue::{Epilogue, Finish, activate};
use crate::lanes::{Lanes, widest};
use crate::tasks::{Shared, tasks};
use crate::tile::{Panels, block, cut};
use crate::{Lines, PIECE, Scratch};

thread_local!(static WIDE: RefCell<Lines> = RefCell::default());

/// `[rows, inputs] -> [rows, outputs]`.
pub struct Matmul<'a> {
    pub rows: usize,
    /// Inputs side by side, and the channels of each.
    pub x: [&'a [f32]; 2],
    pub inputs: [usize; 2],
    pub weight: &'a Dense,
    pub epilogue: Epilogue<'a>,
    /// Outputs are values and gates, alternating by four, and there are half as many: `value * act(gate)`, with the activation
    /// of this number.
    pub gate: Option<u32>,
}

impl Matmul<'_> {
    pub fn pieces(&self) -> usize {
        self.weight.blocks() * self.rows.div_ceil(self.piece())
    }

    /// Rows of a piece.
    fn piece(&self) -> usize {
        let columns = self.weight.block().min(self.weight.outputs);
        let rows = PIECE / (2 * columns * self.weight.depth);
        (rows / 96).max(1) * 96
    }

    /// Pieces in their order.
    pub fn run(&self, piece: usize, y: &mut [f32], scratch: &mut Scratch) {
        let outputs = self.weight.outputs;
        assert_eq!(self.inputs[0] + self.inputs[1], self.weight.depth, "inputs of a product");
        let width = if self.gate.is_some() { outputs / 2 } else { outputs };
        assert!(y.len() >= self.rows * width, "{} values for {} rows of {width}", y.len(), self.rows);
        for (x, inputs) in self.x.iter().zip(self.inputs) {
            assert!(x.len() >= self.rows * inputs, "{} values of {} rows of {inputs}", x.len(), self.rows);
        }
        self.epilogue.check(self.rows);
        let pieces = self.rows.div_ceil(self.piece());
        let (at, piece) = (piece / pieces, piece % pieces);
        let rows = piece * self.piece()..((piece + 1) * self.piece()).min(self.rows);
        let (weights, panels) = self.weight.panels(at, piece == 0, &mut scratch.panels);
        widest!(product(self, rows, weights, panels, Shared::new(y)));
    }
}

/// `weights` are those whose panels are asked for, so that the first of them is `panels.start`.
unsafe fn product<L: Lanes>(
    m: &Matmul,
    rows: Range<usize>,
    weights: Panels,
    panels: Range<usize>,
    y: Shared,
) {
    let count = rows.len();
    let (mut rows_each, panels_each) = cut::<L>(count, panels.len());
    rows_each = rows_each.min(count);
    let (down, across) = (count.div_ceil(rows_each), panels.len().div_ceil(panels_each));
    let from = m.x.map(|x| x.as_ptr() as usize);
    tasks(down * across, |task| unsafe {
        let (i, j) = (task % down, task / down);
        let first = rows.start + i * rows_each;
        let own_rows = first..(first + rows_each).min(rows.end);
        let own = panels.start + j * panels_each..(panels.start + (j + 1) * panels_each).min(panels.end);
        let columns = own.start * 2 * L::N..(own.end * 2 * L::N).min(weights.outputs);
        let multiply = |c: *mut f32, c_row: usize| {
            let mut at = 0;
            for (x, inputs) in from.into_iter().zip(m.inputs).filter(|(_, inputs)| *inputs > 0) {
                let a = (x as *const f32).add(first * inputs);
                block::<L>(
                    [own_rows.len(), inputs],
                    (a, inputs),
                    weights,
                    at,
                    own.clone(),
                    (c, c_row),
                    at > 0,
                );
                at += inputs;
            }
        };
        let y = y.get();
        let Some(activation) = m.gate else {
            let (c, stride) = (y.add(first * weights.outputs), weights.outputs);
            multiply(c, stride);
            let values = c.add(columns.start);
            return L::call::<Finish>((&m.epilogue, own_rows.clone(), columns, values, stride));
        };
        WIDE.with_borrow_mut(|wide| {
            let width = columns.len();
            let wide = wide.room(own_rows.len() * width).as_mut_ptr();
            multiply(wide.wrapping_sub(columns.start), width);
            L::call::<Finish>((&m.epilogue, own_rows.clone(), columns.clone(), wide, width));
            for row in own_rows.clone() {
                let y = y.add((row * weights.outputs + columns.start) / 2);
                gate(activation, wide.add((row - first) * width), y, width / 8);
            }
        });
    });
}

/// Values and gates alternate by four.
#[inline(always)]
unsafe fn gate(activation: u32, wide: *const f32, y: *mut f32, pairs: usize) {
    #[cfg(not(target_arch = "wasm32"))]
    use crate::lanes::Portable as Four;
    #[cfg(target_arch = "wasm32")]
    use crate::lanes::Simd128 as Four;
    for pair in 0..pairs {
        unsafe {
            let [value, gate] = [0, 4].map(|at| Four::load(wide.add(pair * 8 + at)));
            Four::store(y.add(pair * 4), Four::mul(value, activate::<Four>(activation, gate)));
        }
    }
}
