//! Loops of the CPU device, on slices of f32: what a plan's steps compute, without the plan. A crate of its own so that
//! the module for browsers has these compiled for speed and the rest for size.
//!
//! - [`lanes`]: registers of four, eight or sixteen values; exp and erf
//! - [`tile`]: the product of a few rows with one panel of weights, of which all products are made
//! - [`dense`]: a matrix of weights, packed in panels, in bytes, or transformed
//! - [`matmul`], [`conv`], [`winograd`], [`group_conv`], [`attention`], [`linear_attention`], [`norm`], [`heads`],
//!   [`elementwise`]: the steps
//! - [`warm_up`]: each of them a little, for engines that compile while they run
//!
//! A long step is cut into pieces, between which whoever runs it may look up.

#![expect(clippy::needless_range_loop, reason = "a register's number is what several arrays are read by")]

pub mod attention;
pub mod conv;
pub mod dense;
pub mod elementwise;
mod epilogue;
pub mod group_conv;
pub mod heads;
mod lanes;
pub mod linear_attention;
mod lines;
pub mod matmul;
pub mod norm;
mod tasks;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
mod tile;
mod warm;
pub mod winograd;

pub use dense::{Dense, Form};
pub use epilogue::Epilogue;
pub use lines::Lines;
pub use warm::warm_up;

/// Memory that steps share, one after the other: it grows to what the largest of them wants.
#[derive(Default)]
pub struct Scratch {
    /// Weights that are unpacked for a call.
    panels: Lines,
    /// Weights that are transformed for a call.
    transformed: Lines,
    /// Values on their way: tiles of Winograd's, keys and values of attention.
    values: Lines,
}

/// Products and sums of one piece of a step, about: tens of milliseconds of one core.
const PIECE: usize = 1 << 30;
