//! The formula of every kernel in f64, on unpadded arrays: obviously right, and as slow as it likes.

use tintype::plan::ops::Activation;

mod activation;
mod add;
mod attention;
mod conv;
mod copy;
mod group_conv;
mod head_norm;
mod image;
mod layer_norm;
mod linear_attention;
mod matmul;
mod mean;
mod multiply_add;
mod networks;
mod norm_apply;
mod norm_scale;
mod norm_stats;
mod patchify;
mod plan;
mod sana;
mod scale;
mod step;

pub use activation::activate;
pub use add::add;
pub use attention::{Attention, attention, attention_of};
pub use conv::{Conv, conv};
pub use copy::{copy, join, slice};
pub use group_conv::{gated_halves, group_conv};
pub use head_norm::{head_norm, turn};
pub use image::image;
pub use layer_norm::{layer_norm, modulate, rms_norm};
pub use linear_attention::linear_attention;
pub use matmul::{gated, matmul};
pub use mean::mean;
pub use multiply_add::multiply_add;
pub use norm_apply::norm_apply;
pub use norm_scale::norm_scale;
pub use norm_stats::norm_stats;
pub use patchify::{grow, patchify, shrink, unpatchify};
pub use scale::scale;
pub use step::{Coefficients, step};

/// `[rows, c1]` and `[rows, c2]` side by side, `[rows, c1 + c2]`.
pub fn beside(x1: &[f64], c1: usize, x2: &[f64], c2: usize) -> Vec<f64> {
    x1.chunks(c1).zip(x2.chunks(c2)).flat_map(|(a, b)| [a, b].concat()).collect()
}

/// `act(y + add[image] + residual)` for `y` `[images, rows, channels]`.
pub fn epilogue(
    y: &[f64],
    images: usize,
    channels: usize,
    add: Option<&[f64]>,
    residual: Option<&[f64]>,
    activation: Activation,
) -> Vec<f64> {
    let image = y.len() / images;
    let value = |i: usize| {
        let add = add.map_or(0.0, |a| a[i / image * channels + i % channels]);
        activate(activation, y[i] + add + residual.map_or(0.0, |r| r[i]))
    };
    (0..y.len()).map(value).collect()
}

/// `y gate[image]` for `y` `[images, rows, channels]`.
pub fn gate(y: &[f64], images: usize, channels: usize, gate: &[f64]) -> Vec<f64> {
    let image = y.len() / images;
    (0..y.len()).map(|i| y[i] * gate[i / image * channels + i % channels]).collect()
}

/// Columns `from..from + count` of `x` `[rows, width]`.
pub fn columns(x: &[f64], width: usize, from: usize, count: usize) -> Vec<f64> {
    x.chunks(width).flat_map(|row| &row[from..from + count]).copied().collect()
}
