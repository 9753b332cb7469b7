//! The product of a few rows with a panel of weights, in registers: of it all products are made.
//!
//! A panel has the weights of `2 N` outputs, or of `N` where there are no more, for registers of `N` lanes:
//! `[inputs][outputs]`, in the order in which the innermost loop reads them.

use crate::lanes::{Lanes, Loop, load, store};
use crate::tasks::threads;

/// Rows of `a` times one panel.
pub struct Strip {
    pub rows: usize,
    /// Registers of outputs, 1 or 2, and how many values of the last one are stored.
    pub registers: usize,
    pub last: usize,
    /// Inputs: a multiple of four.
    pub depth: usize,
    /// The next row begins `a_row` values on.
    pub a: *const f32,
    pub a_row: usize,
    pub panel: *const f32,
    pub c: *mut f32,
    pub c_row: usize,
    /// What is in `c` counts too.
    pub accumulate: bool,
}

static ZEROS: [f32; 16] = [0.0; 16];

/// `M` rows in `M R` registers. Sums begin as zeros or as what is there, loaded alike: of the ways to write this loop it is
/// one that V8 keeps in registers. Sums that are spilled cost little in one run and half of all time in the next, by where
/// the stack lies.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
unsafe fn tile<L: Lanes, const M: usize, const R: usize>(
    depth: usize,
    a: *const f32,
    a_row: usize,
    mut panel: *const f32,
    [c, c_row, last]: [usize; 3],
    accumulate: bool,
) {
    unsafe {
        let c = c as *mut f32;
        let count = |r: usize| if r == R - 1 { last } else { L::N };
        let mut sums = [[L::splat(0.0); R]; M];
        let (from, step) = if accumulate { (c.cast_const(), c_row) } else { (ZEROS.as_ptr(), 0) };
        for (i, sums) in sums.iter_mut().enumerate() {
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = load::<L>(from.add(i * step + if accumulate { r * L::N } else { 0 }), count(r));
            }
        }
        let mut rows: [*const f32; M] = std::array::from_fn(|i| a.add(i * a_row));
        let end = a.add(depth);
        while rows[0] < end {
            for u in 0..4 {
                let b: [L::V; R] = std::array::from_fn(|r| L::load(panel.add((u * R + r) * L::N)));
                for i in 0..M {
                    let a = L::splat(*rows[i].add(u));
                    for r in 0..R {
                        sums[i][r] = L::madd(a, b[r], sums[i][r]);
                    }
                }
            }
            panel = panel.add(4 * R * L::N);
            for row in rows.iter_mut() {
                *row = row.add(4);
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (r, sum) in sums.into_iter().enumerate() {
                store::<L>(c.add(i * c_row + r * L::N), count(r), sum);
            }
        }
    }
}

/// As many rows at a time as there are registers for. Where those calls are one with the calls of fewer rows, through a
/// pointer, V8 makes a copy of what is called within this loop, and the copy has too few registers: half as fast.
pub struct Tiles;

impl Loop for Tiles {
    type Args<'a> = &'a Strip;

    #[inline(always)]
    unsafe fn call<L: Lanes>(s: &Strip) {
        unsafe {
            match s.registers {
                1 => strip::<L, 1>(s),
                _ => strip::<L, 2>(s),
            }
        }
    }
}

#[inline(always)]
unsafe fn strip<L: Lanes, const R: usize>(s: &Strip) {
    let mut row = 0;
    macro_rules! tiles {
        ($many:expr, $($m:literal)*) => {
            match $many {
                $($m if $m <= L::ROWS => unsafe { rows::<L, $m, R>(s, row) },)*
                _ => {}
            }
        };
    }
    while row + L::ROWS <= s.rows {
        tiles!(L::ROWS, 6 10 12);
        row += L::ROWS;
    }
    tiles!(s.rows - row, 1 2 3 4 5 6 7 8 9 10 11);
}

#[inline(always)]
unsafe fn rows<L: Lanes, const M: usize, const R: usize>(s: &Strip, row: usize) {
    unsafe {
        let c = s.c.add(row * s.c_row) as usize;
        let a = s.a.add(row * s.a_row);
        tile::<L, M, R>(s.depth, a, s.a_row, s.panel, [c, s.c_row, s.last], s.accumulate);
    }
}

/// Panels of one matrix: `depth` inputs of `outputs` outputs, `2 N` of them a panel.
#[derive(Clone, Copy)]
pub struct Panels {
    pub first: *const f32,
    pub depth: usize,
    pub outputs: usize,
}

// SAFETY: they are only read.
unsafe impl Send for Panels {}
unsafe impl Sync for Panels {}

/// Outputs of the `panel`th panel of `width`, and of its last register of `lanes`: there, and stored.
pub fn registers(panel: usize, outputs: usize, lanes: usize) -> (usize, usize) {
    let left = (outputs - panel * 2 * lanes).min(2 * lanes);
    let registers = left.div_ceil(lanes);
    (registers, left - (registers - 1) * lanes)
}

/// `[rows, depth]` at `a` times inputs `at..` of some panels, to `c`, where column 0 belongs to panel 0.
#[inline(always)]
pub unsafe fn block<L: Lanes>(
    [rows, depth]: [usize; 2],
    (a, a_row): (*const f32, usize),
    weights: Panels,
    at: usize,
    panels: std::ops::Range<usize>,
    (c, c_row): (*mut f32, usize),
    accumulate: bool,
) {
    for begin in (0..depth).step_by(L::DEPTH) {
        for panel in panels.clone() {
            let (registers, last) = registers(panel, weights.outputs, L::N);
            unsafe {
                L::call::<Tiles>(&Strip {
                    rows,
                    registers,
                    last,
                    depth: L::DEPTH.min(depth - begin),
                    a: a.add(begin),
                    a_row,
                    panel: weights.first.add((panel * weights.depth * 2 + (at + begin) * registers) * L::N),
                    c: c.add(panel * 2 * L::N),
                    c_row,
                    accumulate: accumulate || begin > 0,
                });
            }
        }
    }
}

/// How rows and panels are cut for the threads: rows of a block, panels of a block. It decides who computes what, not
/// in which order sums are made.
pub fn cut<L: Lanes>(rows: usize, panels: usize) -> (usize, usize) {
    let blocks = rows.div_ceil(96);
    let rows_each = rows.div_ceil(blocks).next_multiple_of(L::ROWS);
    let blocks = rows.div_ceil(rows_each);
    let wanted = match threads() {
        1 => 1,
        several => (several * 4).div_ceil(blocks).clamp(1, panels),
    };
    (rows_each, panels.div_ceil(wanted))
}
