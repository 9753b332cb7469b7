//! The norms' kernels on the CPU: kernels/norm_stats.wgsl, norm_scale.wgsl, norm_apply.wgsl, layer_norm.wgsl.

use super::activation::activate;
use super::{parallel, params};
use crate::kernels::{LayerNormParams, NormApplyParams, NormScaleParams, NormStatsParams};

/// Means and sums of squared deviations, `[images, slabs, channels / 4, 2, 4]`.
pub fn stats(bytes: &[u8], [x1, x2]: [&[f32]; 2], out: &mut [f32]) {
    let p: NormStatsParams = params(bytes);
    let [c1, c2] = [p.channels1 as usize * 4, p.channels2 as usize * 4];
    let (pixels, slabs, slab) = (p.pixels as usize, p.slabs as usize, p.slab as usize);
    parallel::rows(out, (c1 + c2) * 2, |row, out| {
        let (image, begin) = (row / slabs, row % slabs * slab);
        let end = (begin + slab).min(pixels);
        let count = (end - begin) as f32;
        let each = |visit: &mut dyn FnMut(usize, f32)| {
            for pixel in image * pixels + begin..image * pixels + end {
                let first = &x1[pixel * c1..pixel * c1 + c1];
                let second = if c2 > 0 { &x2[pixel * c2..pixel * c2 + c2] } else { &[] };
                first.iter().chain(second).enumerate().for_each(|(c, &v)| visit(c, v));
            }
        };
        let mut mean = vec![0.0f32; c1 + c2];
        each(&mut |c, v| mean[c] += v);
        mean.iter_mut().for_each(|m| *m /= count);
        let mut squares = vec![0.0f32; c1 + c2];
        each(&mut |c, v| squares[c] += (v - mean[c]) * (v - mean[c]));
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            out[..4].copy_from_slice(&mean[i * 4..i * 4 + 4]);
            out[4..].copy_from_slice(&squares[i * 4..i * 4 + 4]);
        }
    });
}

/// Scale and shift, `[images, channels / 4, 2, 4]`; `w` holds weight, then bias.
pub fn scale(bytes: &[u8], stats: &[f32], w: &[f32], out: &mut [f32]) {
    let p: NormScaleParams = params(bytes);
    let (channels, group, slabs) = (p.channels as usize * 4, p.group as usize, p.slabs as usize);
    let count = |slab: usize| (p.slab as usize).min(p.pixels as usize - slab * p.slab as usize) as f32;
    let total = (p.pixels as usize * group) as f32;
    parallel::rows(out, channels * 2, |image, out| {
        let at = |slab: usize, c: usize| ((image * slabs + slab) * channels / 4 + c / 4) * 8 + c % 4;
        for start in (0..channels / group * group).step_by(group) {
            let members = || (0..slabs).flat_map(move |s| (start..start + group).map(move |c| (s, c)));
            let mean: f32 = members().map(|(s, c)| stats[at(s, c)] * (count(s) / total)).sum();
            let squares: f32 = members()
                .map(|(s, c)| stats[at(s, c) + 4] + (stats[at(s, c)] - mean).powi(2) * count(s))
                .sum();
            let deviation = (squares / total + p.epsilon).sqrt();
            for c in start..start + group {
                let scale = w[c] / deviation;
                out[c / 4 * 8 + c % 4] = scale;
                out[c / 4 * 8 + c % 4 + 4] = w[channels + c] - mean * scale;
            }
        }
    });
}

pub fn apply(bytes: &[u8], [x1, x2]: [&[f32]; 2], affine: &[f32], y: &mut [f32]) {
    let p: NormApplyParams = params(bytes);
    let [c1, c2] = [p.channels1 as usize * 4, p.channels2 as usize * 4];
    let pixels = p.pixels as usize;
    parallel::rows(y, c1 + c2, |row, y| {
        y[..c1].copy_from_slice(&x1[row * c1..row * c1 + c1]);
        if c2 > 0 {
            y[c1..].copy_from_slice(&x2[row * c2..row * c2 + c2]);
        }
        let affine = &affine[row / pixels * (c1 + c2) * 2..];
        for (y, a) in y.chunks_exact_mut(4).zip(affine.chunks_exact(8)) {
            (0..4).for_each(|i| y[i] = y[i] * a[i] + a[4 + i]);
        }
        activate(p.activation, y);
    });
}

pub fn layer(bytes: &[u8], x: &[f32], w: &[f32], y: &mut [f32]) {
    let p: LayerNormParams = params(bytes);
    let width = p.width as usize;
    parallel::rows(y, width, |row, y| {
        let x = &x[row * width..row * width + width];
        let mean = x.iter().sum::<f32>() / width as f32;
        let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / width as f32;
        let scale = 1.0 / (variance + p.epsilon).sqrt();
        for (c, (y, v)) in y.iter_mut().zip(x).enumerate() {
            *y = (v - mean) * scale * w[c] + w[width + c];
        }
    });
}
