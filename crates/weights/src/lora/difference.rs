//! Differences: values that are added as they are, to weights, biases and norms.

use super::Tensor;
use super::delta::{Delta, Kind, Parts, check};
use crate::error::Result;

/// `w_norm` is LyCORIS' name for what is added to the weight of a norm.
pub const KIND: Kind =
    Kind { what: "full differences", ends: &[(".diff", "diff"), (".w_norm", "diff")], make };

#[derive(Debug)]
pub struct Difference {
    pub values: Tensor,
    /// Of the matrices that a bias belongs to.
    pub rank: Option<usize>,
}

fn make(parts: &mut Parts) -> Result<Box<dyn Delta>> {
    Ok(Box::new(Difference { values: parts.want("diff")?, rank: None }))
}

impl Delta for Difference {
    fn rank(&self) -> Option<usize> {
        self.rank
    }

    fn check(&self, shape: &[usize], weight: &str) -> Result<()> {
        check(&self.values.name, &self.values.shape, shape, weight)
    }

    fn add(&self, factor: f32, first_row: usize, row_len: usize, rows: &mut [f32]) {
        let begin = first_row * row_len;
        let added = self.values.floats(begin..begin + rows.len());
        for (value, d) in rows.iter_mut().zip(&*added) {
            *value += factor * d;
        }
    }

    fn is_nothing(&self) -> bool {
        self.values.is_zero()
    }
}
