//! kernels/head_norm.wgsl on the CPU.

use crate::tasks::rows;

/// `sets` times `heads` heads of every token: `size` values each, from `at` of every `stride` on.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub tokens: usize,
    pub sets: usize,
    pub heads: usize,
    pub size: usize,
    pub at: usize,
    pub stride: usize,
    /// Weights `[segments, sets, size]`, the first token of the second segment, and epsilon.
    pub norm: Option<(&'a [f32], usize, f32)>,
    /// A cosine and a sine for each pair, `[tokens, size]`; whether a pair is of neighbours, or half a head apart.
    pub rotary: Option<(&'a [f32], bool)>,
}

/// `y` is `[images, tokens, sets * heads * size]`.
pub fn run(h: &Heads, x: &[f32], y: &mut [f32]) {
    let width = h.sets * h.heads * h.size;
    rows(y, width, |row, y| {
        let token = row % h.tokens;
        let x = &x[row * h.stride + h.at..][..width];
        for (head, (x, y)) in x.chunks_exact(h.size).zip(y.chunks_exact_mut(h.size)).enumerate() {
            y.copy_from_slice(x);
            if let Some((weights, split, epsilon)) = h.norm {
                let segment = if token >= split { h.sets } else { 0 };
                normalise(&weights[(segment + head / h.heads) * h.size..][..h.size], epsilon, y);
            }
            if let Some((table, neighbours)) = h.rotary {
                turn(&table[token * h.size..][..h.size], neighbours, y);
            }
        }
    });
}

fn normalise(weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let squares: f32 = y.iter().map(|v| v * v).sum();
    let scale = 1.0 / (squares / y.len() as f32 + epsilon).sqrt();
    y.iter_mut().zip(weight).for_each(|(y, w)| *y *= scale * w);
}

fn turn(table: &[f32], neighbours: bool, y: &mut [f32]) {
    let pairs = y.len() / 2;
    for (i, turn) in table.chunks_exact(2).enumerate() {
        let (first, second) = if neighbours { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
        let (a, b) = (y[first], y[second]);
        y[first] = a * turn[0] - b * turn[1];
        y[second] = b * turn[0] + a * turn[1];
    }
}
