//! LoRA itself, and LoCon: `up @ down`, of convolutions also with a core of taps between them.

use super::delta::{COLUMNS, Delta, Kind, Parts, check};
use super::product::Product;
use crate::error::{Error, Result};

pub const KIND: Kind = Kind {
    what: "LoRA",
    ends: &[
        (".lora_down.weight", "down"),
        (".lora_up.weight", "up"),
        (".lora_mid.weight", "mid"),
        (".lora_A.weight", "down"),
        (".lora_B.weight", "up"),
        (".lora_A", "down"),
        (".lora_B", "up"),
        (".lora.down.weight", "down"),
        (".lora.up.weight", "up"),
        (".lora_linear_layer.down.weight", "down"),
        (".lora_linear_layer.up.weight", "up"),
        ("_lora.down.weight", "down"),
        ("_lora.up.weight", "up"),
    ],
    make,
};

fn make(parts: &mut Parts) -> Result<Box<dyn Delta>> {
    let mid = parts.take("mid");
    match (parts.take("down"), parts.take("up")) {
        (Some(down), Some(up)) => Ok(Box::new(Product::new(up, down, mid)?)),
        (one, other) => {
            let one = one.or(other).or(mid).expect("a part of a pair");
            Err(Error::model(format!("{}: the other matrix of the pair is missing", one.name)))
        }
    }
}

impl Delta for Product {
    fn rank(&self) -> Option<usize> {
        Some(Product::rank(self))
    }

    fn check(&self, shape: &[usize], weight: &str) -> Result<()> {
        let rank = &[Product::rank(self)][..];
        check(&self.down.name, &[rank, &self.inputs()].concat(), &[rank, &shape[1..]].concat(), weight)?;
        check(&self.up.name, &self.up.shape, &[&shape[..1], rank].concat(), weight)
    }

    fn widened(&self) -> Option<Box<dyn Delta>> {
        Some(Box::new(Product::widened(self)))
    }

    fn add(&self, factor: f32, first_row: usize, row_len: usize, rows: &mut [f32]) {
        let mut sums = [0f32; COLUMNS];
        for begin in (0..row_len).step_by(COLUMNS) {
            let columns = begin..(begin + COLUMNS).min(row_len);
            let sums = &mut sums[..columns.len()];
            for (row, weights) in (first_row..).zip(rows.chunks_exact_mut(row_len)) {
                self.row(row, columns.clone(), sums);
                for (weight, sum) in weights[columns.clone()].iter_mut().zip(&*sums) {
                    *weight += factor * sum;
                }
            }
        }
    }

    fn is_nothing(&self) -> bool {
        Product::is_nothing(self)
    }
}
