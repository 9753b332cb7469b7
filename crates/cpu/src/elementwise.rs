//! kernels/{add,copy,image,mean,multiply_add,patchify,scale,step}.wgsl on the CPU.

use crate::epilogue::activate;
use crate::lanes::{Lanes, Loop, load, store, widest};
use crate::tasks::rows;

/// `a + k b` of every image of `image` values: `k` gives the scale of an image, `b` begins anew after `count` values.
pub fn add(image: usize, count: usize, k: impl Fn(usize) -> f32, a: &[f32], b: &[f32], y: &mut [f32]) {
    for (n, (y, a)) in y.chunks_exact_mut(image).zip(a.chunks_exact(image)).enumerate() {
        let k = k(n);
        let b = &b[n * image % count..][..image];
        y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = a + k * b);
    }
}

/// Applies the activation of this number (kernels/lib/activation.wgsl) to every value; their number is a multiple of four.
pub fn activate_all(kind: u32, values: &mut [f32]) {
    #[cfg(not(target_arch = "wasm32"))]
    use crate::lanes::Portable as Four;
    #[cfg(target_arch = "wasm32")]
    use crate::lanes::Simd128 as Four;
    if kind == 0 {
        return;
    }
    for four in values.chunks_exact_mut(4) {
        // SAFETY: there are four.
        unsafe { Four::store(four.as_mut_ptr(), activate::<Four>(kind, Four::load(four.as_ptr()))) };
    }
}

/// One step of a schedule: `k` are its twelve coefficients, `predictions` the last four, of which the first is written.
pub fn step(k: &[f32], guided: bool, model: &[f32], noise: &[f32], x: &mut [f32], predictions: &mut [f32]) {
    let count = x.len();
    if k[11] != 0.0 {
        predictions.copy_within(..3 * count, count);
    }
    for i in 0..count {
        let mut m = model[i];
        if guided {
            m += k[3] * (model[count + i] - m);
        }
        let predicted = (k[0] * x[i] + k[1] * m).clamp(-k[2], k[2]);
        let now = k[4] * predicted + k[5] * x[i] + k[6] * m + k[7] * noise[i];
        x[i] = (1..4).fold(now, |sum, b| sum + k[7 + b] * predictions[b * count + i]);
        predictions[i] = predicted;
    }
}

/// Pixels of four values from -1 to 1, of which three count, as bytes of RGBA.
pub fn image(x: &[f32], pixels: &mut [[u8; 4]]) {
    for (pixel, x) in pixels.iter_mut().zip(x.chunks_exact(4)) {
        let level = |v: f32| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        *pixel = [level(x[0]), level(x[1]), level(x[2]), 255];
    }
}

/// Means of squares of 2x2 pixels; those at an odd edge are of fewer.
pub fn mean([h, w]: [usize; 2], channels: usize, x: &[f32], y: &mut [f32]) {
    let (out_h, out_w) = (h.div_ceil(2), w.div_ceil(2));
    for (pixel, y) in y.chunks_exact_mut(channels).enumerate() {
        let (image, row, column) = (pixel / (out_h * out_w), pixel / out_w % out_h * 2, pixel % out_w * 2);
        let (rows, columns) = ((h - row).min(2), (w - column).min(2));
        y.fill(0.0);
        for at in (0..rows * columns).map(|i| (row + i / columns, column + i % columns)) {
            let from = ((image * h + at.0) * w + at.1) * channels;
            y.iter_mut().zip(&x[from..from + channels]).for_each(|(y, x)| *y += x);
        }
        y.iter_mut().for_each(|y| *y /= (rows * columns) as f32);
    }
}

/// Rows of `values`: a place in every so many of `x`, and the distance to the next, to a place of every so many of `y`.
pub fn copy(mut values: usize, from: [usize; 2], to: [usize; 2], x: &[f32], y: &mut [f32]) {
    const PIECE: usize = 1 << 14;
    let ([from, mut from_stride], [to, mut to_stride]) = (from, to);
    if values == from_stride && values == to_stride {
        // One row after the other is one long one, which all cores share.
        (values, from_stride, to_stride) = (y.len(), y.len(), y.len());
    }
    for (y, x) in y.chunks_exact_mut(to_stride).zip(x.chunks_exact(from_stride)) {
        let (y, x) = (&mut y[to..to + values], &x[from..from + values]);
        rows(y, PIECE, |i, y| y.copy_from_slice(&x[i * PIECE..][..y.len()]));
    }
}

/// Rows of `across` squares of `size` x `size` pixels: the pixels of a square side by side, or `back` in their rows.
pub fn patch(across: usize, size: usize, channels: usize, back: bool, x: &[f32], y: &mut [f32]) {
    let (line, square) = (size * channels, size * size * channels);
    rows(y, across * square, |row, y| {
        let x = &x[row * y.len()..][..y.len()];
        for (i, u) in (0..across).flat_map(|i| (0..size).map(move |u| (i, u))) {
            let (of_square, of_pixel) = (i * square + u * line, u * across * line + i * line);
            let (from, to) = if back { (of_square, of_pixel) } else { (of_pixel, of_square) };
            y[to..to + line].copy_from_slice(&x[from..from + line]);
        }
    });
}

/// Means of `ratio` channels that follow one another of squares of pixels, whose channels are in the order channel, row,
/// column: `x` has rows of `across` squares of `size` x `size` pixels of `channels`, and `y` squares of `wide`.
pub fn shrink([across, size, channels]: [usize; 3], wide: usize, ratio: usize, x: &[f32], y: &mut [f32]) {
    let line = across * size * channels;
    rows(y, across * wide, |row, y| {
        let x = &x[row * size * line..][..size * line];
        for (j, y) in y.chunks_exact_mut(wide).enumerate() {
            let value = |m: usize| {
                let (c, u, v) = (m / (size * size), m / size % size, m % size);
                x[u * line + (j * size + v) * channels + c]
            };
            for (o, y) in y.iter_mut().enumerate() {
                *y = (o * ratio..(o + 1) * ratio).map(value).sum::<f32>() / ratio as f32;
            }
        }
    });
}

/// Squares of pixels whose channels are those of a square, each repeated `ratio` times in its place: what `shrink` has for
/// `x` is `y` here.
pub fn grow([across, size, channels]: [usize; 3], wide: usize, ratio: usize, x: &[f32], y: &mut [f32]) {
    let line = across * size * channels;
    rows(y, size * line, |row, y| {
        let x = &x[row * across * wide..][..across * wide];
        for (at, y) in y.chunks_exact_mut(channels).enumerate() {
            let (u, j, v) = (at / (across * size), at / size % across, at % size);
            let x = &x[j * wide..][..wide];
            y.iter_mut().enumerate().for_each(|(c, y)| *y = x[(c * size * size + u * size + v) / ratio]);
        }
    });
}

/// Chains of what measures a peak.
pub const CHAINS: usize = 8;
/// Where each of them ends.
const END: f32 = 0.5;

/// Measures a peak: multiplications and additions, each of which waits for the last of its chain.
///
/// The chains v <- 0.75 v + 0.125 end at 0.5, from where they are counted here: e <- e - 0.25 e. What is added to is then
/// what is written, as in the loops of products; with a constant added, V8 copies it for every instruction.
pub fn multiply_add(rounds: u32, x: &[f32], y: &mut [f32]) {
    assert!(x.len() >= y.len(), "{} values for {}", x.len(), y.len());
    widest!(multiply_add_of(rounds, x, y));
}

unsafe fn multiply_add_of<L: Lanes>(rounds: u32, x: &[f32], y: &mut [f32]) {
    const ROW: usize = 1 << 8;
    rows(y, ROW, |i, y| unsafe { L::call::<MultiplyAdd>((rounds, &x[i * ROW..][..y.len()], y)) });
}

struct MultiplyAdd;

impl Loop for MultiplyAdd {
    type Args<'a> = (u32, &'a [f32], &'a mut [f32]);

    #[inline(always)]
    unsafe fn call<L: Lanes>((rounds, x, y): Self::Args<'_>) {
        for at in (0..y.len()).step_by(L::N) {
            let count = y.len() - at;
            unsafe {
                let x = load::<L>(x.as_ptr().add(at), count);
                let mut e: [L::V; CHAINS] =
                    std::array::from_fn(|chain| L::add(x, L::splat(chain as f32 - END)));
                let factor = L::splat(-0.25);
                for _ in 0..rounds {
                    for e in &mut e {
                        *e = L::madd(*e, factor, *e);
                    }
                }
                for width in [4, 2, 1] {
                    for i in 0..width {
                        e[i] = L::add(e[2 * i], e[2 * i + 1]);
                    }
                }
                store::<L>(y.as_mut_ptr().add(at), count, L::add(e[0], L::splat(CHAINS as f32 * END)));
            }
        }
    }
}
