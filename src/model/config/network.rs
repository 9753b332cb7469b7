//! Which network a `config.json` describes.

use serde_json::Value;

use super::fields::Fields;
use super::{ClipTextConfig, ClipVisionConfig, ControlNetConfig, T2iAdapterConfig, UnetConfig, VaeConfig};
use crate::error::Result;

/// A network that stands alone or is a part of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkConfig {
    Text(ClipTextConfig),
    Unet(UnetConfig),
    Vae(VaeConfig),
    ControlNet(ControlNetConfig),
    T2iAdapter(T2iAdapterConfig),
    ImageEncoder(ClipVisionConfig),
    SafetyChecker(ClipVisionConfig),
}

impl NetworkConfig {
    /// The class that a file names: `_class_name` of diffusers, the first of transformers' `architectures`, or else its
    /// `model_type`. Errors are `InvalidModel`.
    pub fn class(bytes: &[u8], file: &str) -> Result<Option<String>> {
        let f = Fields::parse(bytes, file)?;
        let first = f.get("architectures").and_then(|list| list.get(0));
        let named = [f.get("_class_name"), first, f.get("model_type")];
        Ok(named.into_iter().flatten().find_map(Value::as_str).map(str::to_owned))
    }

    /// The file of a class, or nothing if no such network is built. Errors are `InvalidModel` and `Unsupported`, as the
    /// module says.
    pub fn of_class(class: &str, bytes: &[u8], file: &str) -> Result<Option<NetworkConfig>> {
        Ok(Some(match class {
            "CLIPTextModel" | "CLIPTextModelWithProjection" | "clip_text_model" => {
                NetworkConfig::Text(ClipTextConfig::from_json(bytes, file)?)
            }
            "UNet2DConditionModel" => NetworkConfig::Unet(UnetConfig::from_json(bytes, file)?),
            "AutoencoderKL" | "AutoencoderTiny" => NetworkConfig::Vae(VaeConfig::from_json(bytes, file)?),
            "ControlNetModel" => NetworkConfig::ControlNet(ControlNetConfig::from_json(bytes, file)?),
            "T2IAdapter" => NetworkConfig::T2iAdapter(T2iAdapterConfig::from_json(bytes, file)?),
            "CLIPVisionModelWithProjection" | "clip_vision_model" => {
                NetworkConfig::ImageEncoder(ClipVisionConfig::from_json(bytes, file)?)
            }
            "StableDiffusionSafetyChecker" => {
                NetworkConfig::SafetyChecker(ClipVisionConfig::of_safety_checker(bytes, file)?)
            }
            _ => return Ok(None),
        }))
    }

    /// The folder that such a network has in a model.
    pub fn folder(&self) -> &'static str {
        match self {
            NetworkConfig::Text(_) => "text_encoder",
            NetworkConfig::Unet(_) => "unet",
            NetworkConfig::Vae(_) => "vae",
            NetworkConfig::ControlNet(_) => "controlnet",
            NetworkConfig::T2iAdapter(_) => "adapter",
            NetworkConfig::ImageEncoder(_) => "image_encoder",
            NetworkConfig::SafetyChecker(_) => "safety_checker",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{InvalidModel, Unsupported};

    fn class(json: &str) -> Option<String> {
        NetworkConfig::class(json.as_bytes(), "config.json").unwrap()
    }

    #[test]
    fn the_class_is_found_where_each_library_writes_it() {
        let named = class(r#"{"_class_name": "AutoencoderKL", "model_type": "x"}"#);
        assert_eq!(named.as_deref(), Some("AutoencoderKL"));
        let named =
            class(r#"{"architectures": ["CLIPTextModel", "Other"], "model_type": "clip_text_model"}"#);
        assert_eq!(named.as_deref(), Some("CLIPTextModel"));
        assert_eq!(class(r#"{"architectures": null, "model_type": "t5"}"#).as_deref(), Some("t5"));
        assert_eq!(class(r#"{"in_channels": 4}"#), None);
        assert_eq!(NetworkConfig::class(b"[]", "config.json").unwrap_err().code, InvalidModel);
    }

    #[test]
    fn every_network_is_read_by_its_class() {
        let folder = |class: &str, json: &str| {
            NetworkConfig::of_class(class, json.as_bytes(), "config.json").unwrap().map(|n| n.folder())
        };
        for (class, json, wanted) in [
            ("CLIPTextModelWithProjection", "{}", Some("text_encoder")),
            ("UNet2DConditionModel", "{}", Some("unet")),
            ("AutoencoderTiny", r#"{"_class_name": "AutoencoderTiny"}"#, Some("vae")),
            ("ControlNetModel", "{}", Some("controlnet")),
            ("T2IAdapter", "{}", Some("adapter")),
            ("clip_vision_model", "{}", Some("image_encoder")),
            ("StableDiffusionSafetyChecker", r#"{"vision_config": {}}"#, Some("safety_checker")),
            ("T5EncoderModel", "{}", None),
        ] {
            assert_eq!(folder(class, json), wanted, "{class}");
        }
        // A network that is built in a form that is not.
        let strange = br#"{"act_fn": "mish"}"#;
        let e = NetworkConfig::of_class("UNet2DConditionModel", strange, "config.json").unwrap_err();
        assert_eq!(e.code, Unsupported);
    }
}
