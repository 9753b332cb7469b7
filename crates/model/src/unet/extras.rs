//! What comes into a U-Net beside the latents, and what other networks add inside it.

use crate::nn::Second;
use crate::plan::ops;
use crate::plan::{Recorder, Tensor};

/// Each network's results are added one after the other. Nothing at all adds no step to a plan.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// What an inpainting U-Net sees beside the latents, `[N, h, w, in_channels - out_channels]`.
    pub channels: Option<Tensor>,
    pub controls: Vec<Control>,
    pub adapters: Vec<Adapter>,
    pub image_prompt: Option<ImagePrompt>,
}

/// A ControlNet's residuals. Each has a factor of its own, as diffusers' guess mode wants: that of `down[i]`
/// is in slot `slot + i` of `scales`, and the mid block's in the slot behind them. A factor of 0 leaves a
/// image as it is.
#[derive(Clone, Debug)]
pub struct Control {
    pub residuals: Residuals,
    /// f32 `[N, 1, slots, 4]`, as `ops::add` takes it.
    pub scales: Tensor,
    pub slot: u32,
}

/// What a ControlNet makes, `[N, H, W, C]` each, or one image for all N.
#[derive(Clone, Debug)]
pub struct Residuals {
    /// One for each skip connection, conv_in's first.
    pub down: Vec<Tensor>,
    /// For the output of the mid block.
    pub mid: Tensor,
}

/// The features of a T2I-Adapter, `[N, H, W, C]` or one image for all N, all with the factor in `slot`.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// One for each down block, then possibly one for the mid block. Further ones are not used, as in
    /// diffusers.
    pub features: Vec<Tensor>,
    /// f32 `[N, 1, slots, 4]`, as `ops::add` takes it.
    pub scales: Tensor,
    pub slot: u32,
}

/// An image as a further prompt (IP-Adapter): what every attention over the text also attends to.
#[derive(Clone, Debug)]
pub struct ImagePrompt {
    /// Keys and values, `[N, tokens, 2 * width]` each, in the order of [`super::Unet::text_attentions`].
    pub contexts: Vec<Tensor>,
    /// f32 `[N, 1, slots, 4]`, as `ops::add` takes it.
    pub scales: Tensor,
    pub slot: u32,
}

impl ImagePrompt {
    pub(super) fn of(&self, attention: usize) -> Second {
        Second { context: self.contexts[attention], scales: self.scales, slot: self.slot }
    }
}

impl Extras {
    /// Onto all skip connections, once the down path has run: it never sees a ControlNet's residuals.
    pub(super) fn add_to_skips(&self, r: &mut Recorder, skips: &mut [Tensor]) {
        for Control { residuals, scales, slot } in &self.controls {
            let (count, wanted) = (residuals.down.len(), skips.len());
            assert!(count == wanted, "{count} residuals for {wanted} skip connections");
            for (i, (skip, &residual)) in skips.iter_mut().zip(&residuals.down).enumerate() {
                *skip = ops::add(r, *scales, slot + i as u32, *skip, residual);
            }
        }
    }

    /// Onto the output of the mid block, or of the last down block where there is none.
    pub(super) fn add_to_mid(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        self.controls.iter().fold(x, |x, Control { residuals, scales, slot }| {
            ops::add(r, *scales, slot + residuals.down.len() as u32, x, residuals.mid)
        })
    }

    /// Onto what `block` makes of its features: a down block by its number, or the mid block after them,
    /// for which an adapter may have none or one of another size (diffusers goes by the shape).
    pub(super) fn add_feature(&self, r: &mut Recorder, block: Block, mut x: Tensor) -> Tensor {
        for adapter in &self.adapters {
            let feature = match block {
                Block::Down(i) => adapter.features.get(i),
                Block::Mid(downs) => adapter.features.get(downs).filter(|f| same_picture(f, &x)),
            };
            if let Some(&feature) = feature {
                x = ops::add(r, adapter.scales, adapter.slot, x, feature);
            }
        }
        x
    }
}

/// Which block's output a feature is added to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block {
    Down(usize),
    /// After so many down blocks.
    Mid(usize),
}

fn same_picture(a: &Tensor, b: &Tensor) -> bool {
    (a.shape.h, a.shape.w, a.shape.c) == (b.shape.h, b.shape.w, b.shape.c)
}
