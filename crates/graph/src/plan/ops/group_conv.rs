//! Convolutions of groups of channels that keep height and width: depthwise ones, where each channel is a group of its own.

use super::{Activation, Operator, product_flops};
use crate::plan::{Cost, Recorder, Tensor};
use crate::weights::Handle;

/// `[N, H, W, C] -> [N, H, W, C]`, or half as many channels where they are gated; zero outside.
#[derive(Clone, Copy, Debug)]
pub struct GroupConv {
    /// f32 `[inputs, kernel, kernel, C]` and, if there is one, a bias `[C]`.
    pub weight: Handle,
    pub x: Tensor,
    /// Height and width, odd.
    pub kernel: u32,
    /// Channels of a group, of x as of the output: one, or a multiple of four.
    pub inputs: u32,
    pub biased: bool,
    /// The second half of the channels are gates: `value * silu(gate)` (GLUMBConv; Xie et al., arXiv:2410.10629).
    pub gated: bool,
    pub activation: Activation,
}

impl GroupConv {
    pub fn record(self, r: &mut Recorder) -> Tensor {
        let shape = self.x.shape;
        let one = self.inputs == 1 || self.inputs.is_multiple_of(4);
        assert!(one && shape.c.is_multiple_of(self.inputs), "groups of {} of {shape}", self.inputs);
        assert!(shape.c.is_multiple_of(4) && !self.kernel.is_multiple_of(2), "{shape}, {}", self.kernel);
        assert!(!self.gated || shape.c.is_multiple_of(8), "halves of {shape}");
        let y = r.tensor(shape.with_c(if self.gated { shape.c / 2 } else { shape.c }));
        r.record(self, y)
    }

    /// Weights of an output.
    pub fn depth(&self) -> u32 {
        self.inputs * self.kernel * self.kernel
    }
}

impl Operator for GroupConv {
    fn reads(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        let vectors = self.depth() + u32::from(self.biased);
        Some((self.weight, u64::from(vectors) * u64::from(self.x.shape.c) * 4))
    }

    fn cost(&self, _: Tensor) -> Cost {
        let shape = self.x.shape;
        let flops = product_flops(shape.rows(), u64::from(self.depth()) * u64::from(shape.c));
        Cost { model_flops: flops, executed_flops: flops }
    }
}
