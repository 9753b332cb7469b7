//! A block of Z-Image: attention and a feed-forward layer, each between two norms.

use crate::config::ZImageConfig;
use crate::dit::{self, Modulated};
use crate::nn::{At, Linear, RmsNorm};
use crate::plan::ops::{self, Activation, Attention, Bias, HeadNorm, HeadWeight, Modulation, Rotary};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::{Columns, Declarations, Rows, weight_and_bias};

/// Of the norms of queries and keys.
const HEAD_EPSILON: f32 = 1e-5;
/// In front of the attention and behind it, in front of the feed-forward layer and behind it.
const NORMS: [&str; 4] = ["attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"];

#[derive(Clone, Debug)]
pub struct Block {
    path: String,
    heads: [u32; 2],
    qkv: Linear,
    head_norms: HeadWeight,
    out: Linear,
    gate_up: Linear,
    down: Linear,
    norms: [RmsNorm; 4],
    /// Makes a vector for each of the norms: scales of those in front, gates of those behind. None without a timestep.
    modulation: Option<Linear>,
}

/// What the tokens of a sequence are told of one another.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Rotary positions of the tokens of all images, `[1, N * T, head]`: prompts differ in length, and so do places.
    pub table: Tensor,
    /// Hides the padding of shorter prompts.
    pub mask: Option<Tensor>,
}

impl Block {
    pub fn declare(d: &mut Declarations, config: &ZImageConfig, path: String, modulated: bool) -> Block {
        let (width, inner) = (config.dim as u32, config.inner_dim as u32);
        let size = config.head() as u32;
        let (attention, mlp) = (path.at("attention"), path.at("feed_forward"));
        let names = ["norm_q", "norm_k"].map(|name| attention.at(name).at("weight"));
        let half = |(name, at): (&str, u32)| {
            let shape = vec![inner as usize, width as usize];
            weight_and_bias(&mlp.at(name), shape, false, Rows::Fours(at), Columns::Same)
        };
        let gate_up = [("w3", 0), ("w1", 4)].into_iter().flat_map(half).collect();
        let (told, modulation) = (config.time_dim() as u32, path.at("adaLN_modulation.0"));
        Block {
            heads: [config.n_heads as u32, size],
            qkv: dit::qkv(d, &attention, width),
            head_norms: HeadWeight { weight: d.vectors(names, size), epsilon: HEAD_EPSILON, split: None },
            out: Linear::declare(d, &attention.at("to_out.0"), width, width, false),
            gate_up: Linear::fused(d, width, 2 * inner, gate_up).gated(Activation::Silu),
            down: Linear::declare(d, &mlp.at("w2"), inner, width, false),
            norms: NORMS.map(|name| RmsNorm::declare(d, &path.at(name), width, config.norm_eps)),
            modulation: modulated.then(|| Linear::declare(d, &modulation, told, 4 * width, true)),
            path,
        }
    }

    /// What a timestep, as a vector, says to the block.
    pub fn modulation(&self, r: &mut Recorder, time: Tensor) -> Option<Modulated> {
        let vectors = self.modulation.as_ref()?.of(time).record(r);
        let vectors = r.tap(&self.path.at("adaLN_modulation"), vectors);
        Some(Modulated { vectors, width: vectors.shape.c / 4 })
    }

    /// `x` is `[N, T, dim]`.
    pub fn record(&self, r: &mut Recorder, x: Tensor, places: Places, m: Option<Modulated>) -> Tensor {
        let n = self.norm(r, 0, x, m, None);
        let y = self.attend(r, n, places);
        let y = r.tap(&self.path.at("attention"), y);
        let x = self.norm(r, 1, y, m, Some(x));
        let n = self.norm(r, 2, x, m, None);
        let h = self.gate_up.of(n).record(r);
        let y = self.down.of(h).record(r);
        let y = r.tap(&self.path.at("feed_forward"), y);
        let x = self.norm(r, 3, y, m, Some(x));
        r.tap(&self.path, x)
    }

    /// The norm of this number: one behind a layer passes a gate and is added to what was in front of it.
    fn norm(
        &self,
        r: &mut Recorder,
        i: usize,
        x: Tensor,
        m: Option<Modulated>,
        residual: Option<Tensor>,
    ) -> Tensor {
        let modulation = m.map(|m| Modulation { gate: residual.is_some(), ..m.scale(i as u32) });
        ops::LayerNorm { modulation, residual, ..self.norms[i].of(x) }.record(r)
    }

    fn attend(&self, r: &mut Recorder, n: Tensor, Places { table, mask }: Places) -> Tensor {
        let [heads, size] = self.heads;
        let (width, qkv) = (heads * size, self.qkv.of(n).record(r));
        let (norm, rotary) = (Some(self.head_norms), Some(Rotary { table, neighbours: true }));
        // As one long sequence, since tables are those of a sequence.
        let all = qkv.viewed(Shape::tokens(1, qkv.shape.rows(), qkv.shape.c));
        let qk = HeadNorm { x: (all, 0), sets: 2, heads, size, norm, rotary }.record(r);
        let qk = qk.viewed(qkv.shape.with_c(2 * width));
        let attention = Attention::of((qk, 0), (qk, width), (qkv, 2 * width), heads, size);
        let y = Attention { bias: mask.map(Bias::Keys), ..attention }.record(r);
        self.out.of(y).record(r)
    }
}
