//! kernels/conv.wgsl on the CPU: patches are gathered for a band of pixels, then multiplied.

use super::gemm::{View, product};
use super::matmul::Epilogue;
use super::weights::Dense;
use super::{parallel, params};
use crate::kernels::ConvParams;

/// Values of the patches that are gathered at a time: they should stay in the cache.
const BAND: usize = 1 << 16;

pub fn run(
    kernel: usize,
    bytes: &[u8],
    x: [&[f32]; 2],
    weight: &Dense,
    add: &[f32],
    residual: &[f32],
    y: &mut [f32],
) {
    let p: ConvParams = params(bytes);
    let fours = |n: u32| n as usize * 4;
    let (outputs, pixels) = (fours(p.outputs), (p.out_h * p.out_w) as usize);
    let epilogue = Epilogue {
        bias: &weight.bias,
        flags: p.flags,
        activation: p.activation,
        add,
        add_at: fours(p.add_at),
        add_stride: fours(p.add_stride),
        rows_per_image: pixels,
        residual,
    };
    let depth = kernel * kernel * fours(p.inputs1 + p.inputs2);
    let band = (BAND / depth).clamp(8, 1024);
    let mut scratch = vec![];
    for first in (0..outputs).step_by(weight.panel()) {
        let count = weight.panel().min(outputs - first);
        let (panel, stride) = weight.columns(first, count, &mut scratch);
        let whole = count == outputs;
        let b = View { data: panel, start: 0, row: stride, column: 1 };
        parallel::rows(y, band * outputs, |i, out| {
            let rows = out.len() / outputs;
            let mut patches = vec![0.0; rows * depth];
            for (r, patch) in patches.chunks_exact_mut(depth).enumerate() {
                gather(&p, kernel, x, i * band + r, patch);
            }
            let a = View { data: &patches, start: 0, row: depth, column: 1 };
            product([rows, count, depth], out, first, outputs, false, a, b, 1.0, true);
            if whole {
                let finish = |(r, values)| epilogue.finish(i * band + r, values);
                out.chunks_exact_mut(outputs).enumerate().for_each(finish);
            }
        });
        if !whole && first + count == outputs {
            parallel::rows(y, outputs, |row, values| epilogue.finish(row, values));
        }
    }
}

/// The inputs of one output pixel, `[taps, inputs]`, zero outside; as the kernel finds them.
fn gather(p: &ConvParams, kernel: usize, [x1, x2]: [&[f32]; 2], pixel: usize, patch: &mut [f32]) {
    let [c1, c2] = [p.inputs1 as usize * 4, p.inputs2 as usize * 4];
    let (out_h, out_w) = (p.out_h as usize, p.out_w as usize);
    let (image, i, j) = (pixel / (out_h * out_w), pixel / out_w % out_h, pixel % out_w);
    // Where an index of the virtual (upsampled) picture lies in the stored one.
    let source = |index: usize, size: u32, ratio: f32, stored: u32| {
        let index = index.checked_sub(p.pad as usize).filter(|&v| v < size as usize)?;
        Some(((index as f32 * ratio) as usize).min(stored as usize - 1))
    };
    for u in 0..kernel {
        let row = source(i * p.stride as usize + u, p.virtual_h, p.ratio_h, p.in_h);
        for v in 0..kernel {
            let column = source(j * p.stride as usize + v, p.virtual_w, p.ratio_w, p.in_w);
            let tap = &mut patch[(u * kernel + v) * (c1 + c2)..][..c1 + c2];
            let Some((row, column)) = row.zip(column) else {
                tap.fill(0.0);
                continue;
            };
            let at = (image * p.in_h as usize + row) * p.in_w as usize + column;
            tap[..c1].copy_from_slice(&x1[at * c1..at * c1 + c1]);
            if c2 > 0 {
                tap[c1..].copy_from_slice(&x2[at * c2..at * c2 + c2]);
            }
        }
    }
}
