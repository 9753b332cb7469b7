//! Values that begin where a cache line begins.

use bytemuck::{Pod, Zeroable};

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

    pub fn values_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
