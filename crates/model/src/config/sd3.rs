//! `transformer/config.json`: diffusers' `SD3Transformer2DModel`.

use serde_json::{Value, json};

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// The denoiser of Stable Diffusion 3 and 3.5. Heads are multiples of 4 channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sd3Config {
    /// Side of the latent it was trained for, which only sets the default size of an image.
    pub sample_size: usize,
    /// Side of the squares of latents that are tokens.
    pub patch_size: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub num_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    /// Width of the text's states.
    pub joint_attention_dim: usize,
    pub pooled_projection_dim: usize,
    /// Side of the table of positions.
    pub pos_embed_max_size: usize,
    /// Layers in which the image has a second attention, over itself alone.
    pub dual_attention_layers: Vec<usize>,
    /// Queries and keys have an RMS norm (3.5).
    pub qk_norm: bool,
}

impl Sd3Config {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("SD3Transformer2DModel")?;
        let dual = f.get("dual_attention_layers").cloned().unwrap_or(json!([]));
        let layers: Option<Vec<usize>> =
            dual.as_array().and_then(|all| all.iter().map(|v| v.as_u64().map(|n| n as usize)).collect());
        let in_channels = f.count("in_channels", 16)?;
        let config = Sd3Config {
            sample_size: f.count("sample_size", 128)?,
            patch_size: f.count("patch_size", 2)?,
            in_channels,
            out_channels: f.optional_count("out_channels")?.unwrap_or(in_channels),
            num_layers: f.count("num_layers", 18)?,
            attention_head_dim: f.count("attention_head_dim", 64)?,
            num_attention_heads: f.count("num_attention_heads", 18)?,
            joint_attention_dim: f.count("joint_attention_dim", 4096)?,
            pooled_projection_dim: f.count("pooled_projection_dim", 2048)?,
            pos_embed_max_size: f.count("pos_embed_max_size", 96)?,
            dual_attention_layers: layers
                .ok_or_else(|| f.wrong("dual_attention_layers", "a list of numbers of layers"))?,
            qk_norm: match f.get("qk_norm") {
                None | Some(Value::Null) => false,
                Some(_) => f.one_of("qk_norm", &["rms_norm"]).map(|()| true)?,
            },
        };
        f.check_depth("num_layers", config.num_layers)?;
        let width = config.width();
        if f.optional_count("caption_projection_dim")?.is_some_and(|given| given != width) {
            let wanted = format!("attention_head_dim times num_attention_heads, {width}");
            return Err(f.unsupported("caption_projection_dim", &wanted));
        }
        if config.attention_head_dim > MAX_HEAD || !config.attention_head_dim.is_multiple_of(4) {
            let supported = format!("a multiple of 4, at most {MAX_HEAD}");
            return Err(f.unsupported("attention_head_dim", &supported));
        }
        f.check_fours(&[
            ("in_channels", config.in_channels),
            ("out_channels", config.out_channels),
            ("joint_attention_dim", config.joint_attention_dim),
            ("pooled_projection_dim", config.pooled_projection_dim),
        ])?;
        if config.patch_size > 8 {
            return Err(f.unsupported("patch_size", "1 to 8"));
        }
        if config.dual_attention_layers.iter().any(|layer| *layer >= config.num_layers) {
            let wanted = format!("numbers below num_layers, {}", config.num_layers);
            return Err(f.wrong("dual_attention_layers", &wanted));
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

    fn parse(json: &str) -> Result<Sd3Config> {
        Sd3Config::from_json(json.as_bytes(), "transformer/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse("{}").unwrap();
        assert_eq!((config.width(), config.num_layers, config.in_channels), (1152, 18, 16));
        assert_eq!((config.out_channels, config.qk_norm, config.pos_embed_max_size), (16, false, 96));
        let medium = r#"{"_class_name": "SD3Transformer2DModel", "num_layers": 24, "num_attention_heads": 24,
            "caption_projection_dim": 1536, "dual_attention_layers": [0, 1, 12], "qk_norm": "rms_norm",
            "pos_embed_max_size": 384, "out_channels": null}"#;
        let config = parse(medium).unwrap();
        assert_eq!((config.width(), config.qk_norm, config.out_channels), (1536, true, 16));
        assert_eq!(config.dual_attention_layers, [0, 1, 12]);
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        let cases: [(&str, Code, &str); 8] = [
            (r#"{"_class_name": "FluxTransformer2DModel"}"#, Unsupported, "_class_name"),
            (r#"{"qk_norm": "layer_norm"}"#, Unsupported, "qk_norm"),
            (r#"{"attention_head_dim": 6}"#, Unsupported, "attention_head_dim"),
            (r#"{"caption_projection_dim": 64}"#, Unsupported, "caption_projection_dim"),
            (r#"{"dual_attention_layers": [18]}"#, InvalidModel, "dual_attention_layers"),
            (r#"{"dual_attention_layers": ["a"]}"#, InvalidModel, "dual_attention_layers"),
            (r#"{"in_channels": 6}"#, Unsupported, "in_channels"),
            (r#"{"patch_size": 16}"#, Unsupported, "patch_size"),
        ];
        for (json, code, key) in cases {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
