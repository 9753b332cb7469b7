//! Values that begin where a cache line begins.

use bytemuck::{Pod, Zeroable};

use crate::tasks::Shared;

#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([f32; 16]);

/// Zeros at first.
#[derive(Default)]
pub struct Lines(Vec<Line>);

impl Lines {
    pub fn new(values: usize) -> Lines {
        Lines(bytemuck::allocation::zeroed_vec(values.div_ceil(16)))
    }

    /// Without zeros first, which cost as much as a copy.
    ///
    /// # Safety
    /// `write` gives each of the values one, and begins with none of them.
    pub(crate) unsafe fn written(values: usize, write: impl FnOnce(Shared)) -> Lines {
        let count = values.div_ceil(16);
        let mut lines = Vec::with_capacity(count);
        if let Some(last) = lines.spare_capacity_mut()[..count].last_mut() {
            last.write(Line::zeroed());
        }
        write(Shared::at(lines.as_mut_ptr().cast()));
        // SAFETY: the last one was written here, all before it by the caller.
        unsafe { lines.set_len(count) };
        Lines(lines)
    }

    /// So many values, of which nothing is known.
    pub fn room(&mut self, values: usize) -> &mut [f32] {
        if self.0.len() * 16 < values {
            // The old ones go first.
            self.0 = vec![];
            *self = Lines::new(values);
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..values]
    }

    pub fn values(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}
