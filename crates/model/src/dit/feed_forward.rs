//! Feed-forward layers with the tanh approximation of GELU.

use crate::nn::{At, Linear};
use crate::plan::ops::{Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::Declarations;

#[derive(Clone, Copy, Debug)]
pub struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    /// `width` to four times as many, and back, under diffusers' names.
    pub fn declare(d: &mut Declarations, path: &str, width: u32) -> FeedForward {
        FeedForward {
            proj: Linear::declare(d, &path.at("net.0.proj"), width, 4 * width, true),
            out: Linear::declare(d, &path.at("net.2"), 4 * width, width, true),
        }
    }

    /// `residual + gate * ff(x)`.
    pub fn record(&self, r: &mut Recorder, x: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        let gelu = Epilogue { activation: Activation::GeluTanh, ..Default::default() };
        let h = Matmul { epilogue: gelu, ..self.proj.of(x) }.record(r);
        let epilogue = Epilogue { gate: Some(gate), residual: Some(residual), ..Default::default() };
        Matmul { epilogue, ..self.out.of(h) }.record(r)
    }
}
