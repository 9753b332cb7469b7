//! The attentions of a block: a linear one over the image, an ordinary one over the text.

use crate::config::SanaConfig;
use crate::nn::{At, Linear};
use crate::plan::ops::{Attention, Bias, Epilogue, HeadNorm, HeadWeight, LinearAttention, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Handle, Layout, Part, Role, Rows, weight_and_bias};

/// Of the norms of queries and keys, whatever the configuration says.
const EPSILON: f32 = 1e-5;

/// RMS norms of whole rows of queries and of keys from a channel on, of `width` channels each.
fn norm(r: &mut Recorder, x: Tensor, sets: u32, width: u32, weight: Handle, epsilon: f32) -> Tensor {
    let norm = Some(HeadWeight { weight, epsilon, split: None });
    HeadNorm { x: (x, 0), sets, heads: 1, size: width, norm, rotary: None }.record(r)
}

#[derive(Clone, Copy, Debug)]
pub struct LinearSelfAttention {
    heads: [u32; 2],
    qkv: Linear,
    /// Of queries, then of keys, across heads.
    norms: Option<Handle>,
    out: Linear,
}

impl LinearSelfAttention {
    pub fn declare(d: &mut Declarations, path: &str, config: &SanaConfig) -> LinearSelfAttention {
        let width = config.width() as u32;
        let part = |(i, name): (u32, &str)| -> Vec<Part> {
            let (shape, rows) = (vec![width as usize; 2], Rows::From(i * width));
            weight_and_bias(&path.at(name), shape, config.attention_bias, rows, Columns::Same)
        };
        let parts = (0..).zip(["to_q", "to_k", "to_v"]).flat_map(part).collect();
        let names = ["norm_q", "norm_k"].map(|name| path.at(format!("{name}.weight")));
        LinearSelfAttention {
            heads: [config.num_attention_heads, config.attention_head_dim].map(|n| n as u32),
            qkv: Linear::fused(d, width, 3 * width, parts),
            norms: config.qk_norm.then(|| d.vectors(names, width)),
            out: Linear::declare(d, &path.at("to_out.0"), width, width, true),
        }
    }

    /// `residual + gate * attention(x)`.
    pub fn record(&self, r: &mut Recorder, x: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        let [heads, size] = self.heads;
        let width = heads * size;
        let qkv = self.qkv.of(x).record(r);
        let qk = self.norms.map_or(qkv, |weight| norm(r, qkv, 2, width, weight, EPSILON));
        let (q, k, v) = ((qk, 0), (qk, width), (qkv, 2 * width));
        let y = LinearAttention { q, k, v, heads, size, each: size }.record(r);
        let epilogue = Epilogue { gate: Some(gate), residual: Some(residual), ..Default::default() };
        Matmul { epilogue, ..self.out.of(y) }.record(r)
    }
}

/// Heads are stored with zeros to a multiple of four channels.
#[derive(Clone, Copy, Debug)]
pub struct CrossAttention {
    count: u32,
    size: u32,
    q: Linear,
    kv: Linear,
    /// Of queries and of keys, across heads.
    norms: Option<[Handle; 2]>,
    out: Linear,
}

impl CrossAttention {
    pub fn declare(d: &mut Declarations, path: &str, config: &SanaConfig) -> CrossAttention {
        let width = config.width();
        let [count, size] = [config.num_cross_attention_heads, config.cross_attention_head_dim];
        let inner = count * size;
        let [count, size] = [count, size].map(|n| n as u32);
        let padded = size.next_multiple_of(4);
        let stored = count * padded;
        let rows = |at: u32| match padded == size {
            true => Rows::From(at),
            false => Rows::Heads { at, size, padded },
        };
        let part = |name: &str, at| {
            weight_and_bias(&path.at(name), vec![inner, width], true, rows(at), Columns::Same)
        };
        let columns = match padded == size {
            true => Columns::Same,
            false => Columns::Heads { size, padded },
        };
        let norm = |d: &mut Declarations, name: &str| {
            let names = vec![path.at(format!("{name}.weight"))];
            let role = Role::Vector { rows: rows(0), each: 1 };
            let part = Part { names, shape: vec![inner], role };
            d.add(Layout::Vectors { bytes: stored as usize * 4 }, vec![part])
        };
        let out = weight_and_bias(&path.at("to_out.0"), vec![width, inner], true, Rows::From(0), columns);
        let width = width as u32;
        CrossAttention {
            count,
            size,
            q: Linear::fused(d, width, stored, part("to_q", 0)),
            kv: Linear::fused(d, width, 2 * stored, [part("to_k", 0), part("to_v", stored)].concat()),
            norms: config.qk_norm.then(|| ["norm_q", "norm_k"].map(|name| norm(d, name))),
            out: Linear::fused(d, stored, width, out),
        }
    }

    /// Channels of all heads as they are stored, and the share of them that the model has.
    fn stored(&self) -> (u32, f32) {
        let padded = self.size.next_multiple_of(4);
        (self.count * padded, self.size as f32 / padded as f32)
    }

    /// A norm over what is stored: its mean of squares is too small by the share, which the epsilon follows, and so its
    /// result too large by the root of the share. [`Self::record`] multiplies the scores by the share.
    fn normal(&self, r: &mut Recorder, x: Tensor, which: usize) -> Option<Tensor> {
        let (stored, share) = self.stored();
        self.norms.map(|norms| norm(r, x, 1, stored, norms[which], EPSILON * share))
    }

    /// Keys, and values in the second half of the other tensor, which depend on the text alone.
    pub fn keys_values(&self, r: &mut Recorder, text: Tensor) -> [Tensor; 2] {
        let kv = self.kv.of(text).record(r);
        [self.normal(r, kv, 1).unwrap_or(kv), kv]
    }

    /// `x + attention(x)`.
    pub fn record(&self, r: &mut Recorder, x: Tensor, ([k, kv], mask): ([Tensor; 2], Bias)) -> Tensor {
        let (stored, share) = self.stored();
        let q = self.q.of(x).record(r);
        let q = self.normal(r, q, 0).unwrap_or(q);
        let of = Attention::of((q, 0), (k, 0), (kv, stored), self.count, self.size);
        let scale = if self.norms.is_some() { of.scale * share } else { of.scale };
        let y = Attention { bias: Some(mask), scale, ..of }.record(r);
        let epilogue = Epilogue { residual: Some(x), ..Default::default() };
        Matmul { epilogue, ..self.out.of(y) }.record(r)
    }
}
