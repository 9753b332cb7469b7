//! The residual block of U-Nets and autoencoders (diffusers' ResnetBlock2D).

use crate::nn::{At, Conv, GroupNorm};
use crate::plan::ops::{Activation::Silu, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::weights::Declarations;

#[derive(Clone, Debug)]
pub struct Resnet {
    path: String,
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    /// Present when the number of channels changes.
    conv_shortcut: Option<Conv>,
}

impl Resnet {
    pub fn declare(
        d: &mut Declarations,
        path: &str,
        inputs: u32,
        outputs: u32,
        groups: u32,
        eps: f32,
    ) -> Resnet {
        Resnet {
            path: path.to_owned(),
            norm1: GroupNorm::declare(d, &path.at("norm1"), inputs, groups, eps),
            conv1: Conv::declare(d, &path.at("conv1"), inputs, outputs, 3, true),
            norm2: GroupNorm::declare(d, &path.at("norm2"), outputs, groups, eps),
            conv2: Conv::declare(d, &path.at("conv2"), outputs, outputs, 3, true),
            conv_shortcut: (inputs != outputs).then(|| {
                d.sensitive(|d| Conv::declare(d, &path.at("conv_shortcut"), inputs, outputs, 1, true))
            }),
        }
    }

    /// `x` (with `skip` beside it) is `[N, H, W, inputs]`; `time` holds the projected time embedding from
    /// the given channel on. Returns `[N, H, W, outputs]`.
    pub fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        skip: Option<Tensor>,
        time: Option<(Tensor, u32)>,
    ) -> Tensor {
        let h = self.norm1.record(r, x, skip, Silu);
        let h = self.conv1.record(r, h, None, Epilogue { add: time, ..Default::default() });
        let h = self.norm2.record(r, h, None, Silu);
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv.record(r, x, skip, Epilogue::default()),
            None => x,
        };
        let y = self.conv2.record(r, h, None, Epilogue { residual: Some(shortcut), ..Default::default() });
        r.tap(&self.path, y)
    }
}
