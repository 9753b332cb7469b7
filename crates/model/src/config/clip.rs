//! `text_encoder/config.json` of a CLIP text model.

use serde_json::Value;

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// The activation of a CLIP text model's feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The exact form, with erf.
    Gelu,
    /// x · sigmoid(1.702 x).
    QuickGelu,
}

impl Activation {
    pub(super) fn read(f: &Fields) -> Result<Self> {
        match f.string("hidden_act", Some("quick_gelu"))?.as_str() {
            "gelu" => Ok(Activation::Gelu),
            "quick_gelu" => Ok(Activation::QuickGelu),
            _ => Err(f.unsupported("hidden_act", "gelu or quick_gelu")),
        }
    }
}

/// transformers' `CLIPTextConfig`. Widths are multiples of 4; `hidden_size` is one of
/// `num_attention_heads`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipTextConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub max_position_embeddings: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f32,
    /// 2 in all published files, which means: pool at the first maximum of the ids.
    pub eos_token_id: usize,
    /// Width of the projected pooled vector, which only `CLIPTextModelWithProjection` has (SDXL's second).
    pub projection_dim: Option<usize>,
}

impl ClipTextConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.only("model_type", "clip_text_model".into())?;
        let config = ClipTextConfig {
            vocab_size: f.count("vocab_size", 49408)?,
            hidden_size: f.count("hidden_size", 512)?,
            intermediate_size: f.count("intermediate_size", 2048)?,
            num_hidden_layers: f.count("num_hidden_layers", 12)?,
            num_attention_heads: f.count("num_attention_heads", 8)?,
            max_position_embeddings: f.count("max_position_embeddings", 77)?,
            hidden_act: Activation::read(&f)?,
            layer_norm_eps: f.positive("layer_norm_eps", 1e-5)?,
            eos_token_id: f.count("eos_token_id", 49407)?,
            projection_dim: projects(&f).then(|| f.count("projection_dim", 512)).transpose()?,
        };
        f.check_depth("num_hidden_layers", config.num_hidden_layers)?;
        check_sizes(&f, config.hidden_size, config.num_attention_heads, config.intermediate_size)?;
        Ok(config)
    }
}

/// Whether the file is that of a class with a projection.
fn projects(f: &Fields) -> bool {
    let classes = f.get("architectures").and_then(Value::as_array).into_iter().flatten();
    classes.filter_map(Value::as_str).any(|class| class == "CLIPTextModelWithProjection")
}

/// Refuses heads that do not divide the width or are too large, and widths that are not multiples of 4.
pub(super) fn check_sizes(f: &Fields, width: usize, heads: usize, inner: usize) -> Result<()> {
    if !width.is_multiple_of(heads) {
        return Err(f.wrong("hidden_size", &format!("a multiple of num_attention_heads, {heads}")));
    }
    if width / heads > MAX_HEAD {
        return Err(f.unsupported("num_attention_heads", &format!("heads of at most {MAX_HEAD} channels")));
    }
    f.check_fours(&[("hidden_size", width), ("intermediate_size", inner)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{self, InvalidModel, Unsupported};

    fn parse(json: &str) -> Result<ClipTextConfig> {
        ClipTextConfig::from_json(json.as_bytes(), "text_encoder/config.json")
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let wanted = ClipTextConfig {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
            projection_dim: None,
        };
        assert_eq!(parse("{}").unwrap(), wanted);
    }

    #[test]
    fn values_are_read() {
        let json = r#"{"vocab_size": 814, "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3,
            "num_attention_heads": 3, "max_position_embeddings": 7, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
            "eos_token_id": 2, "projection_dim": 24, "model_type": "clip_text_model", "unknown": {},
            "architectures": ["CLIPTextModelWithProjection"]}"#;
        let wanted = ClipTextConfig {
            vocab_size: 814,
            hidden_size: 48,
            intermediate_size: 192,
            num_hidden_layers: 3,
            num_attention_heads: 3,
            max_position_embeddings: 7,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-6,
            eos_token_id: 2,
            projection_dim: Some(24),
        };
        assert_eq!(parse(json).unwrap(), wanted);
    }

    #[test]
    fn refusals_name_file_key_and_value() {
        let cases: [(&str, Code, &[&str]); 8] = [
            (r#"{"model_type": "t5"}"#, Unsupported, &["model_type", "t5", "clip_text_model"]),
            (r#"{"hidden_act": "relu"}"#, Unsupported, &["hidden_act", "relu", "quick_gelu"]),
            (r#"{"hidden_size": 513}"#, InvalidModel, &["hidden_size", "513", "8"]),
            (r#"{"hidden_size": 10, "num_attention_heads": 5}"#, Unsupported, &["hidden_size", "10", "4"]),
            (r#"{"intermediate_size": 6}"#, Unsupported, &["intermediate_size", "6", "4"]),
            (r#"{"hidden_size": null}"#, InvalidModel, &["hidden_size", "null"]),
            (r#"{"num_hidden_layers": 0}"#, InvalidModel, &["num_hidden_layers", "0", "1"]),
            (r#"{"layer_norm_eps": -1}"#, InvalidModel, &["layer_norm_eps", "-1", "0"]),
        ];
        for (json, code, words) in cases {
            let e = parse(json).unwrap_err();
            assert_eq!(e.code, code, "{json}: {e}");
            for word in words.iter().chain(&["text_encoder/config.json"]) {
                assert!(e.message.contains(word), "{word} is missing: {e}");
            }
        }
    }
}
