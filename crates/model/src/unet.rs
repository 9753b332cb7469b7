//! The denoising U-Net (diffusers' UNet2DConditionModel).

mod blocks;
mod encoder;
mod exp;
mod extras;
mod kinds;
mod networks;
mod self_attention;
mod time;
mod transformer;

pub(super) use blocks::Inputs;
use blocks::{Level, UpBlock};
pub(super) use encoder::Encoder;
use encoder::Parts;
pub use extras::{Adapter, Control, Extras, ImagePrompt, Residuals};
pub use kinds::{KINDS, Kind};
pub(super) use networks::KIND;
pub use networks::Networks;
pub use time::{TimeEmbedding, guidance_embedding, timestep_embedding};

use super::config::UnetConfig;
use crate::nn::{Conv, GroupNorm, Heads};
use crate::plan::ops::{Activation::Silu, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::weights::Declarations;

#[derive(Clone, Debug)]
pub struct Unet {
    encoder: Encoder,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

impl Unet {
    pub fn declare(d: &mut Declarations, config: &UnetConfig) -> Unet {
        let blocks = config.block_out_channels.len();
        let width = config.block_out_channels[0] as u32;
        let mut up_blocks = vec![];
        let encoder = Encoder::declare(d, config, |p, mut skips| {
            let mut width = config.block_out_channels[blocks - 1] as u32;
            for (j, &kind) in config.up_blocks.iter().enumerate() {
                let (path, level) = (format!("up_blocks.{j}"), Level::new(config, blocks - 1 - j, kind));
                up_blocks.push(UpBlock::declare(p, &path, width, level, j + 1 == blocks, &mut skips));
                width = level.width;
            }
        });
        let groups = config.norm_num_groups as u32;
        Unet {
            encoder,
            up_blocks,
            conv_norm_out: GroupNorm::declare(d, "conv_norm_out", width, groups, config.norm_eps),
            conv_out: d
                .sensitive(|d| Conv::declare(d, "conv_out", width, config.out_channels as u32, 3, true)),
        }
    }

    /// What it makes of timesteps, guidance scales and sizes.
    pub fn time_embedding(&self) -> &TimeEmbedding {
        &self.encoder.time_embedding
    }

    /// The path and the heads of every block with attention over the text (attn2): down, mid, up.
    pub fn text_attentions(&self) -> &[(String, Heads)] {
        &self.encoder.text_attentions
    }

    /// The part that depends on the prompt alone: keys and values from `text`, `[N, tokens, width]`.
    pub fn record_context(&self, r: &mut Recorder, text: Tensor) -> Vec<Tensor> {
        self.encoder.record_context(r, text)
    }

    /// The part that depends on the timestep: from what [`TimeEmbedding::record`] takes to all projections.
    pub fn record_time(
        &self,
        r: &mut Recorder,
        features: Tensor,
        guidance: Option<Tensor>,
        added: Option<Tensor>,
    ) -> Tensor {
        self.encoder.record_time(r, features, guidance, added)
    }

    /// `x` is `[N, h, w, in_channels]`, or has the latents alone and `extras` the other channels. Returns the model
    /// output, `[N, h, w, out_channels]`.
    pub fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        time: Tensor,
        context: &[Tensor],
        extras: &Extras,
    ) -> Tensor {
        let inputs = Inputs { time, context, extras };
        let (mut skips, mut x) = self.encoder.record(r, x, None, &inputs);
        for block in &self.up_blocks {
            x = block.record(r, x, &inputs, &mut skips);
        }
        let x = self.conv_norm_out.record(r, x, None, Silu);
        let x = self.conv_out.record(r, x, None, Epilogue::default());
        r.tap("conv_out", x)
    }
}
