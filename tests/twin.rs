//! The formula of every kernel in f64, on unpadded arrays: obviously right, and as slow as it likes.

mod activation;
mod attention;
mod conv;
mod image;
mod layer_norm;
mod matmul;
mod norm_apply;
mod norm_scale;
mod norm_stats;
mod scale;
mod step;

pub use activation::activate;
pub use attention::attention;
pub use conv::{Conv, conv};
pub use image::image;
pub use layer_norm::layer_norm;
pub use matmul::{geglu, matmul};
pub use norm_apply::norm_apply;
pub use norm_scale::norm_scale;
pub use norm_stats::norm_stats;
pub use scale::scale;
pub use step::{Coefficients, step};

/// `[rows, c1]` and `[rows, c2]` side by side, `[rows, c1 + c2]`.
pub fn beside(x1: &[f64], c1: usize, x2: &[f64], c2: usize) -> Vec<f64> {
    x1.chunks(c1).zip(x2.chunks(c2)).flat_map(|(a, b)| [a, b].concat()).collect()
}
