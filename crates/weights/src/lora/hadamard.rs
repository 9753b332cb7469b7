//! LoHa: two products of thin matrices, multiplied value by value.

use super::Tensor;
use super::delta::{COLUMNS, Delta, Kind, Parts, check_size};
use super::product::Product;
use crate::error::{Error, Result};

pub const KIND: Kind = Kind {
    what: "LoHa",
    ends: &[
        (".hada_w1_a", "hada_w1_a"),
        (".hada_w1_b", "hada_w1_b"),
        (".hada_w2_a", "hada_w2_a"),
        (".hada_w2_b", "hada_w2_b"),
        (".hada_t1", "hada_t1"),
        (".hada_t2", "hada_t2"),
    ],
    make,
};

#[derive(Debug)]
struct Hadamard([Product; 2]);

fn make(parts: &mut Parts) -> Result<Box<dyn Delta>> {
    let [one_a, one_b, two_a, two_b] =
        ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"].map(|p| parts.want(p));
    let one = half(one_a?, one_b?, parts.take("hada_t1"))?;
    let two = half(two_a?, two_b?, parts.take("hada_t2"))?;
    if (one.outputs(), one.columns(), one.rank()) != (two.outputs(), two.columns(), two.rank()) {
        return Err(Error::model(format!(
            "{} and {}: wanted two products of one size and rank, found {}x{} of rank {} and {}x{} of rank {}",
            one.up.name,
            two.up.name,
            one.outputs(),
            one.columns(),
            one.rank(),
            two.outputs(),
            two.columns(),
            two.rank()
        )));
    }
    Ok(Box::new(Hadamard([one, two])))
}

/// With a core of taps, `a` is `[rank, outputs]`.
pub fn half(a: Tensor, b: Tensor, core: Option<Tensor>) -> Result<Product> {
    let a = if core.is_some() { a.turned()? } else { a };
    Product::new(a, b, core)
}

impl Delta for Hadamard {
    fn rank(&self) -> Option<usize> {
        Some(self.0[0].rank())
    }

    fn check(&self, shape: &[usize], weight: &str) -> Result<()> {
        let [one, _] = &self.0;
        check_size(&one.up.name, [one.outputs() as u64, one.columns()], shape, weight)
    }

    fn widened(&self) -> Option<Box<dyn Delta>> {
        Some(Box::new(Hadamard(self.0.each_ref().map(Product::widened))))
    }

    fn add(&self, factor: f32, first_row: usize, row_len: usize, rows: &mut [f32]) {
        let mut sums = [[0f32; COLUMNS]; 2];
        for begin in (0..row_len).step_by(COLUMNS) {
            let columns = begin..(begin + COLUMNS).min(row_len);
            for (row, weights) in (first_row..).zip(rows.chunks_exact_mut(row_len)) {
                for (product, sums) in self.0.iter().zip(&mut sums) {
                    product.row(row, columns.clone(), &mut sums[..columns.len()]);
                }
                for (weight, (one, two)) in
                    weights[columns.clone()].iter_mut().zip(sums[0].iter().zip(&sums[1]))
                {
                    *weight += factor * (one * two);
                }
            }
        }
    }

    fn is_nothing(&self) -> bool {
        self.0.iter().any(Product::is_nothing)
    }
}
