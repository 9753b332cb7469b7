//! `transformer/config.json`: diffusers' `Flux2Transformer2DModel`.

use serde_json::json;

use super::fields::Fields;
use crate::error::Result;

/// The denoiser of FLUX.2. Heads are multiples of 4 channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Flux2Config {
    /// Of a token, as the latents have them.
    pub in_channels: usize,
    pub out_channels: usize,
    pub num_layers: usize,
    pub num_single_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    /// Width of the text's states.
    pub joint_attention_dim: usize,
    /// Inner width of the feed-forward layers: that of a token times `mlp_ratio`.
    pub inner_dim: usize,
    /// The guidance scale is an input (FLUX.2-dev).
    pub guidance_embeds: bool,
    /// Channels of a head that are turned by the picture, the row, the column and the place in the text of a token.
    pub axes_dims_rope: [usize; 4],
    pub rope_theta: usize,
}

impl Flux2Config {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("Flux2Transformer2DModel")?;
        f.only("patch_size", json!(1))?;
        f.only("eps", json!(1e-6))?;
        f.only("timestep_guidance_channels", json!(256))?;
        let in_channels = f.count("in_channels", 128)?;
        let attention_head_dim = f.count("attention_head_dim", 128)?;
        let axes_dims_rope = f.axes("axes_dims_rope", [32; 4], attention_head_dim)?;
        let num_attention_heads = f.count("num_attention_heads", 48)?;
        let width = attention_head_dim * num_attention_heads;
        let config = Flux2Config {
            in_channels,
            out_channels: f.optional_count("out_channels")?.unwrap_or(in_channels),
            num_layers: f.count("num_layers", 8)?,
            num_single_layers: f.count("num_single_layers", 48)?,
            attention_head_dim,
            num_attention_heads,
            joint_attention_dim: f.count("joint_attention_dim", 15_360)?,
            inner_dim: (width as f64 * f64::from(f.positive("mlp_ratio", 3.0)?)) as usize,
            guidance_embeds: f.bool("guidance_embeds", true)?,
            axes_dims_rope,
            rope_theta: f.count("rope_theta", 2000)?,
        };
        f.check_depth(
            "num_layers and num_single_layers",
            config.num_layers.saturating_add(config.num_single_layers),
        )?;
        f.check_fours(&[
            ("in_channels", config.in_channels),
            ("out_channels", config.out_channels),
            ("joint_attention_dim", config.joint_attention_dim),
            ("mlp_ratio", config.inner_dim),
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

    fn parse(json: &str) -> Result<Flux2Config> {
        Flux2Config::from_json(json.as_bytes(), "transformer/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse(r#"{"_class_name": "Flux2Transformer2DModel", "out_channels": null}"#).unwrap();
        assert_eq!((config.width(), config.num_layers, config.num_single_layers), (6144, 8, 48));
        assert_eq!((config.in_channels, config.out_channels, config.inner_dim), (128, 128, 18_432));
        assert_eq!((config.axes_dims_rope, config.rope_theta), ([32; 4], 2000));
        assert!(config.guidance_embeds);
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        for (json, code, key) in [
            (r#"{"_class_name": "FluxTransformer2DModel"}"#, Unsupported, "_class_name"),
            (r#"{"patch_size": 2}"#, Unsupported, "patch_size"),
            (r#"{"eps": 1e-5}"#, Unsupported, "eps"),
            (r#"{"timestep_guidance_channels": 128}"#, Unsupported, "timestep_guidance_channels"),
            (r#"{"in_channels": 126}"#, Unsupported, "in_channels"),
            (r#"{"mlp_ratio": 0.0004}"#, Unsupported, "mlp_ratio"),
            (r#"{"mlp_ratio": 0}"#, InvalidModel, "mlp_ratio"),
            (r#"{"axes_dims_rope": [16, 56, 56]}"#, InvalidModel, "axes_dims_rope"),
            (r#"{"axes_dims_rope": [32, 32, 31, 33]}"#, InvalidModel, "axes_dims_rope"),
            (r#"{"attention_head_dim": 66}"#, Unsupported, "attention_head_dim"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
