//! `config.json` of a T5 encoder.

use serde_json::json;

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// transformers' `T5Config`, of version 1.1: gated feed-forward layers with the tanh approximation of GELU.
#[derive(Clone, Debug, PartialEq)]
pub struct T5Config {
    pub vocab_size: usize,
    pub d_model: usize,
    /// Channels of a head; heads together need not be as wide as the model.
    pub d_kv: usize,
    pub d_ff: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub relative_attention_num_buckets: usize,
    pub relative_attention_max_distance: usize,
    pub layer_norm_epsilon: f32,
}

impl T5Config {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.one_of("model_type", &["t5"])?;
        f.only("is_decoder", json!(false))?;
        // The older form has one projection and ReLU: that of T5 before 1.1.
        if f.string("feed_forward_proj", Some("relu"))? != "gated-gelu" {
            return Err(f.unsupported("feed_forward_proj", "\"gated-gelu\""));
        }
        let config = T5Config {
            vocab_size: f.count("vocab_size", 32128)?,
            d_model: f.count("d_model", 512)?,
            d_kv: f.count("d_kv", 64)?,
            d_ff: f.count("d_ff", 2048)?,
            num_layers: f.count("num_layers", 6)?,
            num_heads: f.count("num_heads", 8)?,
            relative_attention_num_buckets: f.count("relative_attention_num_buckets", 32)?,
            relative_attention_max_distance: f.count("relative_attention_max_distance", 128)?,
            layer_norm_epsilon: f.positive("layer_norm_epsilon", 1e-6)?,
        };
        f.check_depth("num_layers", config.num_layers)?;
        if config.d_kv > MAX_HEAD {
            return Err(f.unsupported("d_kv", &format!("at most {MAX_HEAD}")));
        }
        f.check_fours(&[("d_model", config.d_model), ("d_ff", config.d_ff)])?;
        let (buckets, distance) =
            (config.relative_attention_num_buckets, config.relative_attention_max_distance);
        if !buckets.is_multiple_of(4) || distance <= buckets / 4 {
            let wanted = "a multiple of 4, less than four times relative_attention_max_distance";
            return Err(f.unsupported("relative_attention_num_buckets", wanted));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::Unsupported;

    fn parse(json: &str) -> Result<T5Config> {
        T5Config::from_json(json.as_bytes(), "text_encoder_3/config.json")
    }

    #[test]
    fn values_are_read() {
        let xxl = r#"{"model_type": "t5", "feed_forward_proj": "gated-gelu", "d_model": 4096, "d_ff": 10240,
            "num_layers": 24, "num_heads": 64}"#;
        let config = parse(xxl).unwrap();
        assert_eq!((config.d_model, config.d_kv, config.num_layers), (4096, 64, 24));
        assert_eq!((config.vocab_size, config.relative_attention_num_buckets), (32128, 32));
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        for (json, key) in [
            ("{}", "feed_forward_proj"),
            (r#"{"feed_forward_proj": "relu"}"#, "feed_forward_proj"),
            (r#"{"feed_forward_proj": "gated-gelu", "model_type": "mt5"}"#, "model_type"),
            (r#"{"feed_forward_proj": "gated-gelu", "is_decoder": true}"#, "is_decoder"),
            (r#"{"feed_forward_proj": "gated-gelu", "d_kv": 1024}"#, "d_kv"),
            (r#"{"feed_forward_proj": "gated-gelu", "d_ff": 6}"#, "d_ff"),
            (r#"{"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 6}"#, "num_buckets"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, Unsupported, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
