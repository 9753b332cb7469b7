//! `transformer/config.json`: diffusers' `PixArtTransformer2DModel`, which older files call `Transformer2DModel`.

use serde_json::{Value, json};

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// The denoiser of PixArt-alpha and PixArt-Sigma.
#[derive(Clone, Debug, PartialEq)]
pub struct PixArtConfig {
    /// Side of the latent it was trained for.
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
    /// Width of the text's states.
    pub caption_channels: usize,
    /// What the places of patches are divided by.
    pub interpolation_scale: f32,
    /// It is told the size of the image and its aspect ratio (PixArt-alpha).
    pub use_additional_conditions: bool,
}

impl PixArtConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says. `upcast_attention` changes nothing (attention is f32
    /// anyway).
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.one_of("_class_name", &["PixArtTransformer2DModel", "Transformer2DModel"])?;
        f.only("norm_type", json!("ada_norm_single"))?;
        f.only("activation_fn", json!("gelu-approximate"))?;
        f.only("attention_type", json!("default"))?;
        f.only("norm_elementwise_affine", json!(false))?;
        f.only("norm_eps", json!(1e-6))?;
        let sample_size = f.count("sample_size", 128)?;
        let in_channels = f.count("in_channels", 4)?;
        let given = |key: &str| f.get(key).is_some_and(|value| !value.is_null());
        let config = PixArtConfig {
            sample_size,
            patch_size: f.count("patch_size", 2)?,
            in_channels,
            out_channels: match f.get("out_channels") {
                Some(Value::Null) => in_channels,
                _ => f.count("out_channels", 8)?,
            },
            num_layers: f.count("num_layers", 28)?,
            attention_head_dim: f.count("attention_head_dim", 72)?,
            num_attention_heads: f.count("num_attention_heads", 16)?,
            attention_bias: f.bool("attention_bias", true)?,
            caption_channels: match f.optional_count("caption_channels")? {
                Some(channels) => channels,
                None => return Err(f.unsupported("caption_channels", "the width of a text encoder's states")),
            },
            interpolation_scale: match given("interpolation_scale") {
                true => f.positive("interpolation_scale", 1.0)?,
                false => (sample_size / 64).max(1) as f32,
            },
            use_additional_conditions: match given("use_additional_conditions") {
                true => f.bool("use_additional_conditions", false)?,
                false => sample_size == 128,
            },
        };
        f.check_depth("num_layers", config.num_layers)?;
        if config.attention_head_dim > MAX_HEAD {
            return Err(f.unsupported("attention_head_dim", &format!("at most {MAX_HEAD}")));
        }
        let width = config.width();
        // Three embeddings side by side, of a multiple of four channels each.
        let multiple = if config.use_additional_conditions { 12 } else { 4 };
        if !width.is_multiple_of(multiple) {
            let supported = format!("heads of a multiple of {multiple} channels in all");
            return Err(f.unsupported("num_attention_heads", &supported));
        }
        if f.optional_count("cross_attention_dim")?.is_some_and(|given| given != width) {
            let wanted = format!("attention_head_dim times num_attention_heads, {width}");
            return Err(f.unsupported("cross_attention_dim", &wanted));
        }
        f.check_fours(&[("in_channels", in_channels), ("caption_channels", config.caption_channels)])?;
        if ![in_channels, 2 * in_channels].contains(&config.out_channels) {
            return Err(f.unsupported("out_channels", "in_channels, or twice as many"));
        }
        if config.patch_size > 8 || config.patch_size > sample_size {
            return Err(f.unsupported("patch_size", "1 to 8, and at most sample_size"));
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

    fn parse(json: &str) -> Result<PixArtConfig> {
        PixArtConfig::from_json(json.as_bytes(), "transformer/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse(r#"{"_class_name": "Transformer2DModel", "caption_channels": 4096}"#).unwrap();
        assert_eq!((config.width(), config.num_layers, config.patch_size), (1152, 28, 2));
        assert_eq!((config.in_channels, config.out_channels, config.attention_bias), (4, 8, true));
        assert_eq!((config.interpolation_scale, config.use_additional_conditions), (2.0, true));
        let small = r#"{"caption_channels": 4096, "sample_size": 32, "out_channels": null,
            "interpolation_scale": null, "use_additional_conditions": null}"#;
        let config = parse(small).unwrap();
        assert_eq!((config.interpolation_scale, config.use_additional_conditions), (1.0, false));
        assert_eq!(config.out_channels, 4);
        let sigma =
            r#"{"caption_channels": 4096, "interpolation_scale": 4, "use_additional_conditions": false}"#;
        let config = parse(sigma).unwrap();
        assert_eq!((config.interpolation_scale, config.use_additional_conditions), (4.0, false));
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        let cases: [(&str, Code, &str); 14] = [
            (r#""_class_name": "SanaTransformer2DModel""#, Unsupported, "_class_name"),
            (r#""norm_type": "ada_norm_zero""#, Unsupported, "norm_type"),
            (r#""activation_fn": "geglu""#, Unsupported, "activation_fn"),
            (r#""attention_type": "gated""#, Unsupported, "attention_type"),
            (r#""norm_elementwise_affine": true"#, Unsupported, "norm_elementwise_affine"),
            (r#""norm_eps": 1e-5"#, Unsupported, "norm_eps"),
            (r#""attention_head_dim": 520"#, Unsupported, "attention_head_dim"),
            (r#""num_attention_heads": 1"#, Unsupported, "cross_attention_dim"),
            (r#""attention_head_dim": 5, "cross_attention_dim": null"#, Unsupported, "num_attention_heads"),
            (r#""out_channels": 12"#, Unsupported, "out_channels"),
            (r#""in_channels": 6"#, Unsupported, "in_channels"),
            (r#""patch_size": 16"#, Unsupported, "patch_size"),
            (r#""interpolation_scale": 0"#, InvalidModel, "interpolation_scale"),
            (r#""num_layers": 100000"#, Unsupported, "num_layers"),
        ];
        for (json, code, key) in cases {
            let json = format!(r#"{{"caption_channels": 80, "cross_attention_dim": 1152, {json}}}"#);
            let error = parse(&json).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
        assert!(parse("{}").unwrap_err().message.contains("caption_channels"));
    }
}
