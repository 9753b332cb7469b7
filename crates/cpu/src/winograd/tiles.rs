//! What goes into the products of a tile, and what comes out.

use std::marker::PhantomData;
use std::ops::Range;

use super::transform::Transform;
use crate::conv::Conv;
use crate::epilogue::Finish;
use crate::lanes::{Lanes, Loop, load, store};

/// Registers of channels that are transformed together.
const LINES: usize = 4;

/// The transform of one tile's inputs, all channels of one of the inputs.
pub struct Input<T>(PhantomData<T>);

impl<T: Transform> Loop for Input<T> {
    type Args<'a> = (&'a Conv<'a>, *const f32, usize, [usize; 3], *mut f32, usize);

    #[inline(always)]
    unsafe fn call<L: Lanes>((conv, x, channels, tile, to, pitch): Self::Args<'_>) {
        unsafe { input::<L, T>(conv, x, channels, tile, to, pitch) }
    }
}

#[inline(always)]
unsafe fn input<L: Lanes, T: Transform>(
    conv: &Conv,
    x: *const f32,
    channels: usize,
    [image, row, column]: [usize; 3],
    to: *mut f32,
    pitch: usize,
) {
    unsafe {
        let mut from = [[std::ptr::null(); 6]; 6];
        for (i, from) in from.iter_mut().enumerate().take(T::A) {
            let Some(row) = conv.shape.source(row * T::R + i, 0) else { continue };
            for (j, from) in from.iter_mut().enumerate().take(T::A) {
                let Some(column) = conv.shape.source(column * T::R + j, 1) else { continue };
                *from =
                    x.add(((image * conv.shape.stored[0] + row) * conv.shape.stored[1] + column) * channels);
            }
        }
        let mut c = 0;
        while c < channels {
            let left = channels - c;
            let lines = left.div_ceil(L::N).min(LINES);
            let mut half = [[[L::splat(0.0); LINES]; 6]; 6];
            for j in 0..T::A {
                for l in 0..lines {
                    let mut d = [L::splat(0.0); 6];
                    for i in 0..T::A {
                        if !from[i][j].is_null() {
                            d[i] = load::<L>(from[i][j].add(c + l * L::N), left - l * L::N);
                        }
                    }
                    let d = T::inputs::<L>(d);
                    for i in 0..T::A {
                        half[i][j][l] = d[i];
                    }
                }
            }
            for (i, half) in half.iter().enumerate().take(T::A) {
                for l in 0..lines {
                    let mut d = [L::splat(0.0); 6];
                    for j in 0..T::A {
                        d[j] = half[j][l];
                    }
                    let d = T::inputs::<L>(d);
                    for j in 0..T::A {
                        let to = to.add((i * T::A + j) * pitch + c + l * L::N);
                        store::<L>(to, left - l * L::N, d[j]);
                    }
                }
            }
            c += lines * L::N;
        }
    }
}

/// The transform of one tile's products, what they go through, and their place.
pub struct Output<T>(PhantomData<T>);

impl<T: Transform> Loop for Output<T> {
    type Args<'a> = (&'a Conv<'a>, [usize; 3], Range<usize>, *const f32, usize, *mut f32);

    #[inline(always)]
    unsafe fn call<L: Lanes>((conv, tile, columns, from, pitch, y): Self::Args<'_>) {
        unsafe { output::<L, T>(conv, tile, columns, from, pitch, y) }
    }
}

#[inline(always)]
unsafe fn output<L: Lanes, T: Transform>(
    conv: &Conv,
    [image, row, column]: [usize; 3],
    columns: Range<usize>,
    from: *const f32,
    pitch: usize,
    y: *mut f32,
) {
    unsafe {
        let [h, w] = conv.shape.out;
        let inside = [T::R.min(h - row * T::R), T::R.min(w - column * T::R)];
        let mut c = 0;
        while c < columns.len() {
            let left = columns.len() - c;
            let lines = left.div_ceil(L::N).min(LINES);
            let mut half = [[[L::splat(0.0); LINES]; 6]; 4];
            for j in 0..T::A {
                for l in 0..lines {
                    let mut d = [L::splat(0.0); 6];
                    for i in 0..T::A {
                        let from = from.add((i * T::A + j) * pitch + c + l * L::N);
                        d[i] = load::<L>(from, left - l * L::N);
                    }
                    let d = T::outputs::<L>(d);
                    for i in 0..T::R {
                        half[i][j][l] = d[i];
                    }
                }
            }
            let outputs = conv.weight.outputs;
            for (i, half) in half.iter().enumerate().take(inside[0]) {
                let (first, at) = ((image * h + row * T::R + i) * w + column * T::R, columns.start + c);
                let to = y.add(first * outputs + at);
                for l in 0..lines {
                    let mut d = [L::splat(0.0); 6];
                    for j in 0..T::A {
                        d[j] = half[j][l];
                    }
                    let d = T::outputs::<L>(d);
                    for (j, &d) in d.iter().enumerate().take(inside[1]) {
                        store::<L>(to.add(j * outputs + l * L::N), left - l * L::N, d);
                    }
                }
                // In a loop of its own: written out with every pixel above, activations would be most of this function.
                let places = at..at + left.min(lines * L::N);
                L::call::<Finish>((&conv.epilogue, first..first + inside[1], places, to, outputs));
            }
            c += lines * L::N;
        }
    }
}
