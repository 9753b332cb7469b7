//! A product of two thin matrices, of which a few columns of a row are made at a time.

use std::ops::Range;
use std::sync::OnceLock;

use super::Tensor;
use crate::error::Result;

/// `up @ down`; with `mid`, a core of taps between them (a Tucker decomposition), `up @ (mid . down)`.
#[derive(Debug)]
pub struct Product {
    /// `[outputs, rank]`
    pub up: Tensor,
    /// `[rank, inputs, ..]`
    pub down: Tensor,
    /// `[rank, rank, kh, kw]`
    mid: Option<Tensor>,
    /// `mid . down`, `[rank, inputs, kh, kw]`. Made when it is wanted first: by then its shape has been compared with
    /// that of a weight.
    core: OnceLock<Vec<f32>>,
}

impl Product {
    pub fn new(up: Tensor, down: Tensor, mid: Option<Tensor>) -> Result<Product> {
        let rank = down.shape.first().copied().unwrap_or(0);
        if down.shape.len() < 2 || down.shape.contains(&0) {
            return Err(down.wrong("[rank, inputs] or [rank, inputs, kh, kw]"));
        }
        if up.shape.len() < 2
            || up.shape[1] != rank
            || up.shape[0] == 0
            || up.shape[2..].iter().any(|d| *d != 1)
        {
            return Err(up.wrong(&format!("[outputs, {rank}] or [outputs, {rank}, 1, 1]")));
        }
        if let Some(mid) = &mid {
            if mid.shape.len() < 2 || mid.shape[..2] != [rank, rank] || mid.shape.contains(&0) {
                return Err(mid.wrong(&format!("[{rank}, {rank}, kh, kw]")));
            }
            if down.shape[2..].iter().any(|d| *d != 1) {
                return Err(down.wrong(&format!("[{rank}, inputs] or [{rank}, inputs, 1, 1]")));
            }
        }
        Ok(Product { up, down, mid, core: OnceLock::new() })
    }

    /// As f32, to be computed with.
    pub fn widened(&self) -> Product {
        let [up, down] = [&self.up, &self.down].map(Tensor::widened);
        Product { up, down, mid: self.mid.as_ref().map(Tensor::widened), core: OnceLock::new() }
    }

    pub fn rank(&self) -> usize {
        self.down.shape[0]
    }

    pub fn outputs(&self) -> usize {
        self.up.shape[0]
    }

    /// Of the product, beyond the outputs.
    pub fn inputs(&self) -> Vec<usize> {
        let mut inputs = self.down.shape[1..].to_vec();
        if let Some(mid) = &self.mid {
            inputs.truncate(1);
            inputs.extend(&mid.shape[2..]);
        }
        inputs
    }

    /// Values of a row, counted where a 32-bit machine could not.
    pub fn columns(&self) -> u64 {
        self.inputs().iter().fold(1, |n: u64, &d| n.saturating_mul(d as u64))
    }

    /// These columns of a row.
    pub fn row(&self, row: usize, columns: Range<usize>, sums: &mut [f32]) {
        let (rank, width) = (self.rank(), self.columns() as usize);
        let down =
            if self.mid.is_some() { self.core.get_or_init(|| self.core()) } else { self.down.values() };
        sums.fill(0.0);
        for (u, down) in self.up.values()[row * rank..][..rank].iter().zip(down.chunks_exact(width)) {
            for (sum, d) in sums.iter_mut().zip(&down[columns.clone()]) {
                *sum += u * d;
            }
        }
    }

    fn core(&self) -> Vec<f32> {
        let mid = self.mid.as_ref().expect("a core of taps");
        let (rank, width) = (self.rank(), self.down.shape[1]);
        let taps = mid.len() / (rank * rank);
        let mut core = vec![0.0; rank * width * taps];
        for (mid, core) in mid.values().chunks_exact(rank * taps).zip(core.chunks_exact_mut(width * taps)) {
            for (mid, down) in mid.chunks_exact(taps).zip(self.down.values().chunks_exact(width)) {
                for (d, core) in down.iter().zip(core.chunks_exact_mut(taps)) {
                    for (m, value) in mid.iter().zip(core) {
                        *value += m * d;
                    }
                }
            }
        }
        core
    }

    /// Training begins with zeros in one of them; where they are left the module was never part of a gradient.
    pub fn is_nothing(&self) -> bool {
        [Some(&self.up), Some(&self.down), self.mid.as_ref()].into_iter().flatten().any(Tensor::is_zero)
    }
}
