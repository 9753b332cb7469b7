//! The tiny autoencoder (diffusers' AutoencoderTiny, from Ollin Boer Bohan's TAESD).

use super::config::TinyConfig;
use crate::nn::{At, Conv};
use crate::plan::ops::{Activation, Activation::Relu, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::weights::Declarations;

/// A chain of layers, numbered as diffusers' Sequential: ReLU and Upsample count, though they are folded
/// into their neighbours here.
#[derive(Clone, Debug)]
struct Chain {
    path: String,
    layers: Vec<(usize, Layer)>,
}

#[derive(Clone, Debug)]
enum Layer {
    Conv(Conv, Activation),
    /// Three convolutions around a residual: relu(conv3(relu(conv2(relu(conv1 x)))) + x)
    Block([Conv; 3]),
    /// Nearest x2, then a convolution.
    Up(Conv),
    /// A convolution with stride 2.
    Down(Conv),
}

/// Numbers the layers of a chain while it is declared.
struct Builder<'a> {
    d: &'a mut Declarations,
    chain: Chain,
    next: usize,
}

impl<'a> Builder<'a> {
    fn new(d: &'a mut Declarations, path: &str) -> Self {
        Builder { d, chain: Chain { path: path.to_owned(), layers: vec![] }, next: 0 }
    }

    /// A layer's module number comes after `skipped` modules without weights.
    fn push(&mut self, skipped: usize, make: impl FnOnce(&mut Declarations, &str) -> Layer) {
        let index = self.next + skipped;
        let layer = make(self.d, &self.chain.path.at("layers").at(index));
        self.chain.layers.push((index, layer));
        self.next = index + 1;
    }

    fn blocks(&mut self, count: usize, width: u32) {
        for _ in 0..count {
            self.push(0, |d, path| {
                Layer::Block(
                    [0, 2, 4].map(|i| Conv::declare(d, &path.at("conv").at(i), width, width, 3, true)),
                )
            });
        }
    }
}

impl Chain {
    fn record(&self, r: &mut Recorder, mut x: Tensor) -> Tensor {
        let relu = Epilogue { activation: Relu, ..Default::default() };
        for (index, layer) in &self.layers {
            x = match layer {
                Layer::Conv(conv, activation) => {
                    conv.record(r, x, None, Epilogue { activation: *activation, ..Default::default() })
                }
                Layer::Block([conv1, conv2, conv3]) => {
                    let h = conv1.record(r, x, None, relu);
                    let h = conv2.record(r, h, None, relu);
                    conv3.record(r, h, None, Epilogue { residual: Some(x), ..relu })
                }
                Layer::Up(conv) => conv.upsample(r, x, (2 * x.shape.h, 2 * x.shape.w)),
                Layer::Down(conv) => conv.downsample(r, x, (1, 1)),
            };
            match layer {
                // The reference has its ReLU as the next module, and no module for the change of range.
                Layer::Conv(_, Relu) => r.tap(&self.path.at("layers").at(index + 1), x),
                Layer::Conv(_, Activation::Signed) => x,
                _ => r.tap(&self.path.at("layers").at(index), x),
            };
        }
        x
    }
}

#[derive(Clone, Debug)]
pub struct Decoder(Chain);

impl Decoder {
    pub fn declare(d: &mut Declarations, config: &TinyConfig) -> Decoder {
        let widths: Vec<u32> = config.decoder_block_out_channels.iter().map(|&c| c as u32).collect();
        let mut b = Builder::new(d, "decoder");
        let latent = config.latent_channels as u32;
        b.push(0, |d, path| Layer::Conv(Conv::declare(d, path, latent, widths[0], 3, true), Relu));
        b.next += 1; // the ReLU module
        for (i, &count) in config.num_decoder_blocks.iter().enumerate() {
            b.blocks(count, widths[i]);
            if i + 1 == widths.len() {
                let outputs = config.out_channels as u32;
                let last = Activation::Signed;
                b.push(0, |d, path| Layer::Conv(Conv::declare(d, path, widths[i], outputs, 3, true), last));
            } else {
                b.push(1, |d, path| Layer::Up(Conv::declare(d, path, widths[i], widths[i], 3, false)));
            }
        }
        Decoder(b.chain)
    }

    /// `z` is `[N, h, w, latent_channels]`, already through the soft clamp 3 tanh(z / 3). Returns
    /// `[N, 8h, 8w, 3]` in about [-1, 1].
    pub fn record(&self, r: &mut Recorder, z: Tensor) -> Tensor {
        self.0.record(r, z)
    }
}

#[derive(Clone, Debug)]
pub struct Encoder(Chain);

impl Encoder {
    pub fn declare(d: &mut Declarations, config: &TinyConfig) -> Encoder {
        let widths: Vec<u32> = config.encoder_block_out_channels.iter().map(|&c| c as u32).collect();
        let mut b = Builder::new(d, "encoder");
        for (i, &count) in config.num_encoder_blocks.iter().enumerate() {
            if i == 0 {
                let inputs = config.in_channels as u32;
                b.push(0, |d, path| {
                    Layer::Conv(Conv::declare(d, path, inputs, widths[0], 3, true), Activation::None)
                });
            } else {
                b.push(0, |d, path| Layer::Down(Conv::declare(d, path, widths[i], widths[i], 3, false)));
            }
            b.blocks(count, widths[i]);
        }
        let (last, latent) = (widths[widths.len() - 1], config.latent_channels as u32);
        b.push(0, |d, path| Layer::Conv(Conv::declare(d, path, last, latent, 3, true), Activation::None));
        Encoder(b.chain)
    }

    /// `x` is `[N, H, W, 3]` in [0, 1]. Returns latents, `[N, H/8, W/8, latent_channels]`.
    pub fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        self.0.record(r, x)
    }
}
