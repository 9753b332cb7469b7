//! `transformer/config.json`: diffusers' `DiTTransformer2DModel`, which older files call `Transformer2DModel`.

use serde_json::json;

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// The denoiser of DiT, which is told labels.
#[derive(Clone, Debug, PartialEq)]
pub struct DitConfig {
    /// Side of the latent it was trained for, and the only one.
    pub sample_size: usize,
    /// Side of the squares of latents that are tokens.
    pub patch_size: usize,
    pub in_channels: usize,
    /// As many as go in, or twice as many: the noise, and a variance that nothing uses.
    pub out_channels: usize,
    pub num_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    /// Projections of queries, keys and values have biases.
    pub attention_bias: bool,
    /// Labels, behind which one more stands for none.
    pub num_embeds_ada_norm: usize,
    /// Of the norm in front of the feed-forward layer.
    pub norm_eps: f32,
}

impl DitConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says. `upcast_attention` changes nothing (attention is f32
    /// anyway).
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.one_of("_class_name", &["DiTTransformer2DModel", "Transformer2DModel"])?;
        f.only("norm_type", json!("ada_norm_zero"))?;
        f.only("activation_fn", json!("gelu-approximate"))?;
        f.only("norm_elementwise_affine", json!(false))?;
        let in_channels = f.count("in_channels", 4)?;
        let config = DitConfig {
            sample_size: f.count("sample_size", 32)?,
            patch_size: f.count("patch_size", 2)?,
            in_channels,
            out_channels: f.optional_count("out_channels")?.unwrap_or(in_channels),
            num_layers: f.count("num_layers", 28)?,
            attention_head_dim: f.count("attention_head_dim", 72)?,
            num_attention_heads: f.count("num_attention_heads", 16)?,
            attention_bias: f.bool("attention_bias", true)?,
            num_embeds_ada_norm: f.count("num_embeds_ada_norm", 1000)?,
            norm_eps: f.positive("norm_eps", 1e-5)?,
        };
        f.check_depth("num_layers", config.num_layers)?;
        if config.attention_head_dim > MAX_HEAD {
            return Err(f.unsupported("attention_head_dim", &format!("at most {MAX_HEAD}")));
        }
        if !config.width().is_multiple_of(4) {
            return Err(f.unsupported("num_attention_heads", "heads of a multiple of 4 channels in all"));
        }
        f.check_fours(&[("in_channels", in_channels)])?;
        if ![in_channels, 2 * in_channels].contains(&config.out_channels) {
            return Err(f.unsupported("out_channels", "in_channels, or twice as many"));
        }
        if config.patch_size > 8 || !config.sample_size.is_multiple_of(config.patch_size) {
            return Err(f.unsupported("patch_size", "1 to 8, and a whole part of sample_size"));
        }
        Ok(config)
    }

    /// Channels of a token.
    pub fn width(&self) -> usize {
        self.attention_head_dim * self.num_attention_heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{self, InvalidModel, Unsupported};

    fn parse(json: &str) -> Result<DitConfig> {
        DitConfig::from_json(json.as_bytes(), "transformer/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse(r#"{"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero"}"#).unwrap();
        assert_eq!((config.width(), config.num_layers, config.patch_size), (1152, 28, 2));
        assert_eq!((config.in_channels, config.out_channels, config.attention_bias), (4, 4, true));
        assert_eq!((config.sample_size, config.num_embeds_ada_norm, config.norm_eps), (32, 1000, 1e-5));
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        let cases: [(&str, Code, &str); 9] = [
            (r#"{"_class_name": "PixArtTransformer2DModel"}"#, Unsupported, "_class_name"),
            (r#"{"norm_type": "ada_norm_single"}"#, Unsupported, "norm_type"),
            (r#"{"activation_fn": "geglu"}"#, Unsupported, "activation_fn"),
            (r#"{"norm_elementwise_affine": true}"#, Unsupported, "norm_elementwise_affine"),
            (r#"{"num_embeds_ada_norm": null}"#, InvalidModel, "num_embeds_ada_norm"),
            (r#"{"attention_head_dim": 5, "num_attention_heads": 3}"#, Unsupported, "num_attention_heads"),
            (r#"{"attention_head_dim": 520}"#, Unsupported, "attention_head_dim"),
            (r#"{"out_channels": 12}"#, Unsupported, "out_channels"),
            (r#"{"sample_size": 33}"#, Unsupported, "patch_size"),
        ];
        for (json, code, key) in cases {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
