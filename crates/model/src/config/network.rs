//! Which network a `config.json` describes.

use std::rc::Rc;

use serde_json::Value;

use super::fields::Fields;
use super::{ClipVisionConfig, ControlNetConfig, T2iAdapterConfig, VaeConfig};
use crate::denoiser::{self, DenoiserConfig};
use crate::error::{Error, Result};
use crate::text::{self, TextConfig};

/// From the bytes of a `config.json` and its name in messages.
pub type Reader<T> = fn(&[u8], &str) -> Result<Rc<T>>;

/// A network that stands alone or is a part of a model.
#[derive(Clone, Debug)]
pub enum NetworkConfig {
    Text(Rc<dyn TextConfig>),
    Denoiser(Rc<dyn DenoiserConfig>),
    Vae(VaeConfig),
    ControlNet(ControlNetConfig),
    T2iAdapter(T2iAdapterConfig),
    ImageEncoder(ClipVisionConfig),
    SafetyChecker(ClipVisionConfig),
}

/// Networks that are neither text encoders nor denoisers: their classes, and how their files are read.
type Other = (&'static [&'static str], fn(&[u8], &str) -> Result<NetworkConfig>);
static OTHERS: [Other; 5] = [
    (&["AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderTiny", "AutoencoderDC", "TAEF2"], |bytes, file| {
        Ok(NetworkConfig::Vae(VaeConfig::from_json(bytes, file)?))
    }),
    (&["ControlNetModel"], |bytes, file| {
        Ok(NetworkConfig::ControlNet(ControlNetConfig::from_json(bytes, file)?))
    }),
    (&["T2IAdapter"], |bytes, file| Ok(NetworkConfig::T2iAdapter(T2iAdapterConfig::from_json(bytes, file)?))),
    (&["CLIPVisionModelWithProjection", "clip_vision_model"], |bytes, file| {
        Ok(NetworkConfig::ImageEncoder(ClipVisionConfig::from_json(bytes, file)?))
    }),
    (&["StableDiffusionSafetyChecker"], |bytes, file| {
        Ok(NetworkConfig::SafetyChecker(ClipVisionConfig::of_safety_checker(bytes, file)?))
    }),
];

impl NetworkConfig {
    /// The class that a file names: `_class_name` of diffusers, the first of transformers' `architectures`, or else its
    /// `model_type`. Errors are `InvalidModel`.
    pub fn class(bytes: &[u8], file: &str) -> Result<Option<String>> {
        Ok(NetworkConfig::names(bytes, file)?.into_iter().next())
    }

    /// All of these that it has, in that order; or the usual one.
    fn named(bytes: &[u8], file: &str, usual: &str) -> Result<Vec<String>> {
        let names = NetworkConfig::names(bytes, file)?;
        Ok(if names.is_empty() { vec![usual.to_owned()] } else { names })
    }

    fn names(bytes: &[u8], file: &str) -> Result<Vec<String>> {
        let f = Fields::parse(bytes, file)?;
        let first = f.get("architectures").and_then(|list| list.get(0));
        let named = [f.get("_class_name"), first, f.get("model_type")];
        Ok(named.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The file of a class, or nothing if no such network is built. Errors are `InvalidModel` and `Unsupported`, as the
    /// module says.
    pub fn of_class(class: &str, bytes: &[u8], file: &str) -> Result<Option<NetworkConfig>> {
        if let Some(kind) = text::KINDS.iter().find(|kind| kind.classes.contains(&class)) {
            return Ok(Some(NetworkConfig::Text((kind.config)(bytes, file)?)));
        }
        if let Some(kind) = denoiser::KINDS.iter().find(|kind| kind.classes.contains(&class)) {
            return Ok(Some(NetworkConfig::Denoiser((kind.config)(bytes, file)?)));
        }
        let other = OTHERS.iter().find(|(classes, _)| classes.contains(&class));
        other.map(|(_, read)| read(bytes, file)).transpose()
    }

    /// The configuration of a text encoder; `usual` is its class where the file names none.
    ///
    /// Errors: `Unsupported` for a class that is not built, and those of the class.
    pub fn text(bytes: &[u8], file: &str, usual: &str) -> Result<Rc<dyn TextConfig>> {
        let named = NetworkConfig::named(bytes, file, usual)?;
        let known = text::KINDS.iter().find(|kind| named.iter().any(|name| kind.classes.contains(&&**name)));
        let Some(kind) = known else {
            let supported = text::KINDS.iter().flat_map(|kind| kind.classes);
            return Err(unknown(file, "text encoder", &named, supported));
        };
        (kind.config)(bytes, file)
    }

    /// The configuration of a denoiser; `usual` is its class where the file names none.
    ///
    /// Errors: `Unsupported` for a class that is not built, and those of the class.
    pub fn denoiser(bytes: &[u8], file: &str, usual: &str) -> Result<Rc<dyn DenoiserConfig>> {
        let named = NetworkConfig::named(bytes, file, usual)?;
        let Some(kind) = denoiser::KINDS.iter().find(|kind| kind.classes.contains(&&*named[0])) else {
            let supported = denoiser::KINDS.iter().flat_map(|kind| kind.classes);
            return Err(unknown(file, "denoiser", &named[..1], supported));
        };
        (kind.config)(bytes, file)
    }

    /// Of all networks that are built.
    pub fn classes() -> Vec<&'static str> {
        let text = text::KINDS.iter().flat_map(|kind| kind.classes);
        let denoisers = denoiser::KINDS.iter().flat_map(|kind| kind.classes);
        let others = OTHERS.iter().flat_map(|(classes, _)| *classes);
        text.chain(denoisers).chain(others).copied().collect()
    }

    /// The folder that such a network has in a model.
    pub fn folder(&self) -> &'static str {
        match self {
            NetworkConfig::Text(_) => "text_encoder",
            NetworkConfig::Denoiser(config) => config.folder(),
            NetworkConfig::Vae(_) => "vae",
            NetworkConfig::ControlNet(_) => "controlnet",
            NetworkConfig::T2iAdapter(_) => "adapter",
            NetworkConfig::ImageEncoder(_) => "image_encoder",
            NetworkConfig::SafetyChecker(_) => "safety_checker",
        }
    }
}

fn unknown<'a>(
    file: &str,
    what: &str,
    named: &[String],
    supported: impl Iterator<Item = &'a &'static str>,
) -> Error {
    let supported: Vec<&str> = supported.copied().collect();
    let (named, supported) = (named.join(", "), supported.join(", "));
    Error::unsupported(format!("{file}: the {what} is {named}, supported are {supported}"))
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
            ("BertModel", "{}", None),
        ] {
            assert_eq!(folder(class, json), wanted, "{class}");
        }
        // A network that is built in a form that is not.
        let strange = br#"{"act_fn": "mish"}"#;
        let e = NetworkConfig::of_class("UNet2DConditionModel", strange, "config.json").unwrap_err();
        assert_eq!(e.code, Unsupported);
    }

    #[test]
    fn text_encoders_and_denoisers_are_chosen_by_what_a_file_says() {
        let text = |json: &str| NetworkConfig::text(json.as_bytes(), "text/config.json", "CLIPTextModel");
        assert_eq!(text(r#"{"hidden_size": 64}"#).unwrap().sizes().hidden_size, 64);
        // Of classes that somebody derived, the type is known.
        assert!(text(r#"{"architectures": ["Mine"], "model_type": "clip_text_model"}"#).is_ok());
        assert_eq!(text(r#"{"architectures": ["Qwen3ForCausalLM"]}"#).unwrap().sizes().hidden_size, 4096);
        assert_eq!(text(r#"{"model_type": "gemma2"}"#).unwrap().sizes().hidden_size, 2304);
        let unet =
            |json: &str| NetworkConfig::denoiser(json.as_bytes(), "unet/config.json", "UNet2DConditionModel");
        assert_eq!(unet(r#"{"in_channels": 9}"#).unwrap().sizes().in_channels, 9);
        let refused = [
            text(r#"{"architectures": ["BertModel"], "model_type": "bert"}"#).unwrap_err(),
            unet(r#"{"_class_name": "HunyuanDiT2DModel"}"#).unwrap_err(),
        ];
        let words = [
            ["text/config.json", "BertModel", "CLIPTextModel"],
            ["unet/config.json", "HunyuanDiT2DModel", "UNet2DConditionModel"],
        ];
        for (error, words) in refused.into_iter().zip(words) {
            assert_eq!(error.code, Unsupported);
            assert!(words.iter().all(|word| error.message.contains(word)), "{error}");
        }
    }
}
