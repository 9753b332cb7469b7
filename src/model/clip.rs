//! The text encoder (transformers' CLIPTextModel and CLIPTextModelWithProjection): CLIP ViT-L, OpenCLIP ViT-H
//! and ViT-bigG.

use super::config::{self, ClipTextConfig};
use crate::nn::{Attention, Heads, LayerNorm, Linear, Projections};
use crate::plan::ops::{Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::{Declarations, Handle};

#[derive(Clone, Debug)]
pub struct TextEncoder {
    pub config: ClipTextConfig,
    token_embedding: Handle,
    position_embedding: Handle,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Handle>,
}

/// Which state of the text conditions a U-Net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenState {
    /// Layers at the end that are left out, fewer than there are.
    pub skip: usize,
    /// Whether the final norm follows.
    pub normed: bool,
}

impl HiddenState {
    /// Of SD 1.x and 2.x; there diffusers' `clip_skip` is `skip`.
    pub const LAST: HiddenState = HiddenState { skip: 0, normed: true };
    /// Of SDXL; there `clip_skip` adds to `skip`.
    pub const PENULTIMATE: HiddenState = HiddenState { skip: 1, normed: false };
}

/// A layer of the text encoder, and of the image encoder.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    act: Activation,
}

/// What a layer is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub width: u32,
    pub inner: u32,
    pub heads: u32,
    pub act: config::Activation,
    pub eps: f32,
}

impl TextEncoder {
    pub fn declare(d: &mut Declarations, config: &ClipTextConfig) -> TextEncoder {
        let (first, width) = (d.specs.len(), config.hidden_size);
        let embeddings = "text_model.embeddings";
        let token_embedding =
            d.tokens(&format!("{embeddings}.token_embedding.weight"), config.vocab_size, width);
        let rows = config.max_position_embeddings;
        let sizes = Sizes {
            width: width as u32,
            inner: config.intermediate_size as u32,
            heads: config.num_attention_heads as u32,
            act: config.hidden_act,
            eps: config.layer_norm_eps,
        };
        let encoder = TextEncoder {
            token_embedding,
            position_embedding: d.table(&format!("{embeddings}.position_embedding.weight"), rows, width),
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::declare(d, &format!("text_model.encoder.layers.{i}"), sizes))
                .collect(),
            final_layer_norm: LayerNorm::declare(
                d,
                "text_model.final_layer_norm",
                width as u32,
                config.layer_norm_eps,
            ),
            text_projection: config.projection_dim.map(|dim| d.table("text_projection.weight", dim, width)),
            config: config.clone(),
        };
        // The state dictionary of transformers 5 has no such module.
        d.allow_without(first, "text_model.");
        encoder
    }

    /// The matrix `[projection_dim, width]` behind the pooled state, applied on the CPU: it is one vector a prompt.
    pub fn text_projection(&self) -> Option<Handle> {
        self.text_projection
    }

    /// The tables that the CPU gathers from: tokens, positions.
    pub fn tables(&self) -> [Handle; 2] {
        [self.token_embedding, self.position_embedding]
    }

    /// The shape of the embeddings of `images` prompts.
    pub fn shape(&self, images: u32) -> Shape {
        Shape::tokens(images, self.config.max_position_embeddings as u32, self.config.hidden_size as u32)
    }

    /// `x` is the sum of token and position embeddings, `[N, tokens, width]`. Returns the wanted state, and the
    /// last one behind the final norm unless nothing needs it: it is what is pooled. There is no padding mask:
    /// pads are attended to, as in the reference.
    pub fn record(&self, r: &mut Recorder, mut x: Tensor, wanted: HiddenState) -> (Tensor, Option<Tensor>) {
        let end = self.layers.len().checked_sub(wanted.skip).expect("fewer layers left out than there are");
        let to_the_end = wanted.skip == 0 || self.text_projection.is_some() || r.target.taps;
        let layers = if to_the_end { &self.layers[..] } else { &self.layers[..end] };
        let mut state = x;
        for (i, layer) in layers.iter().enumerate() {
            r.tap(&format!("hidden_states.{i}"), x);
            if r.target.taps {
                // What diffusers' clip_skip gives: an earlier state behind the final norm.
                let skipped = self.final_layer_norm.record(r, x);
                r.tap(&format!("clip_skip_{}", self.layers.len() - i), skipped);
            }
            x = layer.record(r, x, true);
            if i + 1 == end {
                state = x;
            }
        }
        r.tap(&format!("hidden_states.{}", layers.len()), x);
        let last = to_the_end.then(|| self.final_layer_norm.record(r, x));
        match last {
            Some(last) if wanted == HiddenState::LAST => (last, Some(last)),
            _ if wanted.normed => (self.final_layer_norm.record(r, state), last),
            _ => (state, last),
        }
    }

    /// The state of each prompt's end-of-text token, `[N, width]`, from the last hidden states. Published
    /// configurations say `eos_token_id: 2`, which stands for the largest id (the first of them).
    pub fn pooled(&self, last: &[f32], ids: &[Vec<u32>]) -> Vec<f32> {
        let width = self.config.hidden_size;
        let tokens = self.config.max_position_embeddings;
        let end = |row: &[u32]| match self.config.eos_token_id {
            2 => row.iter().max().and_then(|largest| row.iter().position(|id| id == largest)),
            eos => row.iter().position(|&id| id as usize == eos),
        };
        let pooled = ids.iter().enumerate().map(|(i, row)| {
            let at = (i * tokens + end(row).unwrap_or(0)) * width;
            &last[at..at + width]
        });
        pooled.flatten().copied().collect()
    }
}

impl Layer {
    pub fn declare(d: &mut Declarations, path: &str, sizes: Sizes) -> Layer {
        let Sizes { width, inner, heads, eps, .. } = sizes;
        let heads = Heads { count: heads, size: width / heads };
        Layer {
            layer_norm1: LayerNorm::declare(d, &format!("{path}.layer_norm1"), width, eps),
            self_attn: Attention::declare(d, &format!("{path}.self_attn"), width, heads, Projections::CLIP),
            layer_norm2: LayerNorm::declare(d, &format!("{path}.layer_norm2"), width, eps),
            fc1: Linear::declare(d, &format!("{path}.mlp.fc1"), width, inner, true),
            fc2: Linear::declare(d, &format!("{path}.mlp.fc2"), inner, width, true),
            act: match sizes.act {
                config::Activation::Gelu => Activation::Gelu,
                config::Activation::QuickGelu => Activation::QuickGelu,
            },
        }
    }

    /// `x` is `[N, tokens, width]`; in the text encoder a token sees none behind it (`causal`).
    pub fn record(&self, r: &mut Recorder, x: Tensor, causal: bool) -> Tensor {
        let n = self.layer_norm1.record(r, x);
        let x = self.self_attn.record(r, n, None, x, causal);
        let n = self.layer_norm2.record(r, x);
        let act = Epilogue { activation: self.act, ..Default::default() };
        let h = Matmul { epilogue: act, ..self.fc1.of(n) }.record(r);
        let residual = Epilogue { residual: Some(x), ..Default::default() };
        Matmul { epilogue: residual, ..self.fc2.of(h) }.record(r)
    }
}
