//! The deep compression autoencoder (diffusers' AutoencoderDC): latents of 32 times fewer pixels along a side to images and
//! back, with fixed shortcuts around every change of size (Chen et al., arXiv:2410.10733).

mod blocks;

use super::config::{DcConfig, DcLevel};
use crate::nn::{At, Conv, RmsNorm};
use crate::plan::ops::{self, Activation, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::weights::Declarations;
use blocks::Block;

/// Of every norm, whatever the configuration says.
const EPSILON: f32 = 1e-5;
/// How far a change of size changes a side.
const FACTOR: u32 = 2;

/// Blocks of one resolution, and the convolution of the change of size: the decoder has it in front, the encoder behind.
#[derive(Clone, Debug)]
struct Level {
    path: String,
    blocks: Vec<Block>,
    /// The place among the modules of the level, the convolution, and its channels.
    change: Option<(usize, Conv, u32)>,
}

impl Level {
    fn blocks(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        self.blocks.iter().fold(x, |x, block| block.record(r, x))
    }

    /// The change of size with its shortcut.
    fn change(&self, r: &mut Recorder, x: Tensor, up: bool) -> Tensor {
        let Some((at, conv, channels)) = self.change else { return x };
        let around = if up { ops::grow } else { ops::shrink };
        let residual = Some(around(r, x, FACTOR, channels));
        let epilogue = Epilogue { residual, ..Default::default() };
        let [h, w] = [x.shape.h, x.shape.w].map(|side| FACTOR * side);
        let conv = conv.of(x);
        let y = match up {
            true => ops::Conv { upsample: Some((h, w)), epilogue, ..conv },
            false => ops::Conv { stride: FACTOR, epilogue, ..conv },
        };
        let y = y.record(r);
        r.tap(&self.path.at(at), y)
    }
}

/// A convolution around which channels are repeated, or means of them go.
fn with_shortcut(r: &mut Recorder, conv: &Conv, x: Tensor, around: Option<Tensor>) -> Tensor {
    conv.record(r, x, None, Epilogue { residual: around, ..Default::default() })
}

fn levels(d: &mut Declarations, config: &DcConfig, decodes: bool) -> Vec<Level> {
    let (half, all) = match decodes {
        true => ("decoder.up_blocks", &config.decoder),
        false => ("encoder.down_blocks", &config.encoder),
    };
    let head = config.attention_head_dim as u32;
    let level = |(i, level): (usize, &DcLevel)| {
        let (path, width) = (half.at(i), level.width as u32);
        let inner = all.get(i + 1).map(|inner| inner.width as u32);
        let (at, first) = if decodes { (0, usize::from(inner.is_some())) } else { (level.layers, 0) };
        let change = inner.map(|inner| {
            let [from, to] = if decodes { [inner, width] } else { [width, inner] };
            (at, Conv::declare(d, &path.at(at).at("conv"), from, to, 3, true), to)
        });
        let block = |i: usize| Block::declare(d, &path.at(first + i), width, level.block, head);
        Level { blocks: (0..level.layers).map(block).collect(), path, change }
    };
    all.iter().enumerate().map(level).collect()
}

#[derive(Clone, Debug)]
pub struct Decoder {
    conv_in: Conv,
    /// Channels behind it, where it has a shortcut.
    shortcut: Option<u32>,
    /// From the image inwards.
    up_blocks: Vec<Level>,
    norm_out: RmsNorm,
    conv_out: Conv,
}

impl Decoder {
    pub fn declare(d: &mut Declarations, config: &DcConfig) -> Decoder {
        let width = |level: Option<&DcLevel>| level.expect("at least one level").width as u32;
        let (outer, inner) = (width(config.decoder.first()), width(config.decoder.last()));
        Decoder {
            conv_in: Conv::declare(d, "decoder.conv_in", config.latent_channels as u32, inner, 3, true),
            shortcut: config.decoder_in_shortcut.then_some(inner),
            up_blocks: levels(d, config, true),
            norm_out: RmsNorm::with_bias(d, "decoder.norm_out", outer, EPSILON),
            conv_out: Conv::declare(d, "decoder.conv_out", outer, 3, 3, true),
        }
    }

    /// `z` is `[N, h, w, latent_channels]`, scale undone. Returns `[N, 32h, 32w, 3]` in about [-1, 1].
    pub fn record(&self, r: &mut Recorder, z: Tensor) -> Tensor {
        let around = self.shortcut.map(|channels| ops::grow(r, z, 1, channels));
        let mut x = with_shortcut(r, &self.conv_in, z, around);
        for level in self.up_blocks.iter().rev() {
            x = level.change(r, x, true);
            x = level.blocks(r, x);
            r.tap(&level.path, x);
        }
        let x = ops::LayerNorm { activation: Activation::Relu, ..self.norm_out.of(x) }.record(r);
        let x = self.conv_out.record(r, x, None, Epilogue::default());
        r.tap("decoder.conv_out", x)
    }
}

#[derive(Clone, Debug)]
pub struct Encoder {
    conv_in: Conv,
    down_blocks: Vec<Level>,
    conv_out: Conv,
    /// Channels behind it, where it has a shortcut.
    shortcut: Option<u32>,
}

impl Encoder {
    pub fn declare(d: &mut Declarations, config: &DcConfig) -> Encoder {
        let width = |level: Option<&DcLevel>| level.expect("at least one level").width as u32;
        let (outer, inner) = (width(config.encoder.first()), width(config.encoder.last()));
        let latent = config.latent_channels as u32;
        Encoder {
            conv_in: Conv::declare(d, "encoder.conv_in", 3, outer, 3, true),
            down_blocks: levels(d, config, false),
            conv_out: Conv::declare(d, "encoder.conv_out", inner, latent, 3, true),
            shortcut: config.encoder_out_shortcut.then_some(latent),
        }
    }

    /// `x` is `[N, H, W, 3]` in [-1, 1]. Returns latents, `[N, H/32, W/32, latent_channels]`, and no distribution.
    pub fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        let x = self.conv_in.record(r, x, None, Epilogue::default());
        let mut x = r.tap("encoder.conv_in", x);
        for level in &self.down_blocks {
            x = level.blocks(r, x);
            x = level.change(r, x, false);
            r.tap(&level.path, x);
        }
        let around = self.shortcut.map(|channels| ops::shrink(r, x, 1, channels));
        with_shortcut(r, &self.conv_out, x, around)
    }
}
