//! The tiny autoencoder (diffusers' AutoencoderTiny, from Ollin Boer Bohan's TAESD), and TAEF2, the one for FLUX.2.

use super::config::TinyConfig;
use crate::nn::{At, Conv, GroupNorm};
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
    /// Three convolutions around a residual: relu(conv3(relu(conv2(relu(conv1 x)))) + x), where x may be pooled first.
    Block(Option<Pool>, [Conv; 3]),
    /// Nearest x2, then a convolution.
    Up(Conv),
    /// A convolution with stride 2.
    Down(Conv),
}

/// TAEF2's layers that see the whole image: `x + wide_to_narrow(relu(norm(narrow_to_wide(x))))`.
#[derive(Clone, Debug)]
struct Pool {
    wide: Conv,
    norm: GroupNorm,
    narrow: Conv,
}

impl Pool {
    fn declare(d: &mut Declarations, path: &str, width: u32) -> Pool {
        let wide = 4 * width;
        Pool {
            wide: Conv::declare(d, &path.at("0"), width, wide, 1, false),
            norm: GroupNorm::declare(d, &path.at("1"), wide, 4, 1e-5),
            narrow: Conv::declare(d, &path.at("3"), wide, width, 1, false),
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        let h = self.wide.record(r, x, None, Epilogue::default());
        let h = self.norm.record(r, h, None, Relu);
        self.narrow.record(r, h, None, Epilogue { residual: Some(x), ..Default::default() })
    }
}

/// Numbers the layers of a chain while it is declared.
struct Builder<'a> {
    d: &'a mut Declarations,
    chain: Chain,
    next: usize,
}

impl<'a> Builder<'a> {
    /// TAEF2's layers have nothing in front of their numbers.
    fn new(d: &'a mut Declarations, path: &str, config: &TinyConfig) -> Self {
        let path = if config.taef2 { String::new() } else { path.at("layers") };
        Builder { d, chain: Chain { path, layers: vec![] }, next: 0 }
    }

    /// A layer's module number comes after `skipped` modules without weights.
    fn push(&mut self, skipped: usize, make: impl FnOnce(&mut Declarations, &str) -> Layer) {
        let index = self.next + skipped;
        let layer = make(self.d, &self.chain.name(index));
        self.chain.layers.push((index, layer));
        self.next = index + 1;
    }

    fn blocks(&mut self, count: usize, width: u32, pooled: bool) {
        for _ in 0..count {
            self.push(0, |d, path| {
                let convs =
                    [0, 2, 4].map(|i| Conv::declare(d, &path.at("conv").at(i), width, width, 3, true));
                Layer::Block(pooled.then(|| Pool::declare(d, &path.at("pool"), width)), convs)
            });
        }
    }
}

impl Chain {
    fn name(&self, index: usize) -> String {
        if self.path.is_empty() { index.to_string() } else { self.path.at(index) }
    }

    fn record(&self, r: &mut Recorder, mut x: Tensor) -> Tensor {
        let relu = Epilogue { activation: Relu, ..Default::default() };
        for (index, layer) in &self.layers {
            x = match layer {
                Layer::Conv(conv, activation) => {
                    conv.record(r, x, None, Epilogue { activation: *activation, ..Default::default() })
                }
                Layer::Block(pool, [conv1, conv2, conv3]) => {
                    let x = pool.as_ref().map_or(x, |pool| pool.record(r, x));
                    let h = conv1.record(r, x, None, relu);
                    let h = conv2.record(r, h, None, relu);
                    conv3.record(r, h, None, Epilogue { residual: Some(x), ..relu })
                }
                Layer::Up(conv) => conv.upsample(r, x, (2 * x.shape.h, 2 * x.shape.w)),
                Layer::Down(conv) => conv.downsample(r, x, (1, 1)),
            };
            match layer {
                // The reference has its ReLU as the next module, and no module for the change of range.
                Layer::Conv(_, Relu) => r.tap(&self.name(index + 1), x),
                Layer::Conv(_, Activation::Signed) => x,
                _ => r.tap(&self.name(*index), x),
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
        let mut b = Builder::new(d, "decoder", config);
        let latent = config.latent_channels as u32;
        // TAEF2's soft clamp is a module, too.
        let clamp = usize::from(config.taef2);
        b.push(clamp, |d, path| Layer::Conv(Conv::declare(d, path, latent, widths[0], 3, true), Relu));
        b.next += 1; // the ReLU module
        for (i, &count) in config.num_decoder_blocks.iter().enumerate() {
            b.blocks(count, widths[i], config.taef2 && i == 0);
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
        let mut b = Builder::new(d, "encoder", config);
        for (i, &count) in config.num_encoder_blocks.iter().enumerate() {
            if i == 0 {
                let inputs = config.in_channels as u32;
                b.push(0, |d, path| {
                    Layer::Conv(Conv::declare(d, path, inputs, widths[0], 3, true), Activation::None)
                });
            } else {
                b.push(0, |d, path| Layer::Down(Conv::declare(d, path, widths[i], widths[i], 3, false)));
            }
            b.blocks(count, widths[i], config.taef2 && i + 1 == widths.len());
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
