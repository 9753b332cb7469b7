//! CLIP's image encoders: `image_encoder/config.json` of an IP-Adapter, `safety_checker/config.json`, and the
//! `preprocessor_config.json` beside them.

use serde_json::Value;

use super::clip::{Activation, check_sizes};
use super::fields::Fields;
use crate::error::Result;

/// transformers' `CLIPVisionConfig`. Widths are multiples of 4; `hidden_size` is one of
/// `num_attention_heads`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipVisionConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Height and width of the image.
    pub image_size: usize,
    pub patch_size: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f32,
    /// Width of `image_embeds`.
    pub projection_dim: usize,
}

impl ClipVisionConfig {
    /// Of a `CLIPVisionModelWithProjection`. Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        let projection_dim = f.count("projection_dim", 512)?;
        Self::read(&f, projection_dim)
    }

    /// Of diffusers' `StableDiffusionSafetyChecker`, whose file describes both halves of a CLIP model.
    pub fn of_safety_checker(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.only("model_type", "clip".into())?;
        let vision = format!("{file}: vision_config");
        Self::read(&f.object("vision_config", &vision)?, f.count("projection_dim", 512)?)
    }

    fn read(f: &Fields, projection_dim: usize) -> Result<Self> {
        f.only("model_type", "clip_vision_model".into())?;
        f.only("num_channels", 3.into())?;
        let config = ClipVisionConfig {
            hidden_size: f.count("hidden_size", 768)?,
            intermediate_size: f.count("intermediate_size", 3072)?,
            num_hidden_layers: f.count("num_hidden_layers", 12)?,
            num_attention_heads: f.count("num_attention_heads", 12)?,
            image_size: f.count("image_size", 224)?,
            patch_size: f.count("patch_size", 32)?,
            hidden_act: Activation::read(f)?,
            layer_norm_eps: f.positive("layer_norm_eps", 1e-5)?,
            projection_dim,
        };
        f.check_depth("num_hidden_layers", config.num_hidden_layers)?;
        check_sizes(f, config.hidden_size, config.num_attention_heads, config.intermediate_size)?;
        if config.image_size > MAX_SIDE {
            return Err(f.unsupported("image_size", &format!("at most {MAX_SIDE}")));
        }
        if config.patch_size > config.image_size {
            return Err(f.wrong("patch_size", &format!("at most image_size, {}", config.image_size)));
        }
        Ok(config)
    }

    /// Patches along one side of the image; what is left over at the end is not looked at.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Values of one patch.
    pub fn patch_values(&self) -> usize {
        3 * self.patch_size.pow(2)
    }

    /// The class token and the patches.
    pub fn tokens(&self) -> usize {
        self.grid().pow(2) + 1
    }
}

/// The largest image of an encoder; those of CLIP have 224 to 448 pixels.
const MAX_SIDE: usize = 2048;

/// transformers' `CLIPImageProcessor`: shortest edge, bicubic; centre crop; `(v / 255 - mean) / std`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipImageConfig {
    pub shortest_edge: usize,
    /// Height and width of the middle that is kept.
    pub crop_size: usize,
    pub image_mean: [f32; 3],
    pub image_std: [f32; 3],
}

impl ClipImageConfig {
    /// What an encoder gets that comes without a file.
    pub fn of_size(size: usize) -> Self {
        ClipImageConfig {
            shortest_edge: size,
            crop_size: size,
            image_mean: [0.48145466, 0.4578275, 0.40821073],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }

    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.one_of(
            "image_processor_type",
            &["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"],
        )?;
        f.one_of("feature_extractor_type", &["CLIPFeatureExtractor", "CLIPImageProcessor"])?;
        for key in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
            f.only(key, true.into())?;
        }
        // Pillow's number for bicubic.
        f.only("resample", 3.into())?;
        f.only("rescale_factor", (1.0 / 255.0).into())?;
        let default = Self::of_size(224);
        let config = ClipImageConfig {
            shortest_edge: size(&f, "size", &["shortest_edge"], default.shortest_edge)?,
            crop_size: size(&f, "crop_size", &["height", "width"], default.crop_size)?,
            image_mean: channels(&f, "image_mean", default.image_mean)?,
            image_std: channels(&f, "image_std", default.image_std)?,
        };
        if config.shortest_edge > MAX_SIDE {
            return Err(f.unsupported("size", &format!("at most {MAX_SIDE}")));
        }
        if config.crop_size > config.shortest_edge {
            return Err(f.unsupported("crop_size", &format!("at most size, {}", config.shortest_edge)));
        }
        if config.image_std.iter().any(|&s| s <= 0.0) {
            return Err(f.wrong("image_std", "numbers larger than 0"));
        }
        Ok(config)
    }
}

/// One number, as older files have it, or an object with the same number under each of `names`.
fn size(f: &Fields, key: &str, names: &[&str], default: usize) -> Result<usize> {
    match f.get(key) {
        Some(Value::Object(map)) => {
            let sizes: Option<Vec<u64>> = names.iter().map(|&n| map.get(n)?.as_u64()).collect();
            match sizes.as_deref() {
                Some([first, rest @ ..]) if *first > 0 && rest.iter().all(|s| s == first) => {
                    Ok(*first as usize)
                }
                _ => Err(f.unsupported(key, &format!("one number for {}", names.join(" and ")))),
            }
        }
        _ => f.count(key, default),
    }
}

/// Three finite numbers.
fn channels(f: &Fields, key: &str, default: [f32; 3]) -> Result<[f32; 3]> {
    let Some(value) = f.get(key) else { return Ok(default) };
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let numbers: Vec<f32> = list.iter().filter_map(|v| Some(v.as_f64()? as f32)).collect();
    match numbers[..] {
        [r, g, b] if list.len() == 3 && numbers.iter().all(|v| v.is_finite()) => Ok([r, g, b]),
        _ => Err(f.wrong(key, "a list of three numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{self, InvalidModel, Unsupported};
    use crate::error::Error;

    fn vision(json: &str) -> Result<ClipVisionConfig> {
        ClipVisionConfig::from_json(json.as_bytes(), "a/config.json")
    }

    fn checker(json: &str) -> Result<ClipVisionConfig> {
        ClipVisionConfig::of_safety_checker(json.as_bytes(), "a/config.json")
    }

    fn image(json: &str) -> Result<ClipImageConfig> {
        ClipImageConfig::from_json(json.as_bytes(), "a/config.json")
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let wanted = ClipVisionConfig {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            projection_dim: 512,
        };
        assert_eq!(vision("{}").unwrap(), wanted);
        assert_eq!((wanted.grid(), wanted.tokens()), (7, 50));
        assert_eq!(image("{}").unwrap(), ClipImageConfig::of_size(224));
    }

    #[test]
    fn values_are_read() {
        let json = r#"{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 4, "image_size": 60, "patch_size": 14, "hidden_act": "gelu",
            "layer_norm_eps": 1e-6, "projection_dim": 24, "model_type": "clip_vision_model"}"#;
        let wanted = ClipVisionConfig {
            hidden_size: 32,
            intermediate_size: 64,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            image_size: 60,
            patch_size: 14,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-6,
            projection_dim: 24,
        };
        assert_eq!(vision(json).unwrap(), wanted);
        assert_eq!(wanted.tokens(), 17);
        // The checker's own width of the projection counts, not the one of its vision model.
        let both = format!(
            r#"{{"model_type": "clip", "projection_dim": 40, "vision_config": {json}, "text_config": 1}}"#
        );
        assert_eq!(checker(&both).unwrap(), ClipVisionConfig { projection_dim: 40, ..wanted });
    }

    #[test]
    fn a_preprocessor_of_either_age_is_read() {
        let new = r#"{"crop_size": {"height": 56, "width": 56}, "do_center_crop": true, "do_convert_rgb": true,
            "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.25, 0.125],
            "image_processor_type": "CLIPImageProcessor", "image_std": [0.5, 1, 2], "resample": 3,
            "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 60}}"#;
        let old = r#"{"crop_size": 56, "size": 60, "image_mean": [0.5, 0.25, 0.125], "image_std": [0.5, 1, 2],
            "feature_extractor_type": "CLIPFeatureExtractor"}"#;
        let wanted = ClipImageConfig {
            shortest_edge: 60,
            crop_size: 56,
            image_mean: [0.5, 0.25, 0.125],
            image_std: [0.5, 1.0, 2.0],
        };
        assert_eq!(image(new).unwrap(), wanted);
        assert_eq!(image(old).unwrap(), wanted);
    }

    #[test]
    fn refusals_name_file_key_and_value() {
        let cases: [(Error, Code, &[&str]); 14] = [
            (vision(r#"{"num_channels": 4}"#).unwrap_err(), Unsupported, &["num_channels", "4", "3"]),
            (
                vision(r#"{"model_type": "clip"}"#).unwrap_err(),
                Unsupported,
                &["model_type", "clip_vision_model"],
            ),
            (vision(r#"{"hidden_act": "relu"}"#).unwrap_err(), Unsupported, &["hidden_act", "relu", "gelu"]),
            (vision(r#"{"hidden_size": 770}"#).unwrap_err(), InvalidModel, &["hidden_size", "770", "12"]),
            (vision(r#"{"patch_size": 300}"#).unwrap_err(), InvalidModel, &["patch_size", "300", "224"]),
            (vision(r#"{"image_size": 4096}"#).unwrap_err(), Unsupported, &["image_size", "4096", "2048"]),
            (checker("{}").unwrap_err(), InvalidModel, &["vision_config", "an object"]),
            (
                checker(r#"{"vision_config": {"patch_size": 0}}"#).unwrap_err(),
                InvalidModel,
                &["vision_config: patch_size"],
            ),
            (image(r#"{"resample": 2}"#).unwrap_err(), Unsupported, &["resample", "2", "3"]),
            (image(r#"{"do_resize": false}"#).unwrap_err(), Unsupported, &["do_resize", "false"]),
            (
                image(r#"{"size": {"height": 8, "width": 8}}"#).unwrap_err(),
                Unsupported,
                &["size", "shortest_edge"],
            ),
            (
                image(r#"{"crop_size": {"height": 8, "width": 9}}"#).unwrap_err(),
                Unsupported,
                &["crop_size", "width"],
            ),
            (image(r#"{"crop_size": 225}"#).unwrap_err(), Unsupported, &["crop_size", "225", "224"]),
            (image(r#"{"image_std": [1, 0, 1]}"#).unwrap_err(), InvalidModel, &["image_std", "0"]),
        ];
        for (e, code, words) in cases {
            assert_eq!(e.code, code, "{e}");
            for word in words.iter().chain(&["a/config.json"]) {
                assert!(e.message.contains(word), "{word} is missing: {e}");
            }
        }
    }
}
