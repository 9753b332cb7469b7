//! Plans: operations that are recorded ([`plan`]), and the layers that record them ([`nn`]).

pub mod nn;
pub mod plan;

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, shape};
use tintype_weights as weights;
