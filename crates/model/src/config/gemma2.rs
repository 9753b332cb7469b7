//! `config.json` of a Gemma 2 language model.

use serde_json::{Value, json};

use super::causal::{CausalConfig, refuse_windows};
use super::fields::Fields;
use crate::error::Result;

/// transformers' `Gemma2Config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemma2Config {
    pub causal: CausalConfig,
    /// Scores are divided by its square root.
    pub query_pre_attn_scalar: f32,
    /// The bound of scores, if they have one.
    pub attn_logit_softcapping: Option<f32>,
}

const USUAL: CausalConfig = CausalConfig {
    vocab_size: 256_000,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 256,
    rms_norm_eps: 1e-6,
    rope_theta: 10000.0,
};

impl Gemma2Config {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.one_of("model_type", &["gemma2"])?;
        // `hidden_act`, which files have too, is read by no version.
        f.only("hidden_activation", json!("gelu_pytorch_tanh"))?;
        if f.bool("use_bidirectional_attention", false)? {
            return Err(f.unsupported("use_bidirectional_attention", "false"));
        }
        let causal = CausalConfig::read(&f, file, USUAL)?;
        // Every other layer has one where no types are listed.
        refuse_windows(&f, true, Some(4096))?;
        Ok(Gemma2Config {
            causal,
            query_pre_attn_scalar: f.positive("query_pre_attn_scalar", 256.0)?,
            attn_logit_softcapping: match f.get("attn_logit_softcapping") {
                Some(Value::Null) => None,
                _ => Some(f.positive("attn_logit_softcapping", 50.0)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::Unsupported;

    fn parse(json: &str) -> Result<Gemma2Config> {
        Gemma2Config::from_json(json.as_bytes(), "text_encoder/config.json")
    }

    #[test]
    fn values_are_read() {
        let two = r#"{"model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh", "final_logit_softcapping": 30.0,
            "hidden_activation": "gelu_pytorch_tanh", "use_bidirectional_attention": null, "sliding_window": 4096}"#;
        let usual =
            Gemma2Config { causal: USUAL, query_pre_attn_scalar: 256.0, attn_logit_softcapping: Some(50.0) };
        assert_eq!(parse(two).unwrap(), usual);
        let other = parse(r#"{"query_pre_attn_scalar": 224, "attn_logit_softcapping": null}"#).unwrap();
        assert_eq!((other.query_pre_attn_scalar, other.attn_logit_softcapping), (224.0, None));
        // Windows that no layer has.
        assert!(parse(r#"{"sliding_window": 64, "layer_types": ["full_attention"]}"#).is_ok());
        assert!(parse(r#"{"sliding_window": null}"#).is_ok());
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        for (json, key) in [
            (r#"{"model_type": "gemma"}"#, "model_type"),
            (r#"{"hidden_activation": "gelu"}"#, "hidden_activation"),
            (r#"{"use_bidirectional_attention": true}"#, "use_bidirectional_attention"),
            (r#"{"attention_bias": true}"#, "attention_bias"),
            (r#"{"sliding_window": 512}"#, "sliding_window"),
            (r#"{"rope_scaling": {"rope_type": "linear", "factor": 2.0}}"#, "rope_scaling"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, Unsupported, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
