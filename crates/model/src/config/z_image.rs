//! `transformer/config.json`: diffusers' `ZImageTransformer2DModel`.

use serde_json::{Value, json};

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// The denoiser of Z-Image. Heads are multiples of 4 channels.
#[derive(Clone, Debug, PartialEq)]
pub struct ZImageConfig {
    /// Of the latents, whose squares of 2x2 are tokens.
    pub in_channels: usize,
    /// Channels of a token on its way.
    pub dim: usize,
    /// Inner width of the feed-forward layers.
    pub inner_dim: usize,
    pub n_layers: usize,
    pub n_refiner_layers: usize,
    pub n_heads: usize,
    pub norm_eps: f32,
    /// Width of the text's states.
    pub cap_feat_dim: usize,
    pub rope_theta: f64,
    /// What times from 0 to 1 are multiplied by.
    pub t_scale: f32,
    /// Channels of a head that are turned by the place in the text, the row and the column of a token.
    pub axes_dims: [usize; 3],
}

impl ZImageConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("ZImageTransformer2DModel")?;
        f.only("all_patch_size", json!([2]))?;
        f.only("all_f_patch_size", json!([1]))?;
        f.only("qk_norm", json!(true))?;
        f.only("siglip_feat_dim", Value::Null)?;
        let (dim, n_heads) = (f.count("dim", 3840)?, f.count("n_heads", 30)?);
        f.only("n_kv_heads", json!(n_heads))?;
        if dim % n_heads != 0 {
            return Err(f.wrong("dim", &format!("a multiple of n_heads, {n_heads}")));
        }
        let head = dim / n_heads;
        // diffusers' way to round.
        let inner_dim = (dim as f64 / 3.0 * 8.0) as usize;
        if head > MAX_HEAD || !head.is_multiple_of(4) || !inner_dim.is_multiple_of(4) {
            let supported = format!(
                "one whose heads are a multiple of 4, at most {MAX_HEAD}, and of which 8/3 are a multiple of 4"
            );
            return Err(f.unsupported("dim", &supported));
        }
        let config = ZImageConfig {
            in_channels: f.count("in_channels", 16)?,
            dim,
            inner_dim,
            n_layers: f.count("n_layers", 30)?,
            n_refiner_layers: f.count("n_refiner_layers", 2)?,
            n_heads,
            norm_eps: f.positive("norm_eps", 1e-5)?,
            cap_feat_dim: f.count("cap_feat_dim", 2560)?,
            rope_theta: f64::from(f.positive("rope_theta", 256.0)?),
            t_scale: f.positive("t_scale", 1000.0)?,
            axes_dims: f.axes("axes_dims", [32, 48, 48], head)?,
        };
        f.check_depth(
            "n_layers and n_refiner_layers",
            config.n_layers.saturating_add(2 * config.n_refiner_layers),
        )?;
        f.check_fours(&[("in_channels", config.in_channels), ("cap_feat_dim", config.cap_feat_dim)])?;
        Ok(config)
    }

    /// Channels of a head.
    pub fn head(&self) -> usize {
        self.dim / self.n_heads
    }

    /// Width of what blocks are told of a timestep.
    pub fn time_dim(&self) -> usize {
        self.dim.min(256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{InvalidModel, Unsupported};

    fn parse(json: &str) -> Result<ZImageConfig> {
        ZImageConfig::from_json(json.as_bytes(), "transformer/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config =
            parse(r#"{"_class_name": "ZImageTransformer2DModel", "siglip_feat_dim": null}"#).unwrap();
        assert_eq!((config.dim, config.head(), config.inner_dim), (3840, 128, 10_240));
        assert_eq!((config.n_layers, config.n_refiner_layers, config.time_dim()), (30, 2, 256));
        assert_eq!((config.in_channels, config.cap_feat_dim), (16, 2560));
        assert_eq!((config.norm_eps, config.rope_theta, config.t_scale), (1e-5, 256.0, 1000.0));
        assert_eq!(config.axes_dims, [32, 48, 48]);
        let small = r#"{"dim": 60, "n_heads": 3, "n_kv_heads": 3, "axes_dims": [8, 4, 8]}"#;
        let small = parse(small).unwrap();
        assert_eq!((small.head(), small.inner_dim, small.time_dim()), (20, 160, 60));
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        for (json, code, key) in [
            (r#"{"_class_name": "FluxTransformer2DModel"}"#, Unsupported, "_class_name"),
            (r#"{"all_patch_size": [2, 4]}"#, Unsupported, "all_patch_size"),
            (r#"{"all_f_patch_size": [2]}"#, Unsupported, "all_f_patch_size"),
            (r#"{"qk_norm": false}"#, Unsupported, "qk_norm"),
            (r#"{"siglip_feat_dim": 1152}"#, Unsupported, "siglip_feat_dim"),
            (r#"{"n_kv_heads": 10}"#, Unsupported, "n_kv_heads"),
            (r#"{"dim": 3841}"#, InvalidModel, "dim"),
            (r#"{"dim": 3900}"#, Unsupported, "dim"),
            (r#"{"dim": 64, "n_heads": 2, "n_kv_heads": 2}"#, Unsupported, "dim"),
            (r#"{"dim": 3840, "n_heads": 6, "n_kv_heads": 6}"#, Unsupported, "dim"),
            (r#"{"axes_dims": [32, 48]}"#, InvalidModel, "axes_dims"),
            (r#"{"t_scale": 0}"#, InvalidModel, "t_scale"),
            (r#"{"in_channels": 6}"#, Unsupported, "in_channels"),
            (r#"{"cap_feat_dim": 6}"#, Unsupported, "cap_feat_dim"),
            (r#"{"n_layers": 1000000}"#, Unsupported, "n_layers and n_refiner_layers"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(error.message.contains(key), "{json}: {error}");
        }
    }
}
