//! The autoencoder (diffusers' AutoencoderKL): latents to images and back.

use super::config::KlConfig;
use super::resnet::Resnet;
use crate::nn::{At, Attention, Conv, GroupNorm, Heads, Projections};
use crate::plan::ops::{Activation, Activation::Silu, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::weights::Declarations;

/// What diffusers' autoencoder has in every norm, whatever the configuration says.
const EPS: f32 = 1e-6;

#[derive(Clone, Debug)]
pub struct Decoder {
    post_quant_conv: Option<Conv>,
    conv_in: Conv,
    mid_block: MidBlock,
    up_blocks: Vec<Level>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

impl Decoder {
    pub fn declare(d: &mut Declarations, config: &KlConfig) -> Decoder {
        let widths: Vec<u32> = config.decoder_block_out_channels.iter().rev().map(|&c| c as u32).collect();
        let (latent, groups) = (config.latent_channels as u32, config.norm_num_groups as u32);
        let last = *widths.last().expect("at least one level");
        Decoder {
            post_quant_conv: config
                .use_post_quant_conv
                .then(|| Conv::declare(d, "post_quant_conv", latent, latent, 1, true)),
            conv_in: Conv::declare(d, "decoder.conv_in", latent, widths[0], 3, true),
            mid_block: MidBlock::declare(
                d,
                "decoder.mid_block",
                widths[0],
                groups,
                config.mid_block_add_attention,
            ),
            up_blocks: levels(
                d,
                "decoder.up_blocks",
                "upsamplers",
                &widths,
                widths[0],
                config.layers_per_block + 1,
                groups,
            ),
            conv_norm_out: GroupNorm::declare(d, "decoder.conv_norm_out", last, groups, EPS),
            conv_out: Conv::declare(d, "decoder.conv_out", last, config.out_channels as u32, 3, true),
        }
    }

    /// `z` is `[N, h, w, latent_channels]`, scale and shift undone. Returns `[N, 8h, 8w, 3]` in about [-1, 1].
    pub fn record(&self, r: &mut Recorder, z: Tensor) -> Tensor {
        let z = match &self.post_quant_conv {
            Some(conv) => conv.record(r, z, None, Epilogue::default()),
            None => z,
        };
        r.tap("post_quant_conv", z);
        let x = self.conv_in.record(r, z, None, Epilogue::default());
        r.tap("decoder.conv_in", x);
        let mut x = self.mid_block.record(r, x);
        for level in &self.up_blocks {
            x = level.resnets(r, x);
            if let Some(conv) = &level.sampler {
                x = conv.upsample(r, x, (2 * x.shape.h, 2 * x.shape.w));
            }
            r.tap(&level.path, x);
        }
        let x = self.conv_norm_out.record(r, x, None, Silu);
        r.tap("decoder.conv_act", x);
        let x = self.conv_out.record(r, x, None, Epilogue::default());
        r.tap("decoder.conv_out", x)
    }
}

#[derive(Clone, Debug)]
pub struct Encoder {
    conv_in: Conv,
    down_blocks: Vec<Level>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
    quant_conv: Option<Conv>,
}

impl Encoder {
    pub fn declare(d: &mut Declarations, config: &KlConfig) -> Encoder {
        let widths: Vec<u32> = config.block_out_channels.iter().map(|&c| c as u32).collect();
        let (moments, groups) = (2 * config.latent_channels as u32, config.norm_num_groups as u32);
        let last = *widths.last().expect("at least one level");
        Encoder {
            conv_in: Conv::declare(d, "encoder.conv_in", config.in_channels as u32, widths[0], 3, true),
            down_blocks: levels(
                d,
                "encoder.down_blocks",
                "downsamplers",
                &widths,
                widths[0],
                config.layers_per_block,
                groups,
            ),
            mid_block: MidBlock::declare(
                d,
                "encoder.mid_block",
                last,
                groups,
                config.mid_block_add_attention,
            ),
            conv_norm_out: GroupNorm::declare(d, "encoder.conv_norm_out", last, groups, EPS),
            conv_out: Conv::declare(d, "encoder.conv_out", last, moments, 3, true),
            quant_conv: config
                .use_quant_conv
                .then(|| Conv::declare(d, "quant_conv", moments, moments, 1, true)),
        }
    }

    /// `x` is `[N, H, W, 3]` in [-1, 1]. Returns the moments, `[N, H/8, W/8, 2 * latent_channels]`: means,
    /// then logarithms of variances, not clamped.
    pub fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        let x = self.conv_in.record(r, x, None, Epilogue::default());
        let mut x = r.tap("encoder.conv_in", x);
        for level in &self.down_blocks {
            x = level.resnets(r, x);
            if let Some(conv) = &level.sampler {
                // Right and below only.
                x = conv.downsample(r, x, (0, 1));
            }
            r.tap(&level.path, x);
        }
        let x = self.mid_block.record(r, x);
        let x = self.conv_norm_out.record(r, x, None, Silu);
        let x = self.conv_out.record(r, x, None, Epilogue::default());
        r.tap("encoder.conv_out", x);
        match &self.quant_conv {
            Some(conv) => conv.record(r, x, None, Epilogue::default()),
            None => x,
        }
    }
}

/// Resnets of one width, then a change of size, except in the last level.
#[derive(Clone, Debug)]
struct Level {
    path: String,
    resnets: Vec<Resnet>,
    sampler: Option<Conv>,
}

impl Level {
    fn resnets(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        self.resnets.iter().fold(x, |x, resnet| resnet.record(r, x, None, None))
    }
}

fn levels(
    d: &mut Declarations,
    path: &str,
    sampler: &str,
    widths: &[u32],
    mut inputs: u32,
    layers: usize,
    groups: u32,
) -> Vec<Level> {
    let mut levels = vec![];
    for (i, &width) in widths.iter().enumerate() {
        let path = path.at(i);
        let mut resnets = vec![];
        for j in 0..layers {
            resnets.push(Resnet::declare(d, &path.at("resnets").at(j), inputs, width, groups, EPS));
            inputs = width;
        }
        let sampler = (i + 1 < widths.len())
            .then(|| Conv::declare(d, &path.at(sampler).at("0.conv"), width, width, 3, true));
        levels.push(Level { path, resnets, sampler });
    }
    levels
}

#[derive(Clone, Debug)]
struct MidBlock {
    path: String,
    first: Resnet,
    attention: Option<(GroupNorm, Attention)>,
    second: Resnet,
}

impl MidBlock {
    fn declare(d: &mut Declarations, path: &str, width: u32, groups: u32, attention: bool) -> MidBlock {
        let heads = Heads { count: 1, size: width };
        MidBlock {
            path: path.to_owned(),
            first: Resnet::declare(d, &path.at("resnets.0"), width, width, groups, EPS),
            attention: attention.then(|| {
                let path = path.at("attentions.0");
                let norm = GroupNorm::declare(d, &path.at("group_norm"), width, groups, EPS);
                (norm, Attention::declare(d, &path, width, heads, Projections::VAE))
            }),
            second: Resnet::declare(d, &path.at("resnets.1"), width, width, groups, EPS),
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        let mut x = self.first.record(r, x, None, None);
        if let Some((norm, attention)) = &self.attention {
            let h = norm.record(r, x, None, Activation::None);
            x = attention.record(r, h, None, x, false);
            r.tap(&self.path.at("attentions.0"), x);
        }
        let x = self.second.record(r, x, None, None);
        r.tap(&self.path, x)
    }
}

/// The distribution that an encoder's moments describe, one value for each latent.
#[derive(Clone, Debug)]
pub struct Posterior {
    pub mean: Vec<f32>,
    /// Clamped to -30..20, as the reference does.
    pub logvar: Vec<f32>,
    pub std: Vec<f32>,
}

impl Posterior {
    /// `moments` is `[.., 2 * channels]`: means, then logarithms of variances.
    pub fn new(moments: &[f32], channels: usize) -> Posterior {
        let rows = || moments.chunks_exact(2 * channels);
        let logvar: Vec<f32> = rows().flat_map(|m| &m[channels..]).map(|v| v.clamp(-30.0, 20.0)).collect();
        Posterior {
            mean: rows().flat_map(|m| &m[..channels]).copied().collect(),
            std: logvar.iter().map(|v| (0.5 * v).exp()).collect(),
            logvar,
        }
    }

    /// `mean + std * noise`
    pub fn sample(&self, noise: &[f32]) -> Vec<f32> {
        self.mean.iter().zip(&self.std).zip(noise).map(|((m, s), n)| m + s * n).collect()
    }
}
