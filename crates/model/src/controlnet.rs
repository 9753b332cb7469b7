//! A ControlNet (diffusers' ControlNetModel): a copy of a U-Net's down path that sees an image as well, and
//! whose results the U-Net adds to its skip connections.

use super::config::ControlNetConfig;
use super::unet::{Encoder, Extras, Inputs, Residuals};
use crate::nn::Conv;
use crate::plan::ops::{self, Activation::Silu, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Declarations;

#[derive(Clone, Debug)]
pub struct ControlNet {
    pub config: ControlNetConfig,
    encoder: Encoder,
    image: ImageEncoder,
    /// 1x1 convolutions of the skip connections.
    controlnet_down_blocks: Vec<Conv>,
    controlnet_mid_block: Conv,
}

/// From pixels to the latents' size (diffusers' ControlNetConditioningEmbedding).
#[derive(Clone, Debug)]
struct ImageEncoder {
    conv_in: Conv,
    /// In pairs: one that keeps the size and one that halves it.
    blocks: Vec<[Conv; 2]>,
    conv_out: Conv,
}

impl ControlNet {
    pub fn declare(d: &mut Declarations, config: &ControlNetConfig) -> ControlNet {
        let mut widths = vec![];
        let encoder = Encoder::declare(d, &config.encoder, |_, skips| widths = skips);
        let first = widths[0];
        let last = *widths.last().expect("conv_in's skip connection at least");
        let mut zero = |path: &str, width| Conv::declare(d, path, width, width, 1, true);
        let controlnet_down_blocks = widths
            .iter()
            .enumerate()
            .map(|(i, &width)| zero(&format!("controlnet_down_blocks.{i}"), width))
            .collect();
        let controlnet_mid_block = zero("controlnet_mid_block", last);
        let image = ImageEncoder::declare(d, config, first);
        ControlNet { config: config.clone(), encoder, image, controlnet_down_blocks, controlnet_mid_block }
    }

    /// The part that depends on the image alone, `[N, H, W, conditioning_channels]` in [0, 1]: its
    /// features at the latents' size, `[N, h, w, c0]`.
    pub fn record_image(&self, r: &mut Recorder, image: Tensor) -> Tensor {
        self.image.record(r, image)
    }

    /// The part that depends on the prompt alone: keys and values from `text`, `[N, tokens, width]`.
    pub fn record_context(&self, r: &mut Recorder, text: Tensor) -> Vec<Tensor> {
        self.encoder.record_context(r, text)
    }

    /// The part that depends on the timestep: from its features, `[N, 1, 1, c0]`, and those of the pooled text and the
    /// sizes, if the U-Net has them, to all projections.
    pub fn record_time(&self, r: &mut Recorder, features: Tensor, added: Option<Tensor>) -> Tensor {
        let wanted = added.filter(|_| self.config.encoder.text_time.is_some());
        let added = wanted.map(|features| self.encoder.time_embedding.record_added(r, features));
        self.encoder.record_time(r, features, None, added)
    }

    /// `x` is `[N, h, w, in_channels]`, as the U-Net sees it, `image` what `record_image` returned.
    pub fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        image: Tensor,
        time: Tensor,
        context: &[Tensor],
    ) -> Residuals {
        let inputs = Inputs { time, context, extras: &Extras::default() };
        let (skips, mid) = self.encoder.record(r, x, Some(image), &inputs);
        let mut record = |conv: &Conv, x| conv.record(r, x, None, Epilogue::default());
        let down = self.controlnet_down_blocks.iter().zip(skips).map(|(conv, x)| record(conv, x)).collect();
        Residuals { down, mid: record(&self.controlnet_mid_block, mid) }
    }

    /// The shape of the image for `images` latents of this height and width.
    pub fn image_shape(&self, images: u32, [h, w]: [u32; 2]) -> Shape {
        let factor = self.config.spatial_factor() as u32;
        Shape::new(images, h * factor, w * factor, self.config.conditioning_channels as u32)
    }

    /// The number of residuals, and of the factors that `Extras` takes for them.
    pub fn residuals(&self) -> usize {
        self.controlnet_down_blocks.len() + 1
    }

    /// A factor for each residual: `scale`, and in diffusers' guess mode less of what lies higher up, from a
    /// tenth of it for conv_in's to all of it for the mid block's.
    pub fn factors(&self, scale: f32, guess: bool) -> Vec<f32> {
        let last = (self.residuals() - 1) as f32;
        let share = |i| if guess { 10f32.powf(i as f32 / last - 1.0) } else { 1.0 };
        (0..self.residuals()).map(|i| scale * share(i)).collect()
    }
}

impl ImageEncoder {
    fn declare(d: &mut Declarations, config: &ControlNetConfig, outputs: u32) -> ImageEncoder {
        let widths: Vec<u32> = config.conditioning_embedding_out_channels.iter().map(|&c| c as u32).collect();
        let conv = |d: &mut Declarations, name: &str, inputs, outputs| {
            Conv::declare(d, &format!("controlnet_cond_embedding.{name}"), inputs, outputs, 3, true)
        };
        ImageEncoder {
            conv_in: d.sensitive(|d| conv(d, "conv_in", config.conditioning_channels as u32, widths[0])),
            blocks: widths
                .windows(2)
                .enumerate()
                .map(|(i, w)| {
                    let same = conv(d, &format!("blocks.{}", 2 * i), w[0], w[0]);
                    [same, conv(d, &format!("blocks.{}", 2 * i + 1), w[0], w[1])]
                })
                .collect(),
            conv_out: d.sensitive(|d| conv(d, "conv_out", widths[widths.len() - 1], outputs)),
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        let silu = Epilogue { activation: Silu, ..Default::default() };
        let mut x = self.conv_in.record(r, x, None, silu);
        for [same, halve] in &self.blocks {
            x = same.record(r, x, None, silu);
            x = ops::Conv { stride: 2, epilogue: silu, ..halve.of(x) }.record(r);
        }
        self.conv_out.record(r, x, None, Epilogue::default())
    }
}
