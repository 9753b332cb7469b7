//! Layers: each declares what it needs of the checkpoint under diffusers' names, and records itself.

mod attention;
mod conv;
mod group_conv;
mod linear;
mod norm;
mod path;

pub use attention::{Attention, Heads, Projections, Second};
pub use conv::Conv;
pub use group_conv::GroupConv;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use path::At;
