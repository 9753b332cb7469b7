//! kernels/{add,copy,image,mean,multiply_add,scale,step}.wgsl on the CPU.

use super::activation::activate;
use super::{parallel, params};
use crate::kernels::{AddParams, CopyParams, ImageParams, MeanParams, ScaleParams, StepParams};
use crate::ops::{CHAINS, GUIDED, ROUNDS};

pub fn add(bytes: &[u8], scales: &[f32], a: &[f32], b: &[f32], y: &mut [f32]) {
    let p: AddParams = params(bytes);
    let image = p.image as usize * 4;
    for (n, (y, a)) in y.chunks_exact_mut(image).zip(a.chunks_exact(image)).enumerate() {
        let k = scales[(n * p.slots as usize + p.slot as usize) * 4];
        let b = &b[n * image % (p.count as usize * 4)..][..image];
        y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = a + k * b);
    }
}

pub fn scale(bytes: &[u8], x: &[f32], coefficients: &[f32], y: &mut [f32]) {
    let p: ScaleParams = params(bytes);
    let (count, channels) = (p.count as usize, p.channels as usize);
    let (a, b) = (coefficients[0], coefficients[1]);
    for (i, four) in y.chunks_exact_mut(4).take(p.total as usize).enumerate() {
        let at = i % count * 4;
        four.iter_mut().zip(&x[at..at + 4]).for_each(|(y, x)| *y = a * x + b);
        activate(p.activation, four);
        if i % channels == channels - 1 {
            // Padding stays zero.
            four[p.last as usize..].fill(0.0);
        }
    }
}

pub fn step(bytes: &[u8], k: &[f32], model: &[f32], noise: &[f32], x: &mut [f32], predictions: &mut [f32]) {
    let p: StepParams = params(bytes);
    let count = p.count as usize * 4;
    if k[11] != 0.0 {
        predictions.copy_within(..3 * count, count);
    }
    for i in 0..count {
        let mut m = model[i];
        if p.flags & GUIDED != 0 {
            m += k[3] * (model[count + i] - m);
        }
        let predicted = (k[0] * x[i] + k[1] * m).clamp(-k[2], k[2]);
        let now = k[4] * predicted + k[5] * x[i] + k[6] * m + k[7] * noise[i];
        x[i] = (1..4).fold(now, |sum, b| sum + k[7 + b] * predictions[b * count + i]);
        predictions[i] = predicted;
    }
}

/// The pixels' bytes go into `y` as they are.
pub fn image(bytes: &[u8], x: &[f32], y: &mut [f32]) {
    let p: ImageParams = params(bytes);
    let pixels = bytemuck::cast_slice_mut::<f32, [u8; 4]>(y).iter_mut().take(p.pixels as usize);
    for (pixel, x) in pixels.zip(x.chunks_exact(4)) {
        let level = |v: f32| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        *pixel = [level(x[0]), level(x[1]), level(x[2]), 255];
    }
}

pub fn mean(bytes: &[u8], x: &[f32], y: &mut [f32]) {
    let p: MeanParams = params(bytes);
    let [h, w] = [p.in_h, p.in_w].map(|n| n as usize);
    let channels = p.channels as usize * 4;
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

pub fn copy(bytes: &[u8], x: &[f32], y: &mut [f32]) {
    const PIECE: usize = 1 << 14;
    let p: CopyParams = params(bytes);
    let [mut values, at, mut stride] = [p.values, p.at, p.stride].map(|n| n as usize * 4);
    if values == stride {
        // One row after the other is one long one, which all cores share.
        (values, stride) = (y.len(), y.len());
    }
    for (y, x) in y.chunks_exact_mut(stride).zip(x.chunks_exact(values)) {
        let y = &mut y[at..at + values];
        parallel::rows(y, PIECE, |i, y| y.copy_from_slice(&x[i * PIECE..][..y.len()]));
    }
}

pub fn multiply_add(x: &[f32], y: &mut [f32]) {
    const ROW: usize = 1 << 8;
    parallel::rows(y, ROW, |i, y| {
        for (y, x) in y.iter_mut().zip(&x[i * ROW..]) {
            let mut v: [f32; CHAINS as usize] = std::array::from_fn(|chain| x + chain as f32);
            for _ in 0..ROUNDS {
                v.iter_mut().for_each(|v| *v = *v * 0.75 + 0.125);
            }
            *y = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
        }
    });
}
