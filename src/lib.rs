//! Tintype makes pictures from words on the user's own GPU.

pub mod error;
pub mod gpu;
pub mod json;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod ops;
pub mod pipeline;
pub mod plan;
pub mod quant;
pub mod rng;
pub mod schedule;
pub mod shape;
pub mod tokenizer;
#[cfg(target_arch = "wasm32")]
mod web;
pub mod weights;
