//! The transformer of a U-Net block (diffusers' Transformer2DModel and BasicTransformerBlock).

use std::rc::Rc;

use super::Parts;
use super::blocks::{Inputs, Level};
use super::kinds::{PostResnet, PostResnetKind};
use crate::nn::{At, Attention, GroupNorm, Heads, LayerNorm, Linear, Projections};
use crate::plan::ops::{Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};

/// Both are what diffusers' classes have, whatever the configuration says.
const GROUP_NORM_EPS: f32 = 1e-6;
const LAYER_NORM_EPS: f32 = 1e-5;

pub const POST_RESNET: PostResnetKind = PostResnetKind {
    attends_text: true,
    // The misnamed `attention_head_dim` is how many heads there are.
    head_size: |width, given| width / given,
    declare: |p, path, level| Rc::new(Transformer::declare(p, path, level)),
};

#[derive(Clone, Debug)]
struct Transformer {
    path: String,
    norm: GroupNorm,
    /// Linear, or a 1x1 convolution, which is the same over pixels.
    proj_in: Linear,
    blocks: Vec<Block>,
    proj_out: Linear,
}

impl Transformer {
    /// `only_cross` replaces self-attention by a second attention over the text.
    fn declare(p: &mut Parts, path: &str, level: Level) -> Transformer {
        let Level { width, only_cross, .. } = level;
        let heads = Heads { count: level.heads, size: width / level.heads };
        Transformer {
            path: path.to_owned(),
            norm: GroupNorm::declare(p.d, &path.at("norm"), width, p.groups, GROUP_NORM_EPS),
            proj_in: p.d.sensitive(|d| Linear::declare(d, &path.at("proj_in"), width, width, true)),
            blocks: (0..level.transformer_layers)
                .map(|i| Block::declare(p, &path.at("transformer_blocks").at(i), width, heads, only_cross))
                .collect(),
            proj_out: p.d.sensitive(|d| Linear::declare(d, &path.at("proj_out"), width, width, true)),
        }
    }
}

impl PostResnet for Transformer {
    fn record(&self, r: &mut Recorder, x: Tensor, inputs: &Inputs) -> Tensor {
        let h = self.norm.record(r, x, None, Activation::None);
        let h = r.tap(&self.path.at("norm"), h);
        let mut h = self.proj_in.of(h).record(r);
        for block in &self.blocks {
            h = block.record(r, h, inputs);
        }
        let epilogue = Epilogue { residual: Some(x), ..Default::default() };
        let y = Matmul { epilogue, ..self.proj_out.of(h) }.record(r);
        r.tap(&self.path, y)
    }
}

#[derive(Clone, Debug)]
struct Block {
    path: String,
    norm1: LayerNorm,
    attn1: Attention,
    /// Which keys and values attn1 takes, when it attends to the text.
    attn1_context: Option<usize>,
    norm2: LayerNorm,
    attn2: Attention,
    attn2_context: usize,
    /// Which keys and values of an image attn2 takes, when there is one.
    attn2_image: usize,
    norm3: LayerNorm,
    ff_in: Linear,
    ff_out: Linear,
}

impl Block {
    fn declare(p: &mut Parts, path: &str, width: u32, heads: Heads, only_cross: bool) -> Block {
        let norm =
            |p: &mut Parts, i| LayerNorm::declare(p.d, &format!("{path}.norm{i}"), width, LAYER_NORM_EPS);
        let (attn1, attn1_context) = p.sensitive(|p| {
            let path = path.at("attn1");
            if !only_cross {
                return (Attention::declare(p.d, &path, width, heads, Projections::UNET), None);
            }
            let (attention, context) = p.cross(&path, width, heads);
            (attention, Some(context))
        });
        let (attn2, attn2_context) = p.cross(&path.at("attn2"), width, heads);
        Block {
            path: path.to_owned(),
            norm1: norm(p, 1),
            attn1,
            attn1_context,
            norm2: norm(p, 2),
            attn2,
            attn2_context,
            attn2_image: p.text_attention(path, heads),
            norm3: norm(p, 3),
            ff_in: Linear::geglu(p.d, &path.at("ff.net.0.proj"), width, 4 * width),
            ff_out: Linear::declare(p.d, &path.at("ff.net.2"), 4 * width, width, true),
        }
    }

    fn record(&self, r: &mut Recorder, x: Tensor, inputs: &Inputs) -> Tensor {
        let context = inputs.context;
        let n = self.norm1.record(r, x);
        let n = r.tap(&self.path.at("norm1"), n);
        let x = self.attn1.record(r, n, self.attn1_context.map(|i| context[i]), x, false);
        let n = self.norm2.record(r, x);
        let n = r.tap(&self.path.at("norm2"), n);
        let text = context[self.attn2_context];
        let x = match &inputs.extras.image_prompt {
            Some(image) => self.attn2.record_two(r, n, text, image.of(self.attn2_image), x),
            None => self.attn2.record(r, n, Some(text), x, false),
        };
        let n = self.norm3.record(r, x);
        let n = r.tap(&self.path.at("norm3"), n);
        let h = self.ff_in.of(n).record(r);
        let h = r.tap(&self.path.at("ff.net.0"), h);
        let epilogue = Epilogue { residual: Some(x), ..Default::default() };
        let y = Matmul { epilogue, ..self.ff_out.of(h) }.record(r);
        r.tap(&self.path, y)
    }
}
