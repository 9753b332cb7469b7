//! What a kind of file adds to a weight, and what the kinds have in common.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Tensor, difference, hadamard, kronecker, pair};
use crate::error::{Error, Result};

/// Columns that stay in the nearest cache while some rows are made.
pub const COLUMNS: usize = 512;

/// Every kind: a file each, a row each.
pub const KINDS: [Kind; 4] = [pair::KIND, hadamard::KIND, kronecker::KIND, difference::KIND];

/// What is added to a weight, row by row.
pub trait Delta: Debug + Send + Sync {
    /// What alpha is over; none where alpha does not count.
    fn rank(&self) -> Option<usize>;

    /// That it is for a weight of this shape and name.
    fn check(&self, shape: &[usize], weight: &str) -> Result<()>;

    /// Itself as f32, where it is computed with: for as long as a slab takes.
    fn widened(&self) -> Option<Box<dyn Delta>> {
        None
    }

    /// Adds `factor` times itself to rows `first_row..`. Each row's sums are made alone and in one order, so that
    /// slabs do not show in them. Only after [`Self::check`] and [`Self::widened`].
    fn add(&self, factor: f32, first_row: usize, row_len: usize, rows: &mut [f32]);

    /// Whether it adds zeros alone.
    fn is_nothing(&self) -> bool;
}

/// A kind of what is added.
pub struct Kind {
    /// In words.
    pub what: &'static str,
    /// What the names of its tensors end with, and what each is.
    pub ends: &'static [(&'static str, &'static str)],
    /// Of the tensors of a module, of which at least one is of this kind.
    pub make: fn(&mut Parts) -> Result<Box<dyn Delta>>,
}

/// What has been read of a module: each tensor by what it is.
#[derive(Debug, Default)]
pub struct Parts {
    /// A tensor of it, for messages.
    pub name: String,
    /// The first that holds values which are not finite.
    pub flawed: Option<String>,
    pub tensors: BTreeMap<&'static str, Tensor>,
}

impl Parts {
    pub fn take(&mut self, part: &str) -> Option<Tensor> {
        self.tensors.remove(part)
    }

    /// One that must be there, beside another that is.
    pub fn want(&mut self, part: &str) -> Result<Tensor> {
        self.take(part).ok_or_else(|| Error::model(format!("{}: its module has no {part}", self.name)))
    }

    fn has(&self, kind: &Kind) -> bool {
        kind.ends.iter().any(|(_, part)| self.tensors.contains_key(part))
    }

    /// What is added to the module's weight, if there is something.
    pub fn delta(&mut self) -> Result<Option<Box<dyn Delta>>> {
        let mut found = KINDS.iter().filter(|kind| self.has(kind));
        let (first, second) = (found.next(), found.next());
        if let Some(kind) = second {
            let one = kind.ends.iter().find_map(|(_, part)| self.tensors.get(part));
            let name = one.map_or("", |t| t.name.as_str());
            return Err(Error::model(format!("{name}: its module has tensors of another kind too")));
        }
        first.map(|kind| (kind.make)(self)).transpose()
    }
}

/// Equal but for ones at the end: a 1x1 convolution is a linear layer.
pub fn same(a: &[usize], b: &[usize]) -> bool {
    (0..a.len().max(b.len())).all(|i| a.get(i).unwrap_or(&1) == b.get(i).unwrap_or(&1))
}

/// That a tensor has the shape that a weight asks for.
pub fn check(tensor: &str, found: &[usize], wanted: &[usize], weight: &str) -> Result<()> {
    match same(found, wanted) {
        true => Ok(()),
        false => Err(Error::model(format!(
            "{tensor}: {weight} asks for the shape {wanted:?}, the file has {found:?}"
        ))),
    }
}

/// That a product, row for row, has as many values as a weight of this shape.
pub fn check_size(tensor: &str, [outputs, columns]: [u64; 2], shape: &[usize], weight: &str) -> Result<()> {
    let values = |shape: &[usize]| shape.iter().fold(1, |n: u64, &d| n.saturating_mul(d as u64));
    let wanted = [values(&shape[..1]), values(&shape[1..])];
    match [outputs, columns] == wanted {
        true => Ok(()),
        false => Err(Error::model(format!(
            "{tensor}: {weight} has {} outputs of {} values, the file makes {outputs} of {columns}",
            wanted[0], wanted[1]
        ))),
    }
}
