//! `transformer/config.json`: diffusers' `FluxTransformer2DModel`.

use serde_json::json;

use super::fields::Fields;
use crate::error::Result;

/// The denoiser of FLUX.1. Heads are multiples of 4 channels.
#[derive(Clone, Debug, PartialEq)]
pub struct FluxConfig {
    /// Of a token: squares of 2x2 latents, so that the latents have a quarter.
    pub in_channels: usize,
    pub out_channels: usize,
    pub num_layers: usize,
    pub num_single_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    /// Width of the text's states.
    pub joint_attention_dim: usize,
    pub pooled_projection_dim: usize,
    /// The guidance scale is an input (FLUX.1-dev).
    pub guidance_embeds: bool,
    /// Channels of a head that are turned by the index, the row and the column of a token.
    pub axes_dims_rope: [usize; 3],
}

impl FluxConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("FluxTransformer2DModel")?;
        f.only("patch_size", json!(1))?;
        let in_channels = f.count("in_channels", 64)?;
        let head = f.count("attention_head_dim", 128)?;
        let config = FluxConfig {
            in_channels,
            out_channels: f.optional_count("out_channels")?.unwrap_or(in_channels),
            num_layers: f.count("num_layers", 19)?,
            num_single_layers: f.count("num_single_layers", 38)?,
            attention_head_dim: head,
            num_attention_heads: f.count("num_attention_heads", 24)?,
            joint_attention_dim: f.count("joint_attention_dim", 4096)?,
            pooled_projection_dim: f.count("pooled_projection_dim", 768)?,
            guidance_embeds: f.bool("guidance_embeds", false)?,
            axes_dims_rope: f.axes("axes_dims_rope", [16, 56, 56], head)?,
        };
        f.check_depth(
            "num_layers and num_single_layers",
            config.num_layers.saturating_add(config.num_single_layers),
        )?;
        for (key, value) in [("in_channels", config.in_channels), ("out_channels", config.out_channels)] {
            if !value.is_multiple_of(16) {
                return Err(f.unsupported(key, "a multiple of 16: squares of 2x2 latents"));
            }
        }
        f.check_fours(&[
            ("joint_attention_dim", config.joint_attention_dim),
            ("pooled_projection_dim", config.pooled_projection_dim),
        ])?;
        Ok(config)
    }

    /// Channels of a token on its way.
    pub fn width(&self) -> usize {
        self.attention_head_dim * self.num_attention_heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{InvalidModel, Unsupported};

    fn parse(json: &str) -> Result<FluxConfig> {
        FluxConfig::from_json(json.as_bytes(), "transformer/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse(r#"{"_class_name": "FluxTransformer2DModel", "out_channels": null}"#).unwrap();
        assert_eq!((config.width(), config.num_layers, config.num_single_layers), (3072, 19, 38));
        assert_eq!((config.in_channels, config.out_channels, config.guidance_embeds), (64, 64, false));
        assert_eq!(config.axes_dims_rope, [16, 56, 56]);
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        for (json, code, key) in [
            (r#"{"_class_name": "SD3Transformer2DModel"}"#, Unsupported, "_class_name"),
            (r#"{"patch_size": 2}"#, Unsupported, "patch_size"),
            (r#"{"in_channels": 72}"#, Unsupported, "in_channels"),
            (r#"{"axes_dims_rope": [16, 16]}"#, InvalidModel, "axes_dims_rope"),
            (r#"{"axes_dims_rope": [16, 16, 16]}"#, InvalidModel, "axes_dims_rope"),
            (r#"{"attention_head_dim": 66}"#, Unsupported, "attention_head_dim"),
            (r#"{"pooled_projection_dim": 6}"#, Unsupported, "pooled_projection_dim"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
