//! CLIP's text encoder (transformers' CLIPTextModel and CLIPTextModelWithProjection): ViT-L, OpenCLIP's ViT-H and
//! ViT-bigG.

use std::rc::Rc;

use super::config::{self, ClipTextConfig};
use super::text::{HiddenState, Kind, TextConfig, TextEncoder, TextSizes, TextUse};
use crate::nn::{At, Attention, Heads, LayerNorm, Linear, Projections};
use crate::plan::ops::{Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Declarations, Handle};

pub(super) const KIND: Kind = Kind {
    classes: &["CLIPTextModel", "CLIPTextModelWithProjection", "clip_text_model"],
    config: |bytes, file| Ok(Rc::new(ClipTextConfig::from_json(bytes, file)?)),
};

#[derive(Clone, Debug)]
pub struct ClipTextModel {
    pub config: ClipTextConfig,
    token_embedding: Handle,
    position_embedding: Handle,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Handle>,
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

impl TextConfig for ClipTextConfig {
    fn sizes(&self) -> TextSizes {
        TextSizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            max_position_embeddings: Some(self.max_position_embeddings),
            projection_dim: self.projection_dim,
        }
    }

    /// Any state may be asked for, since requests say how many layers they leave out.
    fn declare(&self, d: &mut Declarations, _: TextUse) -> Rc<dyn TextEncoder> {
        Rc::new(ClipTextModel::declare(d, self))
    }
}

impl ClipTextModel {
    pub fn declare(d: &mut Declarations, config: &ClipTextConfig) -> ClipTextModel {
        let (first, width) = (d.specs.len(), config.hidden_size);
        let embeddings = "text_model.embeddings";
        let token_embedding = d.tokens(&embeddings.at("token_embedding.weight"), config.vocab_size, width);
        let rows = config.max_position_embeddings;
        let sizes = Sizes {
            width: width as u32,
            inner: config.intermediate_size as u32,
            heads: config.num_attention_heads as u32,
            act: config.hidden_act,
            eps: config.layer_norm_eps,
        };
        let encoder = ClipTextModel {
            token_embedding,
            position_embedding: d.table(&embeddings.at("position_embedding.weight"), rows, width),
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
}

impl TextEncoder for ClipTextModel {
    fn sizes(&self) -> TextSizes {
        self.config.sizes()
    }

    fn token_embedding(&self) -> Handle {
        self.token_embedding
    }

    fn position_embedding(&self) -> Option<Handle> {
        Some(self.position_embedding)
    }

    fn leaves_out_layers(&self) -> bool {
        true
    }

    fn text_projection(&self) -> Option<Handle> {
        self.text_projection
    }

    /// There is no padding mask: pads are attended to, as in the reference.
    fn record(&self, r: &mut Recorder, mut x: Tensor, wanted: HiddenState) -> (Vec<Tensor>, Option<Tensor>) {
        let count = self.layers.len();
        let depth = wanted.depth(count).expect("as many layers as are wanted");
        let to_the_end = depth == count || self.text_projection.is_some() || r.target.taps;
        let layers = if to_the_end { &self.layers[..] } else { &self.layers[..depth] };
        let mut states = vec![x];
        for (i, layer) in layers.iter().enumerate() {
            r.tap(&format!("hidden_states.{i}"), x);
            if r.target.taps {
                // What diffusers' clip_skip gives: an earlier state behind the final norm.
                let skipped = self.final_layer_norm.record(r, x);
                r.tap(&format!("clip_skip_{}", count - i), skipped);
            }
            x = layer.record(r, x, true);
            states.push(x);
        }
        r.tap(&format!("hidden_states.{}", layers.len()), x);
        let last = to_the_end.then(|| self.final_layer_norm.record(r, x));
        (wanted.of(count, &states, last, |state| self.final_layer_norm.record(r, state)), last)
    }

    /// The end of the text. Published configurations say `eos_token_id: 2`, which stands for the largest id (the first
    /// of them).
    fn pooled_token(&self, ids: &[u32]) -> Option<usize> {
        let end = match self.config.eos_token_id {
            2 => ids.iter().max().and_then(|largest| ids.iter().position(|id| id == largest)),
            eos => ids.iter().position(|&id| id as usize == eos),
        };
        Some(end.unwrap_or(0))
    }
}

impl Layer {
    pub fn declare(d: &mut Declarations, path: &str, sizes: Sizes) -> Layer {
        let Sizes { width, inner, heads, eps, .. } = sizes;
        let heads = Heads { count: heads, size: width / heads };
        Layer {
            layer_norm1: LayerNorm::declare(d, &path.at("layer_norm1"), width, eps),
            self_attn: Attention::declare(d, &path.at("self_attn"), width, heads, Projections::CLIP),
            layer_norm2: LayerNorm::declare(d, &path.at("layer_norm2"), width, eps),
            fc1: Linear::declare(d, &path.at("mlp.fc1"), width, inner, true),
            fc2: Linear::declare(d, &path.at("mlp.fc2"), inner, width, true),
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
