//! LoKr: the Kronecker product of two matrices, each as it is or itself a product of thin ones.

use super::Tensor;
use super::delta::{Delta, Kind, Parts, check_size};
use super::hadamard::half;
use super::product::Product;
use crate::error::Result;

pub const KIND: Kind = Kind {
    what: "LoKr",
    ends: &[
        (".lokr_w1", "lokr_w1"),
        (".lokr_w1_a", "lokr_w1_a"),
        (".lokr_w1_b", "lokr_w1_b"),
        (".lokr_w2", "lokr_w2"),
        (".lokr_w2_a", "lokr_w2_a"),
        (".lokr_w2_b", "lokr_w2_b"),
        (".lokr_t2", "lokr_t2"),
    ],
    make,
};

#[derive(Debug)]
struct Kronecker {
    left: Factor,
    right: Factor,
}

#[derive(Debug)]
enum Factor {
    /// `[outputs, inputs, ..]`
    Whole(Tensor),
    Product(Product),
}

fn make(parts: &mut Parts) -> Result<Box<dyn Delta>> {
    let left = match parts.take("lokr_w1") {
        Some(whole) => Factor::whole(whole)?,
        None => Factor::Product(half(parts.want("lokr_w1_a")?, parts.want("lokr_w1_b")?, None)?),
    };
    let right = match parts.take("lokr_w2") {
        Some(whole) => Factor::whole(whole)?,
        None => {
            let core = parts.take("lokr_t2");
            Factor::Product(half(parts.want("lokr_w2_a")?, parts.want("lokr_w2_b")?, core)?)
        }
    };
    Ok(Box::new(Kronecker { left, right }))
}

impl Factor {
    fn whole(tensor: Tensor) -> Result<Factor> {
        match tensor.shape.len() < 2 || tensor.shape.contains(&0) {
            true => Err(tensor.wrong("[outputs, inputs] or [outputs, inputs, kh, kw]")),
            false => Ok(Factor::Whole(tensor)),
        }
    }

    fn name(&self) -> &str {
        match self {
            Factor::Whole(tensor) => &tensor.name,
            Factor::Product(product) => &product.up.name,
        }
    }

    fn rank(&self) -> Option<usize> {
        match self {
            Factor::Whole(_) => None,
            Factor::Product(product) => Some(product.rank()),
        }
    }

    /// Outputs, and values of each.
    fn size(&self) -> [u64; 2] {
        match self {
            Factor::Whole(tensor) => [tensor.shape[0] as u64, (tensor.len() / tensor.shape[0]) as u64],
            Factor::Product(product) => [product.outputs() as u64, product.columns()],
        }
    }

    fn row(&self, row: usize, values: &mut [f32]) {
        match self {
            Factor::Whole(tensor) => {
                values.copy_from_slice(&tensor.values()[row * values.len()..][..values.len()])
            }
            Factor::Product(product) => product.row(row, 0..values.len(), values),
        }
    }

    fn widened(&self) -> Factor {
        match self {
            Factor::Whole(tensor) => Factor::Whole(tensor.widened()),
            Factor::Product(product) => Factor::Product(product.widened()),
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Factor::Whole(tensor) => tensor.is_zero(),
            Factor::Product(product) => product.is_nothing(),
        }
    }
}

impl Delta for Kronecker {
    /// Of the right one first, as ComfyUI has it; two whole matrices have no alpha.
    fn rank(&self) -> Option<usize> {
        self.right.rank().or(self.left.rank())
    }

    fn check(&self, shape: &[usize], weight: &str) -> Result<()> {
        let ([a, b], [c, d]) = (self.left.size(), self.right.size());
        check_size(self.left.name(), [a.saturating_mul(c), b.saturating_mul(d)], shape, weight)
    }

    fn widened(&self) -> Option<Box<dyn Delta>> {
        Some(Box::new(Kronecker { left: self.left.widened(), right: self.right.widened() }))
    }

    fn add(&self, factor: f32, first_row: usize, row_len: usize, rows: &mut [f32]) {
        let [_, width] = self.left.size().map(|n| n as usize);
        let [below, columns] = self.right.size().map(|n| n as usize);
        let (mut left, mut right) = (vec![0.0; width], vec![0.0; columns]);
        for (row, weights) in (first_row..).zip(rows.chunks_exact_mut(row_len)) {
            self.left.row(row / below, &mut left);
            self.right.row(row % below, &mut right);
            for (l, weights) in left.iter().zip(weights.chunks_exact_mut(columns)) {
                for (weight, r) in weights.iter_mut().zip(&right) {
                    *weight += factor * (l * r);
                }
            }
        }
    }

    fn is_nothing(&self) -> bool {
        self.left.is_nothing() || self.right.is_nothing()
    }
}
