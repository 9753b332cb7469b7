//! Loops over all cores: natively rayon's own threads, in a browser the workers that `host::threads` made.

use rayon::prelude::*;

/// Calls `work(index, row)` for every row of `length` values of `out`; the last one may be shorter.
pub fn rows(out: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    out.par_chunks_mut(length).enumerate().for_each(|(i, row)| work(i, row));
}
