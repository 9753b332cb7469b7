//! kernels/linear_attention_state.wgsl and linear_attention.wgsl on the CPU.

use crate::Scratch;
use crate::tasks::rows;

const EPSILON: f32 = 1e-15;

/// Values, where heads begin and how far rows are apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub at: usize,
    pub stride: usize,
}

impl<'a> Rows<'a> {
    fn head(&self, row: usize, at: usize, size: usize) -> &'a [f32] {
        &self.values[row * self.stride + self.at + at..][..size]
    }
}

#[derive(Clone, Copy)]
pub struct LinearAttention<'a> {
    pub images: usize,
    pub tokens: usize,
    pub heads: usize,
    pub size: usize,
    /// From one head to the next.
    pub each: usize,
    pub q: Rows<'a>,
    pub k: Rows<'a>,
    pub v: Rows<'a>,
}

/// `y` is `[images, tokens, heads * size]`.
pub fn run(a: &LinearAttention, y: &mut [f32], scratch: &mut Scratch) {
    let size = a.size;
    let state = (size + 1) * size;
    let states = scratch.values.room(a.images * a.heads * state);
    // Keys are rows: sums of a value's products with keys, and behind those of all values that of ones.
    rows(states, state, |head, state| {
        state.fill(0.0);
        let (image, at) = (head / a.heads * a.tokens, head % a.heads * a.each);
        for token in image..image + a.tokens {
            let (k, v) = (a.k.head(token, at, size), a.v.head(token, at, size));
            let values = v.iter().copied().chain([1.0]);
            for (row, v) in state.chunks_exact_mut(size).zip(values) {
                row.iter_mut().zip(k).for_each(|(sum, k)| *sum += v * relu(*k));
            }
        }
    });
    let states = &*states;
    rows(y, a.heads * size, |row, y| {
        for (head, y) in y.chunks_exact_mut(size).enumerate() {
            let q = a.q.head(row, head * a.each, size);
            let state = &states[(row / a.tokens * a.heads + head) * state..][..state];
            let product = |keys: &[f32]| -> f32 { keys.iter().zip(q).map(|(k, q)| k * relu(*q)).sum() };
            let below = product(&state[size * size..]) + EPSILON;
            y.iter_mut().zip(state.chunks_exact(size)).for_each(|(y, keys)| *y = product(keys) / below);
        }
    });
}

/// What is not a number stays so.
fn relu(v: f32) -> f32 {
    if v < 0.0 { 0.0 } else { v }
}
