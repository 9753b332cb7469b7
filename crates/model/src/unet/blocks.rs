//! The blocks of a U-Net: down, mid, up. Resnets, each followed by the module of the block's kind, if it has one.

use std::rc::Rc;

use super::Parts;
use super::extras::{Block, Extras};
use super::kinds::{Kind, PostResnet};
use crate::config::UnetConfig;
use crate::nn::{At, Conv};
use crate::plan::{Recorder, Tensor};
use crate::resnet::Resnet;

/// What one block is made of, beside its widths.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub width: u32,
    pub layers: usize,
    pub kind: &'static Kind,
    /// The entry of `attention_head_dim`.
    pub heads: u32,
    pub transformer_layers: usize,
    pub only_cross: bool,
}

impl Level {
    /// The blocks at resolution `i`, counted from the highest.
    pub fn new(config: &UnetConfig, i: usize, kind: &'static Kind) -> Level {
        Level {
            width: config.block_out_channels[i] as u32,
            layers: config.layers_per_block,
            kind,
            heads: config.heads[i] as u32,
            transformer_layers: config.transformer_layers_per_block[i],
            only_cross: config.only_cross_attention[i],
        }
    }
}

/// What every block needs while it is recorded.
pub struct Inputs<'a> {
    /// All time projections side by side, `[N, 1, 1, sum of widths]`.
    pub time: Tensor,
    /// Keys and values of every cross-attention.
    pub context: &'a [Tensor],
    pub extras: &'a Extras,
}

/// A resnet, its place in the time projections, and the module after it.
#[derive(Clone, Debug)]
struct Layer {
    resnet: Resnet,
    time: u32,
    post_resnet: Option<Rc<dyn PostResnet>>,
}

impl Layer {
    fn declare(p: &mut Parts, path: &str, index: usize, inputs: u32, level: Level) -> Layer {
        let resnet = path.at("resnets").at(index);
        Layer {
            time: p.time_projection(&resnet, level.width),
            resnet: Resnet::declare(p.d, &resnet, inputs, level.width, p.groups, p.eps),
            post_resnet: level.kind.post_resnet.map(|post_resnet| {
                let path = path.at("attentions").at(index);
                (post_resnet.declare)(p, &path, level)
            }),
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor, skip: Option<Tensor>, inputs: &Inputs) -> Tensor {
        let x = self.resnet.record(r, x, skip, Some((inputs.time, self.time)));
        match &self.post_resnet {
            Some(post_resnet) => post_resnet.record(r, x, inputs),
            None => x,
        }
    }
}

#[derive(Clone, Debug)]
pub struct DownBlock {
    index: usize,
    path: String,
    attends_text: bool,
    layers: Vec<Layer>,
    /// A 3x3 convolution with stride 2; the last block has none.
    downsampler: Option<Conv>,
}

impl DownBlock {
    /// Appends the width of every skip connection that it makes to `skips`.
    pub fn declare(
        p: &mut Parts,
        index: usize,
        inputs: u32,
        level: Level,
        last: bool,
        skips: &mut Vec<u32>,
    ) -> DownBlock {
        let path = format!("down_blocks.{index}");
        let layers = (0..level.layers)
            .map(|i| Layer::declare(p, &path, i, if i == 0 { inputs } else { level.width }, level))
            .collect();
        skips.extend(vec![level.width; level.layers + usize::from(!last)]);
        let name = path.at("downsamplers.0");
        let downsampler =
            (!last).then(|| Conv::declare(p.d, &name.at("conv"), level.width, level.width, 3, true));
        DownBlock { index, path: name, attends_text: level.kind.attends_text(), layers, downsampler }
    }

    pub fn record(
        &self,
        r: &mut Recorder,
        mut x: Tensor,
        inputs: &Inputs,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        for layer in &self.layers {
            x = layer.record(r, x, None, inputs);
            skips.push(x);
        }
        // A T2I-Adapter's feature belongs to a block that sees the text before its downsampler, and to another
        // (SDXL's first) after it; the skip connection from that place has it too.
        if self.attends_text {
            x = self.add_feature(r, x, inputs, skips);
        }
        if let Some(conv) = &self.downsampler {
            x = conv.downsample(r, x, (1, 1));
            x = r.tap(&self.path, x);
            skips.push(x);
        }
        if !self.attends_text {
            x = self.add_feature(r, x, inputs, skips);
        }
        x
    }

    /// Also replaces the last skip connection, which is `x`.
    fn add_feature(&self, r: &mut Recorder, x: Tensor, inputs: &Inputs, skips: &mut [Tensor]) -> Tensor {
        let x = inputs.extras.add_feature(r, Block::Down(self.index), x);
        *skips.last_mut().expect("a block makes skip connections") = x;
        x
    }
}

#[derive(Clone, Debug)]
pub struct MidBlock {
    first: Layer,
    /// Only where a module follows the first.
    second: Option<Layer>,
}

impl MidBlock {
    pub fn declare(p: &mut Parts, level: Level) -> MidBlock {
        let plain = Level { kind: Kind::plain(), ..level };
        MidBlock {
            first: Layer::declare(p, "mid_block", 0, level.width, level),
            second: level.kind.post_resnet.map(|_| Layer::declare(p, "mid_block", 1, level.width, plain)),
        }
    }

    pub fn record(&self, r: &mut Recorder, x: Tensor, inputs: &Inputs) -> Tensor {
        let mut x = self.first.record(r, x, None, inputs);
        if let Some(second) = &self.second {
            x = second.record(r, x, None, inputs);
        }
        r.tap("mid_block", x)
    }
}

#[derive(Clone, Debug)]
pub struct UpBlock {
    path: String,
    layers: Vec<Layer>,
    /// A nearest upsample and a 3x3 convolution; the last block has none.
    upsampler: Option<Conv>,
}

impl UpBlock {
    /// Takes the widths of its skip connections off `skips`.
    pub fn declare(
        p: &mut Parts,
        path: &str,
        inputs: u32,
        level: Level,
        last: bool,
        skips: &mut Vec<u32>,
    ) -> UpBlock {
        let mut width = inputs;
        let mut layers = vec![];
        for i in 0..level.layers + 1 {
            let skip = skips.pop().expect("as many skip connections as up-block layers");
            layers.push(Layer::declare(p, path, i, width + skip, level));
            width = level.width;
        }
        let name = path.at("upsamplers.0");
        let upsampler =
            (!last).then(|| Conv::declare(p.d, &name.at("conv"), level.width, level.width, 3, true));
        UpBlock { path: name, layers, upsampler }
    }

    pub fn record(
        &self,
        r: &mut Recorder,
        mut x: Tensor,
        inputs: &Inputs,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        for layer in &self.layers {
            let skip = skips.pop().expect("as many skip connections as up-block layers");
            x = layer.record(r, x, Some(skip), inputs);
        }
        if let Some(conv) = &self.upsampler {
            // To the size of the next skip connection, which is not always double.
            let next = skips.last().expect("a skip connection after every upsampler").shape;
            x = conv.upsample(r, x, (next.h, next.w));
            x = r.tap(&self.path, x);
        }
        x
    }
}
