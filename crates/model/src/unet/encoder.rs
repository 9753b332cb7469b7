//! Everything before the up blocks, which a ControlNet has as well.

use super::blocks::{DownBlock, Inputs, Level, MidBlock};
use super::extras::Block;
use super::time::TimeEmbedding;
use crate::config::UnetConfig;
use crate::nn::{At, Attention, Conv, Heads, Linear, Projections};
use crate::plan::ops::Epilogue;
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Part, Rows, weight_and_bias};

#[derive(Clone, Debug)]
pub struct Encoder {
    conv_in: Conv,
    pub time_embedding: TimeEmbedding,
    /// Every resnet's time_emb_proj side by side.
    time_projections: Linear,
    /// The keys and values of every cross-attention.
    contexts: Vec<Linear>,
    /// The path and the heads of every block with attention over the text (attn2): down, mid, up.
    pub text_attentions: Vec<(String, Heads)>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
}

/// What blocks add to while they declare themselves.
pub struct Parts<'a> {
    pub d: &'a mut Declarations,
    pub groups: u32,
    pub eps: f32,
    context_width: u32,
    time_width: u32,
    time_projections: Vec<Part>,
    time_outputs: u32,
    contexts: Vec<Linear>,
    text_attentions: Vec<(String, Heads)>,
}

impl Parts<'_> {
    /// Declares `path.time_emb_proj` with `outputs` and returns where it begins among all of them.
    pub fn time_projection(&mut self, path: &str, outputs: u32) -> u32 {
        let at = self.time_outputs;
        self.time_projections.extend(weight_and_bias(
            &path.at("time_emb_proj"),
            vec![outputs as usize, self.time_width as usize],
            true,
            Rows::From(at),
            Columns::Same,
        ));
        self.time_outputs += outputs;
        at
    }

    /// See [`Declarations::sensitive`].
    pub fn sensitive<T>(&mut self, declare: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.d.is_sensitive, true);
        let made = declare(self);
        self.d.is_sensitive = outer;
        made
    }

    /// Attention over the text, and the number of its keys and values.
    pub fn cross(&mut self, path: &str, width: u32, heads: Heads) -> (Attention, usize) {
        let (attention, context) =
            Attention::cross(self.d, path, width, self.context_width, heads, Projections::UNET);
        self.contexts.push(context);
        (attention, self.contexts.len() - 1)
    }

    /// Notes a block's attention over the text, and returns its number.
    pub fn text_attention(&mut self, path: &str, heads: Heads) -> usize {
        self.text_attentions.push((path.to_owned(), heads));
        self.text_attentions.len() - 1
    }
}

impl Encoder {
    /// `after_mid` declares what follows the mid block and uses time or text: it is given the widths of
    /// the skip connections.
    pub fn declare(
        d: &mut Declarations,
        config: &UnetConfig,
        after_mid: impl FnOnce(&mut Parts, Vec<u32>),
    ) -> Encoder {
        let first = config.block_out_channels[0] as u32;
        let blocks = config.block_out_channels.len();
        let time_width = config.time_embed_dim() as u32;
        let conv_in = d.sensitive(|d| Conv::declare(d, "conv_in", config.in_channels as u32, first, 3, true));
        let time_embedding = d.sensitive(|d| TimeEmbedding::declare(d, config));
        let mut p = Parts {
            d,
            groups: config.norm_num_groups as u32,
            eps: config.norm_eps,
            context_width: config.cross_attention_dim as u32,
            time_width,
            time_projections: vec![],
            time_outputs: 0,
            contexts: vec![],
            text_attentions: vec![],
        };

        let mut skips = vec![first];
        let mut width = first;
        let mut down_blocks = vec![];
        for (i, &kind) in config.down_blocks.iter().enumerate() {
            let level = Level::new(config, i, kind);
            down_blocks.push(DownBlock::declare(&mut p, i, width, level, i + 1 == blocks, &mut skips));
            width = level.width;
        }
        let mid = Level { only_cross: false, ..Level::new(config, blocks - 1, config.mid_kind) };
        let mid_block = config.mid_block.then(|| MidBlock::declare(&mut p, mid));
        after_mid(&mut p, skips);

        let Parts { time_projections, time_outputs, contexts, text_attentions, .. } = p;
        Encoder {
            conv_in,
            time_embedding,
            time_projections: d.sensitive(|d| Linear::fused(d, time_width, time_outputs, time_projections)),
            contexts,
            text_attentions,
            down_blocks,
            mid_block,
        }
    }

    /// The part that depends on the prompt alone: keys and values from `text`, `[N, tokens, width]`.
    pub fn record_context(&self, r: &mut Recorder, text: Tensor) -> Vec<Tensor> {
        self.contexts.iter().map(|c| c.of(text).record(r)).collect()
    }

    /// The part that depends on the timestep: from what [`TimeEmbedding::record`] takes to all projections.
    pub fn record_time(
        &self,
        r: &mut Recorder,
        features: Tensor,
        guidance: Option<Tensor>,
        added: Option<Tensor>,
    ) -> Tensor {
        let h = self.time_embedding.record(r, features, guidance, added);
        self.time_projections.of(h).record(r)
    }

    /// `x` is `[N, h, w, in_channels]`, `image` what a ControlNet adds after conv_in. Returns the skip
    /// connections, conv_in's first, and the output of the mid block.
    pub fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        image: Option<Tensor>,
        inputs: &Inputs,
    ) -> (Vec<Tensor>, Tensor) {
        let epilogue = Epilogue { residual: image, ..Default::default() };
        let mut x = self.conv_in.record(r, x, inputs.extras.channels, epilogue);
        x = r.tap("conv_in", x);
        let mut skips = vec![x];
        for block in &self.down_blocks {
            x = block.record(r, x, inputs, &mut skips);
        }
        inputs.extras.add_to_skips(r, &mut skips);
        if let Some(block) = &self.mid_block {
            x = block.record(r, x, inputs);
            x = inputs.extras.add_feature(r, Block::Mid(self.down_blocks.len()), x);
        }
        (skips, inputs.extras.add_to_mid(r, x))
    }
}
