//! kernels/attention.wgsl on the CPU: scores of a band of queries, softmax, product with the values.

use super::gemm::{View, product};
use super::{parallel, params};
use crate::kernels::AttentionParams;
use crate::ops::CAUSAL;

/// Queries whose scores are kept at a time.
const BAND: usize = 256;

pub fn run(bytes: &[u8], q: &[f32], k: &[f32], v: &[f32], y: &mut [f32]) {
    let p: AttentionParams = params(bytes);
    let fours = |n: u32| n as usize * 4;
    let (queries, keys, size) = (p.queries as usize, p.keys as usize, fours(p.head));
    let width = p.heads as usize * size;
    let causal = p.flags & CAUSAL != 0;
    let mut scores = vec![0.0; BAND.min(queries) * keys];
    for image in 0..p.images as usize {
        for head in 0..p.heads as usize {
            let view = |data, rows: usize, stride: u32, at: u32, first: usize| View {
                data,
                start: (image * rows + first) * fours(stride) + fours(at) + head * size,
                row: fours(stride),
                column: 1,
            };
            for first in (0..queries).step_by(BAND) {
                let count = BAND.min(queries - first);
                let scores = &mut scores[..count * keys];
                let q = view(q, queries, p.q_stride, p.q_at, first);
                let k = view(k, keys, p.k_stride, p.k_at, 0);
                let transposed = View { row: k.column, column: k.row, ..k };
                product([count, keys, size], scores, 0, keys, false, q, transposed, p.scale, false);
                parallel::rows(scores, keys, |i, row| {
                    softmax(row, if causal { (first + i + 1).min(keys) } else { keys });
                });
                let a = View { data: scores, start: 0, row: keys, column: 1 };
                let v = view(v, keys, p.v_stride, p.v_at, 0);
                let start = (image * queries + first) * width + head * size;
                product([count, size, keys], y, start, width, false, a, v, 1.0, false);
            }
        }
    }
}

/// Of the first `end` scores; the others get no weight.
fn softmax(row: &mut [f32], end: usize) {
    let (seen, hidden) = row.split_at_mut(end);
    let largest = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in seen.iter_mut() {
        *v = (*v - largest).exp();
        sum += *v;
    }
    seen.iter_mut().for_each(|v| *v /= sum);
    hidden.fill(0.0);
}
