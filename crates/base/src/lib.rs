//! What all rooms share.

pub mod error;
pub mod host;
pub mod image;
pub mod json;
pub mod rng;
pub mod shape;
pub mod warning;
