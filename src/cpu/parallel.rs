//! Loops over all cores; one core where there are no threads.

/// Calls `work(index, row)` for every row of `length` values of `out`; the last one may be shorter.
pub fn rows(out: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        out.par_chunks_mut(length).enumerate().for_each(|(i, row)| work(i, row));
    }
    #[cfg(target_arch = "wasm32")]
    out.chunks_mut(length).enumerate().for_each(|(i, row)| work(i, row));
}
