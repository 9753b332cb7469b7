//! DoRA: a weight with its addend is made as long as a vector says, output by output or input by input.

use rayon::prelude::*;

use super::Tensor;
use super::delta::Delta;
use crate::error::Result;

/// Rows that are made at a time.
const ROWS: usize = 8;

/// What norms of zero are kept from.
const EPSILON: f64 = f32::EPSILON as f64;

#[derive(Debug)]
pub struct Magnitude {
    tensor: Tensor,
    /// peft's, where the caller's scale is a factor of the addend; else that of kohya's files (`dora_scale`), where it
    /// goes from the weight as it is to the new one.
    peft: bool,
}

/// What a length is measured over the rest of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    Outputs,
    /// Of older files; a norm is over all rows.
    Inputs,
}

/// How much of a module is merged.
#[derive(Clone, Copy)]
pub struct Strength {
    /// Alpha over the rank.
    pub factor: f32,
    /// The caller's.
    pub scale: f32,
}

impl Magnitude {
    pub fn new(tensor: Tensor, peft: bool) -> Magnitude {
        Magnitude { tensor, peft }
    }

    /// Which of the two it is for, of a weight of this shape.
    pub fn axis(&self, shape: &[usize], weight: &str) -> Result<Axis> {
        let (count, found) = (self.tensor.len(), &self.tensor.shape[..]);
        let inputs = shape.get(1).copied().unwrap_or(1);
        // peft has [1, outputs, 1, 1] for a convolution.
        let of_outputs = self.peft || found.len() == 1 || found.first() == Some(&shape[0]);
        let of_inputs = !self.peft && (found.len() == 1 || found.first() == Some(&1));
        match count {
            _ if count == shape[0] && of_outputs => Ok(Axis::Outputs),
            _ if count == inputs && of_inputs => Ok(Axis::Inputs),
            _ => Err(self.tensor.wrong(&match self.peft {
                true => format!("[{}] for {weight}", shape[0]),
                false => format!("[{}, 1] or [1, {inputs}] for {weight}", shape[0]),
            })),
        }
    }

    /// Merges into rows `first_row..`, which are all rows where the lengths are those of inputs. `W + d` is scaled to
    /// the lengths, `d` being what is added: the norm is that of `W + d`, as peft and LyCORIS train it.
    pub fn merge(
        &self,
        axis: Axis,
        delta: &dyn Delta,
        strength: Strength,
        shape: &[usize],
        first_row: usize,
        data: &mut [f32],
    ) {
        let row_len: usize = shape[1..].iter().product();
        let (factor, blend) = match self.peft {
            true => (strength.factor * strength.scale, 1.0),
            false => (strength.factor, f64::from(strength.scale)),
        };
        let lengths = &*self.tensor.all();
        let columns = match axis {
            Axis::Outputs => vec![],
            Axis::Inputs => {
                let norms = column_norms(delta, factor, shape, data);
                let gains = norms
                    .iter()
                    .zip(lengths.iter())
                    .map(|(norm, length)| f64::from(*length) / (norm + EPSILON));
                gains.collect::<Vec<f64>>()
            }
        };
        let taps = row_len / shape.get(1).copied().unwrap_or(1);
        let chunks = data.par_chunks_mut(ROWS * row_len).enumerate();
        chunks.for_each(|(i, chunk)| {
            let first_row = first_row + i * ROWS;
            let mut made = chunk.to_vec();
            delta.add(factor, first_row, row_len, &mut made);
            for (row, (new, old)) in
                (first_row..).zip(made.chunks_exact(row_len).zip(chunk.chunks_exact_mut(row_len)))
            {
                let gain = match axis {
                    Axis::Outputs => f64::from(lengths[row]) / (norm(new) + EPSILON),
                    Axis::Inputs => 0.0,
                };
                for (column, (old, new)) in old.iter_mut().zip(new).enumerate() {
                    let gain = if axis == Axis::Outputs { gain } else { columns[column / taps] };
                    let (before, after) = (f64::from(*old), gain * f64::from(*new));
                    *old = (before + blend * (after - before)) as f32;
                }
            }
        });
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt()
}

/// Of each input, over all outputs and taps. Chunks are summed in order, whoever makes them.
fn column_norms(delta: &dyn Delta, factor: f32, shape: &[usize], data: &[f32]) -> Vec<f64> {
    let row_len: usize = shape[1..].iter().product();
    let inputs = shape.get(1).copied().unwrap_or(1);
    let squares = data.par_chunks(ROWS * row_len).enumerate().map(|(i, chunk)| {
        let mut made = chunk.to_vec();
        delta.add(factor, i * ROWS, row_len, &mut made);
        let mut sums = vec![0f64; inputs];
        for row in made.chunks_exact(row_len) {
            for (sum, taps) in sums.iter_mut().zip(row.chunks_exact(row_len / inputs)) {
                *sum += taps.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
            }
        }
        sums
    });
    let mut all = vec![0f64; inputs];
    for sums in squares.collect::<Vec<Vec<f64>>>() {
        all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
    }
    all.into_iter().map(f64::sqrt).collect()
}
