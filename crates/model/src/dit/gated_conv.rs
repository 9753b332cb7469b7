//! A feed-forward layer that sees neighbours: products up and down, between them a depthwise convolution and gates (GLUMBConv;
//! Xie et al., arXiv:2410.10629).

use crate::nn::{At, GroupConv, Linear};
use crate::plan::ops::{self, Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Rows, weight_and_bias};

#[derive(Clone, Copy, Debug)]
pub struct GatedConv {
    inverted: Linear,
    depth: GroupConv,
    point: Linear,
}

impl GatedConv {
    /// `width` to `hidden` values and as many gates, and back to `width`, under diffusers' names.
    pub fn declare(d: &mut Declarations, path: &str, width: u32, hidden: u32) -> GatedConv {
        let padded = hidden.next_multiple_of(4);
        let rows = match padded == hidden {
            true => Rows::From(0),
            false => Rows::Heads { at: 0, size: hidden, padded },
        };
        let shape = vec![2 * hidden as usize, width as usize];
        let parts = weight_and_bias(&path.at("conv_inverted"), shape, true, rows, Columns::Same);
        let outputs = (2 * hidden, rows, 2 * padded);
        GatedConv {
            inverted: Linear::fused(d, width, 2 * padded, parts),
            depth: GroupConv::declare(d, &path.at("conv_depth"), outputs, [1, 3], true),
            point: Linear::declare(d, &path.at("conv_point"), hidden, width, false),
        }
    }

    /// `[N, h, w, width]` to as many, with this epilogue.
    pub fn record(&self, r: &mut Recorder, x: Tensor, epilogue: Epilogue) -> Tensor {
        let silu = Epilogue { activation: Activation::Silu, ..Default::default() };
        let h = Matmul { epilogue: silu, ..self.inverted.of(x) }.record(r);
        let h = ops::GroupConv { gated: true, ..self.depth.of(h) }.record(r);
        Matmul { epilogue, ..self.point.of(h) }.record(r)
    }
}
