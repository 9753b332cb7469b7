//! Loops over all cores: rayon's own threads, in a browser on the workers that the page made.

use rayon::prelude::*;

/// A pointer that tasks share. Each writes only where no other one reads or writes.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32);

// SAFETY: see above; whoever makes one answers for it.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(values: &mut [f32]) -> Shared {
        Shared(values.as_mut_ptr())
    }

    pub fn at(values: *mut f32) -> Shared {
        Shared(values)
    }

    pub fn get(self) -> *mut f32 {
        self.0
    }
}

/// Calls `work` for 0 to `count - 1`, in any order.
pub fn tasks(count: usize, work: impl Fn(usize) + Sync + Send) {
    match count {
        1 => work(0),
        _ => (0..count).into_par_iter().with_max_len(1).for_each(work),
    }
}

/// Calls `work(index, row)` for every row of `length` values of `out`; the last one may be shorter.
pub fn rows(out: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    out.par_chunks_mut(length).enumerate().for_each(|(i, row)| work(i, row));
}

pub fn threads() -> usize {
    rayon::current_num_threads()
}
