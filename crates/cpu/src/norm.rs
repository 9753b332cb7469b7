//! The norms' kernels on the CPU: kernels/norm_stats.wgsl, norm_scale.wgsl, norm_apply.wgsl, layer_norm.wgsl.

use std::ops::Range;

use crate::Scratch;
use crate::epilogue::activate;
use crate::lanes::{Lanes, Loop, load, store, widest};
use crate::tasks::rows;

/// Values of a task of what is done value by value.
const TASK: usize = 1 << 14;

/// Two inputs side by side, `[images, pixels, channels]` each.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub x: [&'a [f32]; 2],
    pub channels: [usize; 2],
    /// Of one image.
    pub pixels: usize,
}

/// Means and sums of squared deviations of `slab` pixels, `[images, slabs, channels / 4, 2, 4]`.
pub fn stats(inputs: &Inputs, slabs: usize, slab: usize, out: &mut [f32]) {
    widest!(stats_of(inputs, slabs, slab, out));
}

unsafe fn stats_of<L: Lanes>(inputs: &Inputs, slabs: usize, slab: usize, out: &mut [f32]) {
    let pixels = inputs.pixels;
    rows(out, (inputs.channels[0] + inputs.channels[1]) * 2, |row, out| {
        let (image, begin) = (row / slabs, row % slabs * slab);
        let range = image * pixels + begin..image * pixels + (begin + slab).min(pixels);
        let mut at = 0;
        for (x, channels) in inputs.x.into_iter().zip(inputs.channels) {
            let x = &x[..if channels > 0 { range.end * channels } else { 0 }];
            // SAFETY: these channels of these pixels are there.
            unsafe { L::call::<Stats>((x, channels, range.clone(), &mut out[at * 2..])) };
            at += channels;
        }
    });
}

struct Stats;

impl Loop for Stats {
    type Args<'a> = (&'a [f32], usize, Range<usize>, &'a mut [f32]);

    #[inline(always)]
    unsafe fn call<L: Lanes>((x, channels, pixels, out): Self::Args<'_>) {
        unsafe { stats_of_one::<L>(x, channels, pixels, out) }
    }
}

#[inline(always)]
unsafe fn stats_of_one<L: Lanes>(x: &[f32], channels: usize, pixels: Range<usize>, out: &mut [f32]) {
    const LINES: usize = 4;
    let count = pixels.len() as f32;
    let mut c = 0;
    while c < channels {
        let left = channels - c;
        let lines = left.div_ceil(L::N).min(LINES);
        unsafe {
            let x = x.as_ptr().add(c);
            let value =
                |pixel: usize, l: usize| load::<L>(x.add(pixel * channels + l * L::N), left - l * L::N);
            let mut means = [L::splat(0.0); LINES];
            for pixel in pixels.clone() {
                for l in 0..lines {
                    means[l] = L::add(means[l], value(pixel, l));
                }
            }
            for mean in &mut means {
                *mean = L::div(*mean, L::splat(count));
            }
            let mut squares = [L::splat(0.0); LINES];
            for pixel in pixels.clone() {
                for l in 0..lines {
                    let off = L::sub(value(pixel, l), means[l]);
                    squares[l] = L::madd(off, off, squares[l]);
                }
            }
            let mut values = [[0.0f32; 16]; 2];
            for l in 0..lines {
                L::store(values[0].as_mut_ptr(), means[l]);
                L::store(values[1].as_mut_ptr(), squares[l]);
                for i in (0..L::N.min(left - l * L::N)).step_by(4) {
                    let out = &mut out[(c + l * L::N + i) * 2..][..8];
                    out[..4].copy_from_slice(&values[0][i..i + 4]);
                    out[4..].copy_from_slice(&values[1][i..i + 4]);
                }
            }
        }
        c += lines * L::N;
    }
}

/// How statistics become a scale and a shift.
pub struct Groups {
    pub channels: usize,
    /// Channels of a group.
    pub group: usize,
    pub pixels: usize,
    pub slabs: usize,
    pub slab: usize,
    pub epsilon: f32,
}

/// Scale and shift, `[images, channels / 4, 2, 4]`; `w` holds weight, then bias.
pub fn scale(g: &Groups, stats: &[f32], w: &[f32], out: &mut [f32]) {
    let (channels, group) = (g.channels, g.group);
    let count = |slab: usize| g.slab.min(g.pixels - slab * g.slab) as f32;
    let total = (g.pixels * group) as f32;
    rows(out, channels * 2, |image, out| {
        let at = |slab: usize, c: usize| ((image * g.slabs + slab) * channels / 4 + c / 4) * 8 + c % 4;
        for start in (0..channels / group * group).step_by(group) {
            let members = || (0..g.slabs).flat_map(move |s| (start..start + group).map(move |c| (s, c)));
            let mean: f32 = members().map(|(s, c)| stats[at(s, c)] * (count(s) / total)).sum();
            let squares: f32 = members()
                .map(|(s, c)| stats[at(s, c) + 4] + (stats[at(s, c)] - mean).powi(2) * count(s))
                .sum();
            let deviation = (squares / total + g.epsilon).sqrt();
            for c in start..start + group {
                let scale = w[c] / deviation;
                out[c / 4 * 8 + c % 4] = scale;
                out[c / 4 * 8 + c % 4 + 4] = w[channels + c] - mean * scale;
            }
        }
    });
}

/// `act(group_norm(x))` by the three functions around; whether the statistics are finite, as they are where every value is.
pub fn group(
    inputs: &Inputs,
    g: &Groups,
    w: &[f32],
    activation: u32,
    y: &mut [f32],
    scratch: &mut Scratch,
) -> bool {
    let images = y.len() / (g.channels * g.pixels);
    let (statistics, affine) = (images * g.slabs * g.channels * 2, images * g.channels * 2);
    let (statistics, affine) = scratch.values.room(statistics + affine).split_at_mut(statistics);
    stats(inputs, g.slabs, g.slab, statistics);
    scale(g, statistics, w, affine);
    apply(inputs, activation, affine, y);
    statistics.iter().all(|v| v.is_finite())
}

/// Scale, shift and activation of every value; `affine` as [`scale`] makes it.
pub fn apply(inputs: &Inputs, activation: u32, affine: &[f32], y: &mut [f32]) {
    let [c1, c2] = inputs.channels;
    let width = c1 + c2;
    for (x, channels) in inputs.x.iter().zip(inputs.channels) {
        assert!(x.len() >= y.len() / width * channels, "{} values to norm", x.len());
    }
    assert!(
        affine.len() >= (y.len() / width).div_ceil(inputs.pixels) * width * 2,
        "{} values of scale",
        affine.len()
    );
    #[cfg(not(target_arch = "wasm32"))]
    use crate::lanes::Portable as Four;
    #[cfg(target_arch = "wasm32")]
    use crate::lanes::Simd128 as Four;
    let many = (TASK / width).max(1);
    rows(y, width * many, |block, y| {
        for (r, y) in y.chunks_exact_mut(width).enumerate() {
            let row = block * many + r;
            let affine = &affine[row / inputs.pixels * width * 2..][..width * 2];
            // SAFETY: lengths were asked above; widths are multiples of four.
            unsafe {
                let x = [
                    inputs.x[0].as_ptr().wrapping_add(row * c1),
                    inputs.x[1].as_ptr().wrapping_add(row * c2),
                ];
                for c in (0..width).step_by(4) {
                    let x = Four::load(if c < c1 { x[0].add(c) } else { x[1].add(c - c1) });
                    let [a, b] = [0, 4].map(|at| Four::load(affine.as_ptr().add(c * 2 + at)));
                    Four::store(y.as_mut_ptr().add(c), activate::<Four>(activation, Four::madd(x, a, b)));
                }
            }
        }
    });
}

/// The norm of every row of `width` values, of which `pixels` are an image's.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub width: usize,
    pub pixels: usize,
    pub epsilon: f32,
    /// Divides by the root of the mean of squares; or else by the deviation from the mean.
    pub rms: bool,
    /// A factor for each channel, and behind them, where it is biased, an addend for each.
    pub affine: Option<&'a [f32]>,
    pub biased: bool,
    pub modulation: Option<Modulation<'a>>,
    /// Added at the end, a value for each.
    pub residual: Option<&'a [f32]>,
    /// As kernels/lib/activation.wgsl numbers them; the last of all.
    pub activation: u32,
}

/// Afterwards `y (1 + scale) + shift`.
#[derive(Clone, Copy)]
pub struct Modulation<'a> {
    /// Those of all images, and the distance from one to the next.
    pub vectors: &'a [f32],
    pub stride: usize,
    /// Where in one they begin.
    pub scale: usize,
    pub shift: Option<usize>,
    /// The factor is the tanh of the scale.
    pub gate: bool,
}

/// `tanh` among activations.
const TANH: u32 = 8;

pub fn layer(norm: &Rows, x: &[f32], y: &mut [f32]) {
    let (width, images) = (norm.width, y.len() / norm.width / norm.pixels);
    let vectors = if norm.biased { 2 } else { 1 };
    assert!(x.len() >= y.len() && norm.affine.is_none_or(|w| w.len() >= vectors * width));
    assert!(norm.residual.is_none_or(|r| r.len() >= y.len()));
    if let Some(m) = norm.modulation {
        let end = (images - 1) * m.stride + m.scale.max(m.shift.unwrap_or(0)) + width;
        assert!(m.vectors.len() >= end, "{}", m.vectors.len());
    }
    widest!(layer_of(norm, x, y));
}

unsafe fn layer_of<L: Lanes>(norm: &Rows, x: &[f32], y: &mut [f32]) {
    let many = (TASK / norm.width).max(1);
    rows(y, norm.width * many, |block, y| {
        let x = &x[block * many * norm.width..][..y.len()];
        // SAFETY: lengths were asked above.
        unsafe { L::call::<Layer>((norm, block * many, x, y)) };
    });
}

struct Layer;

impl Loop for Layer {
    type Args<'a> = (&'a Rows<'a>, usize, &'a [f32], &'a mut [f32]);

    #[inline(always)]
    unsafe fn call<L: Lanes>((norm, first, x, y): Self::Args<'_>) {
        let width = norm.width;
        for (row, (x, y)) in (first..).zip(x.chunks_exact(width).zip(y.chunks_exact_mut(width))) {
            unsafe { layer_row::<L>(norm, x, y) };
            if let Some(m) = norm.modulation {
                let vector = &m.vectors[row / norm.pixels * m.stride..];
                for c in (0..width).step_by(L::N) {
                    unsafe {
                        let (p, count) = (y.as_mut_ptr().add(c), width - c);
                        let told = load::<L>(vector[m.scale..].as_ptr().add(c), count);
                        let factor =
                            if m.gate { activate::<L>(TANH, told) } else { L::add(L::splat(1.0), told) };
                        store::<L>(p, count, L::mul(load::<L>(p, count), factor));
                    }
                }
                if let Some(shift) = m.shift {
                    y.iter_mut().zip(&vector[shift..]).for_each(|(y, shift)| *y += shift);
                }
            }
            if let Some(residual) = norm.residual {
                y.iter_mut().zip(&residual[row * width..]).for_each(|(y, residual)| *y += residual);
            }
            if norm.activation != 0 {
                for c in (0..width).step_by(L::N) {
                    unsafe {
                        let (p, count) = (y.as_mut_ptr().add(c), width - c);
                        store::<L>(p, count, activate::<L>(norm.activation, load::<L>(p, count)));
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn layer_row<L: Lanes>(norm: &Rows, x: &[f32], y: &mut [f32]) {
    let width = x.len();
    let whole = width / L::N * L::N;
    let rest = whole..width;
    unsafe {
        let mut mean = 0.0;
        if !norm.rms {
            let mut sum = L::splat(0.0);
            for c in (0..whole).step_by(L::N) {
                sum = L::add(sum, L::load(x.as_ptr().add(c)));
            }
            mean = (L::sum(sum) + x[rest.clone()].iter().sum::<f32>()) / width as f32;
        }
        let mut squares = L::splat(0.0);
        for c in (0..whole).step_by(L::N) {
            let off = L::sub(L::load(x.as_ptr().add(c)), L::splat(mean));
            squares = L::madd(off, off, squares);
        }
        let squares_of_rest: f32 = x[rest.clone()].iter().map(|v| (v - mean) * (v - mean)).sum();
        let variance = (L::sum(squares) + squares_of_rest) / width as f32;
        let scale = 1.0 / (variance + norm.epsilon).sqrt();
        for c in (0..whole).step_by(L::N) {
            let mut v = L::mul(L::sub(L::load(x.as_ptr().add(c)), L::splat(mean)), L::splat(scale));
            if let Some(w) = norm.affine {
                let bias = if norm.biased { L::load(w.as_ptr().add(width + c)) } else { L::splat(0.0) };
                v = L::madd(v, L::load(w.as_ptr().add(c)), bias);
            }
            L::store(y.as_mut_ptr().add(c), v);
        }
        for c in rest {
            y[c] = (x[c] - mean) * scale;
            if let Some(w) = norm.affine {
                y[c] = y[c] * w[c] + if norm.biased { w[width + c] } else { 0.0 };
            }
        }
    }
}
