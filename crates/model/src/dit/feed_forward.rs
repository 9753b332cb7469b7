//! Feed-forward layers.

use crate::nn::{At, Linear};
use crate::plan::ops::{Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Rows, weight_and_bias};

#[derive(Clone, Copy, Debug)]
pub struct FeedForward {
    proj: Linear,
    /// Behind `proj`, where that is not gated.
    activation: Activation,
    out: Linear,
}

impl FeedForward {
    /// With the tanh approximation of GELU: `width` to four times as many, and back, under diffusers' names.
    pub fn declare(d: &mut Declarations, path: &str, width: u32) -> FeedForward {
        FeedForward {
            proj: Linear::declare(d, &path.at("net.0.proj"), width, 4 * width, true),
            activation: Activation::GeluTanh,
            out: Linear::declare(d, &path.at("net.2"), 4 * width, width, true),
        }
    }

    /// With `inner` values and gates in front of them, and SiLU (FLUX.2).
    pub fn declare_gated(d: &mut Declarations, path: &str, width: u32, inner: u32) -> FeedForward {
        let shape = vec![2 * inner as usize, width as usize];
        let rows = Rows::Gated { skip: 0, outputs: inner };
        let proj = weight_and_bias(&path.at("linear_in"), shape, false, rows, Columns::Same);
        FeedForward {
            proj: Linear::fused(d, width, 2 * inner, proj).gated(Activation::Silu),
            activation: Activation::None,
            out: Linear::declare(d, &path.at("linear_out"), inner, width, false),
        }
    }

    /// `residual + gate * ff(x)`.
    pub fn record(&self, r: &mut Recorder, x: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        let epilogue = Epilogue { activation: self.activation, ..Default::default() };
        let h = Matmul { epilogue, ..self.proj.of(x) }.record(r);
        let epilogue = Epilogue { gate: Some(gate), residual: Some(residual), ..Default::default() };
        Matmul { epilogue, ..self.out.of(h) }.record(r)
    }
}
