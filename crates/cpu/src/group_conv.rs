//! kernels/group_conv.wgsl on the CPU.

use crate::epilogue::activate;
use crate::lanes::{Lanes, Loop, load, store, widest};
use crate::tasks::rows;

/// A convolution of groups of channels that keeps height and width; `channels` are a multiple of four.
#[derive(Clone, Copy)]
pub struct GroupConv<'a> {
    pub size: [usize; 2],
    pub channels: usize,
    pub kernel: usize,
    /// Channels of a group.
    pub inputs: usize,
    /// `[inputs, kernel, kernel, channels]`, and behind them, where it is biased, `[channels]`.
    pub weight: &'a [f32],
    pub biased: bool,
    /// The second half of the channels are gates.
    pub gated: bool,
    pub activation: u32,
}

/// `x` is `[images, h, w, channels]`, `y` the same or half as wide.
pub fn run(conv: &GroupConv, x: &[f32], y: &mut [f32]) {
    let outputs = conv.outputs();
    let vectors = conv.inputs * conv.kernel * conv.kernel + usize::from(conv.biased);
    assert!(conv.weight.len() >= vectors * conv.channels, "{} weights", conv.weight.len());
    assert!(x.len() >= y.len() / outputs * conv.channels, "{} values", x.len());
    widest!(run_of(conv, x, y));
}

unsafe fn run_of<L: Lanes>(conv: &GroupConv, x: &[f32], y: &mut [f32]) {
    // A task is a row of pixels.
    // SAFETY: lengths were asked above.
    rows(y, conv.size[1] * conv.outputs(), |row, y| unsafe { L::call::<Row>((conv, row, x, y)) });
}

impl GroupConv<'_> {
    fn outputs(&self) -> usize {
        if self.gated { self.channels / 2 } else { self.channels }
    }
}

struct Row;

impl Loop for Row {
    type Args<'a> = (&'a GroupConv<'a>, usize, &'a [f32], &'a mut [f32]);

    #[inline(always)]
    unsafe fn call<L: Lanes>((conv, row, x, y): Self::Args<'_>) {
        let outputs = conv.outputs();
        for (column, y) in y.chunks_exact_mut(outputs).enumerate() {
            for c in (0..outputs).step_by(L::N) {
                let count = outputs - c;
                unsafe {
                    let mut v = made::<L>(conv, [row, column], c, count, x);
                    if conv.gated {
                        let gate = made::<L>(conv, [row, column], c + outputs, count, x);
                        v = L::mul(v, activate::<L>(SILU, gate));
                    }
                    store::<L>(y.as_mut_ptr().add(c), count, activate::<L>(conv.activation, v));
                }
            }
        }
    }
}

const SILU: u32 = 1;

/// `count` outputs, at most as many as there are lanes, from `c` on.
#[inline(always)]
unsafe fn made<L: Lanes>(
    conv: &GroupConv,
    [row, column]: [usize; 2],
    c: usize,
    count: usize,
    x: &[f32],
) -> L::V {
    let ([h, w], channels, taps) = (conv.size, conv.channels, conv.kernel * conv.kernel);
    let weight = |i: usize, tap: usize| unsafe {
        load::<L>(conv.weight.as_ptr().add((i * taps + tap) * channels + c), count)
    };
    unsafe {
        let mut sum = if conv.biased { weight(conv.inputs, 0) } else { L::splat(0.0) };
        for tap in 0..taps {
            let inside = |at: usize, of: usize| at.checked_sub(conv.kernel / 2).filter(|at| *at < of);
            let i = inside(row % h + tap / conv.kernel, h);
            let Some((i, j)) = i.zip(inside(column + tap % conv.kernel, w)) else { continue };
            let pixel = x.as_ptr().add(((row / h * h + i) * w + j) * channels);
            if conv.inputs == 1 {
                sum = L::madd(load::<L>(pixel.add(c), count), weight(0, tap), sum);
                continue;
            }
            let group = |c: usize| c / conv.inputs * conv.inputs;
            if group(c) == group(c + L::N.min(count) - 1) {
                for input in 0..conv.inputs {
                    sum = L::madd(L::splat(*pixel.add(group(c) + input)), weight(input, tap), sum);
                }
                continue;
            }
            // Lanes of one register are of several groups.
            for input in 0..conv.inputs {
                let mut values = [0.0f32; 16];
                for l in 0..L::N.min(count) {
                    values[l] = *pixel.add(group(c + l) + input);
                }
                sum = L::madd(L::load(values.as_ptr()), weight(input, tap), sum);
            }
        }
        sum
    }
}
