//! Every operation on the GPU against its twin.

mod add;
mod attention;
mod conv;
mod copy;
mod group_norm;
mod image;
mod layer_norm;
mod matmul;
mod mean;
mod multiply_add;
mod scale;
mod step;
mod watch;

use tintype::plan::ops::Activation;

pub const ACTIVATIONS: [Activation; 8] = [
    Activation::None,
    Activation::Silu,
    Activation::Gelu,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::SoftClamp,
    Activation::Signed,
    Activation::GeluTanh,
];
