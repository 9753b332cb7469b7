//! T5's encoder, of version 1.1 (transformers' T5EncoderModel; Raffel et al., arXiv:1910.10683).

use std::rc::Rc;

use super::config::T5Config;
use super::denoiser::{Input, Tables};
use super::text::{HiddenState, Kind, TextConfig, TextEncoder, TextSizes, TextUse, mask};
use crate::nn::{At, Linear, RmsNorm};
use crate::plan::ops::{self, Activation, Bias, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::{Elem, Shape};
use crate::weights::{Columns, Declarations, Handle, Part, Role, Rows, weight_and_bias};

pub(super) const KIND: Kind = Kind {
    classes: &["T5EncoderModel", "t5"],
    config: |bytes, file| Ok(Rc::new(T5Config::from_json(bytes, file)?)),
};

#[derive(Clone, Debug)]
pub struct T5Encoder {
    config: T5Config,
    shared: Handle,
    /// `[buckets, heads]`, of the first layer, for all.
    relative_attention_bias: Handle,
    blocks: Vec<Block>,
    final_layer_norm: RmsNorm,
    masked: bool,
}

impl TextConfig for T5Config {
    fn sizes(&self) -> TextSizes {
        TextSizes {
            vocab_size: self.vocab_size,
            hidden_size: self.d_model,
            num_hidden_layers: self.num_layers,
            max_position_embeddings: None,
            projection_dim: None,
        }
    }

    fn declare(&self, d: &mut Declarations, usage: TextUse) -> Rc<dyn TextEncoder> {
        Rc::new(T5Encoder::declare(d, self, usage.masked))
    }
}

impl T5Encoder {
    /// `masked`: padding is hidden, as pipelines have it that give a mask.
    pub fn declare(d: &mut Declarations, config: &T5Config, masked: bool) -> T5Encoder {
        let (width, buckets) = (config.d_model, config.relative_attention_num_buckets);
        let embeddings = Part {
            // Some files have both, which are one.
            names: vec!["shared.weight".to_owned(), "encoder.embed_tokens.weight".to_owned()],
            shape: vec![config.vocab_size, width],
            role: Role::Table,
        };
        let first = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        let norm = "encoder.final_layer_norm";
        T5Encoder {
            shared: d.rows_of(embeddings, config.vocab_size, width),
            relative_attention_bias: d.table(first, buckets, config.num_heads),
            blocks: (0..config.num_layers).map(|i| Block::declare(d, config, i)).collect(),
            final_layer_norm: RmsNorm::declare(d, norm, width as u32, config.layer_norm_epsilon),
            config: config.clone(),
            masked,
        }
    }
}

impl T5Config {
    /// The bucket of a key so many places behind a query: half of them for each direction, each distance its own up to a
    /// quarter of their number, then ever more to one.
    pub fn bucket(&self, distance: i64) -> usize {
        let half = self.relative_attention_num_buckets / 2;
        let (exact, far) = (half / 2, distance.unsigned_abs() as usize);
        let most = self.relative_attention_max_distance;
        let bucket = if far < exact {
            far
        } else {
            let share = (far as f32 / exact as f32).ln() / (most as f32 / exact as f32).ln();
            (exact + (share * (half - exact) as f32) as usize).min(half - 1)
        };
        bucket + if distance > 0 { half } else { 0 }
    }
}

impl TextEncoder for T5Encoder {
    fn sizes(&self) -> TextSizes {
        self.config.sizes()
    }

    fn token_embedding(&self) -> Handle {
        self.shared
    }

    /// Residuals of the largest exceed halves.
    fn overflows_halves(&self) -> bool {
        true
    }

    fn is_masked(&self) -> bool {
        self.masked
    }

    /// Inputs: "relative_bias", and "mask" where padding is hidden: else it is attended to, as in the pipelines that give no
    /// mask. `wanted` does not count: the last state behind the norm is what all pipelines take.
    fn record(&self, r: &mut Recorder, mut x: Tensor, _: HiddenState) -> (Vec<Tensor>, Option<Tensor>) {
        let distances = 2 * x.shape.pixels() - 1;
        let shape = Shape::new(1, 1, self.config.num_heads as u32, distances.next_multiple_of(4));
        let distances = r.input("relative_bias", shape, Elem::F32);
        let bias = match self.masked {
            true => Bias::Both { keys: mask(r, x.shape), distances },
            false => Bias::Distances(distances),
        };
        for (i, block) in self.blocks.iter().enumerate() {
            r.tap(&format!("hidden_states.{i}"), x);
            x = block.record(r, x, bias, i);
        }
        let last = self.final_layer_norm.record(r, x);
        r.tap(&format!("hidden_states.{}", self.blocks.len()), last);
        (vec![last], Some(last))
    }

    fn constants(&self, [_, tokens]: [usize; 2], tables: &Tables) -> Vec<Input> {
        let table = tables(self.relative_attention_bias);
        let (heads, distances) = (self.config.num_heads, 2 * tokens - 1);
        let each = distances.next_multiple_of(4);
        let mut bias = vec![0.0; heads * each];
        for i in 0..distances {
            let bucket = self.config.bucket(i as i64 - (tokens as i64 - 1));
            let row = &table.values()[bucket * heads..][..heads];
            (0..heads).for_each(|head| bias[head * each + i] = row[head]);
        }
        vec![("relative_bias", bias)]
    }
}

#[derive(Clone, Debug)]
struct Block {
    path: String,
    heads: u32,
    size: u32,
    attention_norm: RmsNorm,
    qkv: Linear,
    o: Linear,
    ff_norm: RmsNorm,
    wi: Linear,
    wo: Linear,
}

impl Block {
    fn declare(d: &mut Declarations, config: &T5Config, i: usize) -> Block {
        let path = format!("encoder.block.{i}");
        let (width, inner) = (config.d_model as u32, config.d_ff as u32);
        let (heads, size) = (config.num_heads as u32, config.d_kv as u32);
        let padded = size.next_multiple_of(4);
        let attention = path.at("layer.0.SelfAttention");
        let part = |(i, name): (u32, &str)| {
            let rows = Rows::Heads { at: i * heads * padded, size, padded };
            let shape = vec![(heads * size) as usize, width as usize];
            weight_and_bias(&attention.at(name), shape, false, rows, Columns::Same)
        };
        let qkv = (0..).zip(["q", "k", "v"]).flat_map(part).collect();
        let shape = vec![width as usize, (heads * size) as usize];
        let columns = Columns::Heads { size, padded };
        let o = weight_and_bias(&attention.at("o"), shape, false, Rows::From(0), columns);
        let dense = path.at("layer.1.DenseReluDense");
        let gated = |name: &str, at| {
            let shape = vec![inner as usize, width as usize];
            weight_and_bias(&dense.at(name), shape, false, Rows::Fours(at), Columns::Same)
        };
        let wi = [gated("wi_1", 0), gated("wi_0", 4)].concat();
        let epsilon = config.layer_norm_epsilon;
        Block {
            heads,
            size,
            attention_norm: RmsNorm::declare(d, &path.at("layer.0.layer_norm"), width, epsilon),
            qkv: Linear::fused(d, width, 3 * heads * padded, qkv),
            o: Linear::fused(d, heads * padded, width, o),
            ff_norm: RmsNorm::declare(d, &path.at("layer.1.layer_norm"), width, epsilon),
            wi: Linear::fused(d, width, 2 * inner, wi).gated(Activation::GeluTanh),
            wo: Linear::declare(d, &dense.at("wo"), inner, width, false),
            path,
        }
    }

    /// `x` is `[N, tokens, width]`.
    fn record(&self, r: &mut Recorder, x: Tensor, bias: Bias, i: usize) -> Tensor {
        let n = self.attention_norm.record(r, x);
        let qkv = self.qkv.of(n).record(r);
        let w = self.heads * self.size.next_multiple_of(4);
        let attention = ops::Attention::of((qkv, 0), (qkv, w), (qkv, 2 * w), self.heads, self.size);
        let y = ops::Attention { scale: 1.0, bias: Some(bias), ..attention }.record(r);
        let onto = |x| Epilogue { residual: Some(x), ..Default::default() };
        let x = Matmul { epilogue: onto(x), ..self.o.of(y) }.record(r);
        let x = r.tap(&format!("{}.layer.0", self.path), x);
        let n = self.ff_norm.record(r, x);
        if i == 0 {
            r.tap(&format!("{}.layer.1.layer_norm", self.path), n);
        }
        let h = self.wi.of(n).record(r);
        let x = Matmul { epilogue: onto(x), ..self.wo.of(h) }.record(r);
        r.tap(&format!("{}.layer.1", self.path), x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transformers' `_relative_position_bucket` of 32 buckets up to a distance of 128.
    #[test]
    fn buckets_as_in_the_reference() {
        let json = br#"{"feed_forward_proj": "gated-gelu", "num_layers": 1}"#;
        let config = T5Config::from_json(json, "config.json").unwrap();
        for (distance, bucket) in [
            (0, 0),
            (-1, 1),
            (1, 17),
            (-7, 7),
            (-8, 8),
            (8, 24),
            (-11, 8),
            (-12, 9),
            (-16, 10),
            (-64, 14),
            (-127, 15),
            (-1000, 15),
            (1000, 31),
        ] {
            assert_eq!(config.bucket(distance), bucket, "{distance}");
        }
    }
}
