//! Convolutions of groups of channels.

use super::At;
use crate::plan::Tensor;
use crate::plan::ops::{self, Activation};
use crate::weights::{Declarations, Handle, Layout, Part, Role, Rows};

#[derive(Clone, Copy, Debug)]
pub struct GroupConv {
    weight: Handle,
    channels: u32,
    kernel: u32,
    inputs: u32,
    biased: bool,
}

impl GroupConv {
    /// `path.weight` `[outputs, inputs, kernel, kernel]`, for groups of so many inputs, and, if it has one, `path.bias`. Outputs
    /// are stored where `rows` says, among `channels`, a multiple of four.
    pub fn declare(
        d: &mut Declarations,
        path: &str,
        (outputs, rows, channels): (u32, Rows, u32),
        [inputs, kernel]: [u32; 2],
        bias: bool,
    ) -> GroupConv {
        assert!(channels.is_multiple_of(4), "{channels} channels");
        let vectors = inputs * kernel * kernel;
        let part = |name: &str, shape: Vec<u32>, rows: Rows| Part {
            names: vec![path.at(name)],
            shape: shape.into_iter().map(|n| n as usize).collect(),
            role: Role::Vector { rows, each: channels },
        };
        let mut parts = vec![part("weight", vec![outputs, inputs, kernel, kernel], rows)];
        if bias {
            parts.push(part("bias", vec![outputs], rows.behind(vectors * channels)));
        }
        // What no device can hold is refused later, by its size.
        let bytes = ((vectors + u32::from(bias)) as usize * 4).saturating_mul(channels as usize);
        let weight = d.add(Layout::Vectors { bytes }, parts);
        GroupConv { weight, channels, kernel, inputs, biased: bias }
    }

    /// `[N, h, w, channels]` to as many, ready to be recorded.
    pub fn of(&self, x: Tensor) -> ops::GroupConv {
        assert!(x.shape.c == self.channels, "{} of {} channels", x.shape, self.channels);
        let &GroupConv { weight, kernel, inputs, biased, .. } = self;
        ops::GroupConv { weight, x, kernel, inputs, biased, gated: false, activation: Activation::None }
    }
}
