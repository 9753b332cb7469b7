//! `config.json` of a Qwen3 language model.

use serde_json::{Value, json};

use super::causal::{CausalConfig, refuse_windows};
use super::fields::Fields;
use crate::error::Result;

/// transformers' `Qwen3Config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Qwen3Config(pub CausalConfig);

const USUAL: CausalConfig = CausalConfig {
    vocab_size: 151936,
    hidden_size: 4096,
    intermediate_size: 22016,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    head_dim: 128,
    rms_norm_eps: 1e-6,
    rope_theta: 10000.0,
};

impl Qwen3Config {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.one_of("model_type", &["qwen3"])?;
        f.only("hidden_act", json!("silu"))?;
        let config = CausalConfig::read(&f, file, USUAL)?;
        let first = match f.get("max_window_layers") {
            Some(Value::Number(n)) => n.as_u64().unwrap_or(0),
            _ => 28,
        };
        // Without this a window that is named has no effect.
        if f.bool("use_sliding_window", false)? {
            refuse_windows(&f, first < config.num_hidden_layers as u64, Some(4096))?;
        }
        Ok(Qwen3Config(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{InvalidModel, Unsupported};

    fn parse(json: &str) -> Result<Qwen3Config> {
        Qwen3Config::from_json(json.as_bytes(), "text_encoder/config.json")
    }

    #[test]
    fn values_are_read() {
        let four = r#"{"model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
            "num_key_value_heads": 8, "rope_theta": 1000000, "rope_scaling": null, "sliding_window": null,
            "use_sliding_window": false, "max_window_layers": 36, "of_a_later_version": 7}"#;
        let Qwen3Config(config) = parse(four).unwrap();
        assert_eq!((config.hidden_size, config.head_dim, config.num_key_value_heads), (2560, 128, 8));
        assert_eq!((config.rope_theta, config.vocab_size), (1e6, 151936));
        // As transformers 5 writes it.
        let five = four.replace(
            r#""rope_theta": 1000000, "rope_scaling": null"#,
            r#""rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}"#,
        );
        assert_eq!(parse(&five).unwrap().0, config);
        let alone = parse(r#"{"num_attention_heads": 6, "num_key_value_heads": null}"#).unwrap();
        assert_eq!(alone.0.num_key_value_heads, 6);
        // A window that no prompt is longer than, or that no layer has.
        for window in [
            r#""sliding_window": 4096, "use_sliding_window": true"#,
            r#""sliding_window": 64, "use_sliding_window": false"#,
            r#""sliding_window": 64, "use_sliding_window": true, "max_window_layers": 32"#,
            r#""sliding_window": 64, "use_sliding_window": true, "layer_types": ["full_attention"]"#,
        ] {
            assert_eq!(parse(&format!("{{{window}}}")).unwrap().0, USUAL, "{window}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        for (json, key) in [
            (r#"{"model_type": "qwen2"}"#, "model_type"),
            (r#"{"hidden_act": "gelu"}"#, "hidden_act"),
            (r#"{"attention_bias": true}"#, "attention_bias"),
            (r#"{"head_dim": 12}"#, "head_dim"),
            (r#"{"head_dim": 520}"#, "head_dim"),
            (r#"{"hidden_size": 30}"#, "hidden_size"),
            (r#"{"intermediate_size": 30}"#, "intermediate_size"),
            (r#"{"num_hidden_layers": 1000}"#, "num_hidden_layers"),
            (r#"{"use_sliding_window": true, "sliding_window": 64}"#, "sliding_window"),
            (
                r#"{"use_sliding_window": true, "sliding_window": 64, "layer_types": ["sliding_attention"]}"#,
                "sliding_window",
            ),
            (r#"{"use_sliding_window": true, "layer_types": ["chunked_attention"]}"#, "layer_types"),
            (r#"{"rope_scaling": {"type": "yarn", "factor": 4.0}}"#, "rope_scaling"),
            (r#"{"rope_parameters": {"rope_type": "linear"}}"#, "rope_parameters"),
            (r#"{"rope_parameters": {"partial_rotary_factor": 0.5}}"#, "partial_rotary_factor"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, Unsupported, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
        for (json, key) in [
            (r#"{"num_attention_heads": 6, "num_key_value_heads": 4}"#, "num_key_value_heads"),
            (r#"{"rope_theta": 0}"#, "rope_theta"),
            (r#"{"rope_parameters": 7}"#, "rope_parameters"),
            (r#"{"rope_parameters": {"rope_theta": "x"}}"#, "rope_theta"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, InvalidModel, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
