//! `transformer/config.json`: diffusers' `SanaTransformer2DModel`.

use serde_json::{Value, json};

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// No width is larger, so that all that is counted of a layer fits in 32 bits.
const MAX_WIDTH: usize = 1 << 20;
const MAX_RATIO: f64 = 16.0;

/// The denoiser of SANA and SANA-Sprint. Heads of the self attention are multiples of 4 channels.
#[derive(Clone, Debug, PartialEq)]
pub struct SanaConfig {
    /// Side of the latent it was trained for, which only sets the default size of an image.
    pub sample_size: usize,
    /// Side of the squares of latents that are tokens.
    pub patch_size: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub num_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    pub cross_attention_head_dim: usize,
    pub num_cross_attention_heads: usize,
    /// Width of the text's states.
    pub caption_channels: usize,
    /// Channels in the middle of a feed-forward layer: values, and as many gates.
    pub hidden: usize,
    /// Projections of queries, keys and values of the self attention have biases.
    pub attention_bias: bool,
    /// Queries and keys have an RMS norm across heads.
    pub qk_norm: bool,
    /// The guidance scale is an input (SANA-Sprint), times this.
    pub guidance_embeds_scale: Option<f32>,
    /// What timesteps are multiplied by.
    pub timestep_scale: f32,
}

impl SanaConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("SanaTransformer2DModel")?;
        f.only("interpolation_scale", Value::Null)?;
        f.only("norm_elementwise_affine", json!(false))?;
        f.only("norm_eps", json!(1e-6))?;
        let in_channels = f.count("in_channels", 32)?;
        let (count, size) = (f.count("num_attention_heads", 70)?, f.count("attention_head_dim", 32)?);
        if size > MAX_HEAD || !size.is_multiple_of(4) {
            let supported = format!("a multiple of 4, at most {MAX_HEAD}");
            return Err(f.unsupported("attention_head_dim", &supported));
        }
        let width = count * size;
        if width > MAX_WIDTH {
            return Err(
                f.unsupported("num_attention_heads", &format!("heads of at most {MAX_WIDTH} channels"))
            );
        }
        let hidden = f64::from(f.positive("mlp_ratio", 2.5)?) * width as f64;
        if !(1.0..=MAX_RATIO * width as f64).contains(&hidden) {
            return Err(f.unsupported("mlp_ratio", &format!("at most {MAX_RATIO}, and one channel at least")));
        }
        let config = SanaConfig {
            sample_size: f.count("sample_size", 32)?,
            patch_size: f.count("patch_size", 1)?,
            in_channels,
            out_channels: match f.get("out_channels") {
                None => 32,
                Some(_) => f.optional_count("out_channels")?.unwrap_or(in_channels),
            },
            num_layers: f.count("num_layers", 20)?,
            num_attention_heads: count,
            attention_head_dim: size,
            num_cross_attention_heads: f.count("num_cross_attention_heads", 20)?,
            cross_attention_head_dim: f.count("cross_attention_head_dim", 112)?,
            caption_channels: f.count("caption_channels", 2304)?,
            hidden: hidden as usize,
            attention_bias: f.bool("attention_bias", false)?,
            qk_norm: match f.get("qk_norm") {
                None | Some(Value::Null) => false,
                Some(_) => f.one_of("qk_norm", &["rms_norm_across_heads"]).map(|()| true)?,
            },
            guidance_embeds_scale: match f.bool("guidance_embeds", false)? {
                true => Some(f.float("guidance_embeds_scale", 0.1)?),
                false => None,
            },
            timestep_scale: f.float("timestep_scale", 1.0)?,
        };
        f.check_depth("num_layers", config.num_layers)?;
        if f.count("cross_attention_dim", 2240)? != width {
            let wanted = format!("attention_head_dim times num_attention_heads, {width}");
            return Err(f.unsupported("cross_attention_dim", &wanted));
        }
        f.check_fours(&[
            ("in_channels", config.in_channels),
            ("out_channels", config.out_channels),
            ("caption_channels", config.caption_channels),
        ])?;
        if config.cross_attention_head_dim > MAX_HEAD {
            return Err(f.unsupported("cross_attention_head_dim", &format!("at most {MAX_HEAD}")));
        }
        if config.cross_attention_head_dim * config.num_cross_attention_heads > MAX_WIDTH {
            let supported = format!("heads of at most {MAX_WIDTH} channels");
            return Err(f.unsupported("num_cross_attention_heads", &supported));
        }
        if config.patch_size > 8 {
            return Err(f.unsupported("patch_size", "1 to 8"));
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

    fn parse(json: &str) -> Result<SanaConfig> {
        SanaConfig::from_json(json.as_bytes(), "transformer/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse("{}").unwrap();
        assert_eq!((config.width(), config.num_layers, config.in_channels), (2240, 20, 32));
        assert_eq!((config.out_channels, config.hidden, config.caption_channels), (32, 5600, 2304));
        assert_eq!((config.qk_norm, config.guidance_embeds_scale), (false, None));
        let sprint = r#"{"_class_name": "SanaTransformer2DModel", "num_layers": 28, "num_attention_heads": 36,
            "cross_attention_dim": 1152, "cross_attention_head_dim": 72, "num_cross_attention_heads": 16,
            "qk_norm": "rms_norm_across_heads", "guidance_embeds": true, "out_channels": null}"#;
        let config = parse(sprint).unwrap();
        assert_eq!((config.width(), config.hidden, config.out_channels), (1152, 2880, 32));
        assert_eq!((config.qk_norm, config.guidance_embeds_scale), (true, Some(0.1)));
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        let cases: [(&str, Code, &str); 12] = [
            (r#"{"_class_name": "FluxTransformer2DModel"}"#, Unsupported, "_class_name"),
            (r#"{"qk_norm": "layer_norm"}"#, Unsupported, "qk_norm"),
            (r#"{"attention_head_dim": 6, "cross_attention_dim": 420}"#, Unsupported, "attention_head_dim"),
            (r#"{"cross_attention_dim": 64}"#, Unsupported, "cross_attention_dim"),
            (r#"{"cross_attention_head_dim": 520}"#, Unsupported, "cross_attention_head_dim"),
            (r#"{"num_attention_heads": 1000000}"#, Unsupported, "num_attention_heads"),
            (r#"{"num_cross_attention_heads": 1000000}"#, Unsupported, "num_cross_attention_heads"),
            (r#"{"interpolation_scale": 1.0}"#, Unsupported, "interpolation_scale"),
            (r#"{"norm_elementwise_affine": true}"#, Unsupported, "norm_elementwise_affine"),
            (r#"{"mlp_ratio": 0}"#, InvalidModel, "mlp_ratio"),
            (r#"{"mlp_ratio": 1e9}"#, Unsupported, "mlp_ratio"),
            (r#"{"patch_size": 16}"#, Unsupported, "patch_size"),
        ];
        for (json, code, key) in cases {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
