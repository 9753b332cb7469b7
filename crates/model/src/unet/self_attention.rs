//! Self-attention of the pixels after a resnet (diffusers' AttnDownBlock2D and AttnUpBlock2D), which knows
//! nothing of the text.

use std::rc::Rc;

use super::blocks::Inputs;
use super::kinds::{PostResnet, PostResnetKind};
use crate::nn::{At, Attention, GroupNorm, Heads, Projections};
use crate::plan::ops::Activation;
use crate::plan::{Recorder, Tensor};

pub const POST_RESNET: PostResnetKind = PostResnetKind {
    attends_text: false,
    // Here `attention_head_dim` is what its name says.
    head_size: |_, given| given,
    declare: |p, path, level| {
        let heads = Heads { count: level.width / level.heads, size: level.heads };
        let norm = path.at("group_norm");
        Rc::new(SelfAttention {
            path: path.to_owned(),
            group_norm: GroupNorm::declare(p.d, &norm, level.width, p.groups, p.eps),
            attention: Attention::declare(p.d, path, level.width, heads, Projections::VAE),
        })
    },
};

#[derive(Debug)]
struct SelfAttention {
    path: String,
    group_norm: GroupNorm,
    attention: Attention,
}

impl PostResnet for SelfAttention {
    fn record(&self, r: &mut Recorder, x: Tensor, _: &Inputs) -> Tensor {
        let h = self.group_norm.record(r, x, None, Activation::None);
        let y = self.attention.record(r, h, None, x, false);
        r.tap(&self.path, y)
    }
}
