//! A T2I-Adapter (diffusers' T2IAdapter): features of an image for a U-Net's down blocks. They depend on
//! nothing else: one run serves all steps.

use super::config::{AdapterType, T2iAdapterConfig};
use crate::nn::{At, Conv};
use crate::plan::ops::{self, Activation::Relu, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Declarations;

/// Pixels of the image for each latent, along one side.
const PIXELS: u32 = 8;

#[derive(Clone, Debug)]
pub struct T2iAdapter {
    pub config: T2iAdapterConfig,
    /// A light adapter has none.
    conv_in: Option<Conv>,
    body: Vec<Block>,
}

/// diffusers' AdapterBlock and LightAdapterBlock.
#[derive(Clone, Debug)]
struct Block {
    /// Whether it halves the size first.
    down: bool,
    /// Present when the number of channels changes.
    in_conv: Option<Conv>,
    /// x + block2(relu(block1 x)); block2 is 1x1, and 3x3 in a light adapter.
    resnets: Vec<[Conv; 2]>,
    out_conv: Option<Conv>,
}

impl T2iAdapter {
    pub fn declare(d: &mut Declarations, config: &T2iAdapterConfig) -> T2iAdapter {
        let widths: Vec<u32> = config.channels.iter().map(|&c| c as u32).collect();
        let inputs = config.unshuffled() as u32;
        let resnets = config.num_res_blocks;
        let light = config.adapter_type == AdapterType::Light;
        let conv_in = (!light)
            .then(|| d.sensitive(|d| Conv::declare(d, "adapter.conv_in", inputs, widths[0], 3, true)));
        let mut width = if light { inputs } else { widths[0] };
        // A light adapter ends with one more block of the same width.
        let more = if light { widths.last() } else { None };
        let body = widths
            .iter()
            .chain(more)
            .enumerate()
            .map(|(i, &outputs)| {
                let path = format!("adapter.body.{i}");
                let block = match config.adapter_type {
                    AdapterType::Full => Block::full(d, &path, width, outputs, resnets, i > 0),
                    AdapterType::FullXl => Block::full(d, &path, width, outputs, resnets, i == 2),
                    AdapterType::Light => Block::light(d, &path, width, outputs, resnets, i > 0),
                };
                width = outputs;
                block
            })
            .collect();
        T2iAdapter { config: config.clone(), conv_in, body }
    }

    /// The shape of the input for latents of this height and width: one image, whatever the batch.
    pub fn image_shape(&self, size: [u32; 2]) -> Shape {
        let [h, w] = size.map(|s| (s * PIXELS).div_ceil(self.config.downscale_factor as u32));
        Shape::new(1, h, w, self.config.unshuffled() as u32)
    }

    /// An image `[H, W, in_channels]` as the input for latents of this height and width.
    pub fn unshuffle(&self, picture: &[f32], size: [u32; 2]) -> Vec<f32> {
        let size = size.map(|s| (s * PIXELS) as usize);
        unshuffle(picture, size, self.config.in_channels, self.config.downscale_factor)
    }

    /// `x` is an image in [0, 1] with its pixels as channels (`unshuffle`), `[N, h, w, C f f]`. Returns a
    /// feature for each block, for the U-Net's `Extras`.
    pub fn record(&self, r: &mut Recorder, mut x: Tensor) -> Vec<Tensor> {
        if let Some(conv) = &self.conv_in {
            x = conv.record(r, x, None, Epilogue::default());
        }
        let mut features = vec![];
        for block in &self.body {
            x = block.record(r, x);
            features.push(x);
        }
        features
    }
}

impl Block {
    fn full(
        d: &mut Declarations,
        path: &str,
        inputs: u32,
        outputs: u32,
        resnets: usize,
        down: bool,
    ) -> Block {
        let in_conv =
            (inputs != outputs).then(|| Conv::declare(d, &path.at("in_conv"), inputs, outputs, 1, true));
        Block { down, in_conv, resnets: self::resnets(d, path, outputs, resnets, 1), out_conv: None }
    }

    fn light(
        d: &mut Declarations,
        path: &str,
        inputs: u32,
        outputs: u32,
        resnets: usize,
        down: bool,
    ) -> Block {
        let width = outputs / 4;
        let in_conv = Some(Conv::declare(d, &path.at("in_conv"), inputs, width, 1, true));
        let resnets = self::resnets(d, path, width, resnets, 3);
        let out_conv = Some(Conv::declare(d, &path.at("out_conv"), width, outputs, 1, true));
        Block { down, in_conv, resnets, out_conv }
    }

    fn record(&self, r: &mut Recorder, mut x: Tensor) -> Tensor {
        if self.down {
            x = ops::mean(r, x);
        }
        if let Some(conv) = &self.in_conv {
            x = conv.record(r, x, None, Epilogue::default());
        }
        for [block1, block2] in &self.resnets {
            let h = block1.record(r, x, None, Epilogue { activation: Relu, ..Default::default() });
            x = block2.record(r, h, None, Epilogue { residual: Some(x), ..Default::default() });
        }
        match &self.out_conv {
            Some(conv) => conv.record(r, x, None, Epilogue::default()),
            None => x,
        }
    }
}

/// `count` pairs of convolutions, the second one of this kernel size.
fn resnets(d: &mut Declarations, path: &str, width: u32, count: usize, kernel: u32) -> Vec<[Conv; 2]> {
    let mut conv = |i: usize, name: &str, kernel| {
        Conv::declare(d, &path.at("resnets").at(i).at(name), width, width, kernel, true)
    };
    (0..count).map(|i| [conv(i, "block1", 3), conv(i, "block2", kernel)]).collect()
}

/// An image `[H, W, channels]` with every square of `factor` x `factor` pixels as channels of one,
/// `[H / factor, W / factor, channels * factor * factor]`: channel by channel, each row after row (torch's
/// PixelUnshuffle). Height and width are multiples of the factor.
pub fn unshuffle(image: &[f32], [h, w]: [usize; 2], channels: usize, factor: usize) -> Vec<f32> {
    assert!(image.len() == h * w * channels, "{} values for [{h}, {w}, {channels}]", image.len());
    assert!(h.is_multiple_of(factor) && w.is_multiple_of(factor), "[{h}, {w}] in squares of {factor}");
    let mut out = Vec::with_capacity(image.len());
    for (i, j) in (0..h).step_by(factor).flat_map(|i| (0..w).step_by(factor).map(move |j| (i, j))) {
        for c in 0..channels {
            for row in i..i + factor {
                out.extend((j..j + factor).map(|column| image[(row * w + column) * channels + c]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_become_channels() {
        // Two channels of 4 x 2 pixels: tens are rows, ones columns, hundreds the channel.
        let image: Vec<f32> = (0..4)
            .flat_map(|i| (0..2).flat_map(move |j| [0, 100].map(|c| (c + 10 * i + j) as f32)))
            .collect();
        let wanted = [
            [0.0, 1.0, 10.0, 11.0, 100.0, 101.0, 110.0, 111.0],
            [20.0, 21.0, 30.0, 31.0, 120.0, 121.0, 130.0, 131.0],
        ];
        assert_eq!(unshuffle(&image, [4, 2], 2, 2), wanted.concat());
        assert_eq!(unshuffle(&image, [4, 2], 2, 1), image);
    }
}
