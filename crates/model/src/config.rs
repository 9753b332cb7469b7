//! What a `config.json` says, checked: after this a configuration is one that the runtime can run.
//!
//! Absent keys have the defaults of diffusers' and transformers' classes. Every key that changes the
//! mathematics is read; a value that is not built is `Unsupported` and the message names the file, the
//! key, the value and what is supported. A value of the wrong type, or one that contradicts another
//! one, is `InvalidModel`. Keys that the classes do not know are ignored, as diffusers does.

mod causal;
mod clip;
mod clip_vision;
mod controlnet;
mod dc_ae;
mod dit;
mod fields;
mod flux;
mod flux2;
mod gemma2;
mod ip_adapter;
mod network;
mod pixart;
mod qwen3;
mod sana;
mod sd3;
mod t2i_adapter;
mod t5;
mod text_time;
mod unet;
mod vae;
mod z_image;

use std::collections::BTreeMap;

use serde_json::Value;

pub use causal::CausalConfig;
pub use clip::{Activation, ClipTextConfig};
pub use clip_vision::{ClipImageConfig, ClipVisionConfig};
pub use controlnet::ControlNetConfig;
pub use dc_ae::{DcBlock, DcConfig, DcLevel};
pub use dit::DitConfig;
pub(super) use fields::Fields;
pub use flux::FluxConfig;
pub use flux2::Flux2Config;
pub use gemma2::Gemma2Config;
pub use ip_adapter::IpAdapterConfig;
pub use network::{NetworkConfig, Reader};
pub use pixart::PixArtConfig;
pub use qwen3::Qwen3Config;
pub use sana::SanaConfig;
pub use sd3::Sd3Config;
pub use t2i_adapter::{AdapterType, T2iAdapterConfig};
pub use t5::T5Config;
pub use text_time::TextTime;
pub use unet::UnetConfig;
pub use vae::{KlConfig, TinyConfig, VaeConfig};
pub use z_image::ZImageConfig;

use crate::error::Result;

/// `model_index.json`: the pipeline and its components.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelIndex {
    /// The pipeline's class, such as `StableDiffusionPipeline`.
    pub class_name: String,
    /// Library and class of each component; `None` where the model has none (`[null, null]`).
    pub components: BTreeMap<String, Option<(String, String)>>,
    /// Options of the pipeline that are true or false.
    pub flags: BTreeMap<String, bool>,
    /// How much of a guided prediction gets the spread of the prompt's own: 0 to 1, by default 0.
    pub guidance_rescale: f64,
    /// Names of labels with their numbers, of a pipeline that is told labels: one may have several.
    pub labels: Vec<(String, usize)>,
}

impl ModelIndex {
    /// Errors are `InvalidModel`: bad JSON, or no `_class_name`.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let fields = Fields::parse(bytes, file)?;
        let class_name = fields.string("_class_name", None)?;
        let (mut components, mut flags) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in fields.entries() {
            if let Value::Bool(flag) = value {
                flags.insert(name.clone(), *flag);
            }
            // Anything else (booleans, strings) is an option of the pipeline, not a component.
            match value.as_array().map(Vec::as_slice) {
                Some([Value::String(library), Value::String(class)]) => {
                    components.insert(name.clone(), Some((library.clone(), class.clone())));
                }
                Some([Value::Null, Value::Null]) => {
                    components.insert(name.clone(), None);
                }
                _ => {}
            }
        }
        let mut labels = vec![];
        if let Some(Value::Object(named)) = fields.get("id2label") {
            for (number, names) in named {
                let wanted = "numbers of labels with names";
                let (number, names) = number
                    .parse()
                    .ok()
                    .zip(names.as_str())
                    .ok_or_else(|| fields.wrong("id2label", wanted))?;
                labels.extend(names.split(',').map(|name| (name.trim().to_owned(), number)));
            }
        }
        let guidance_rescale = match fields.get("guidance_rescale") {
            None | Some(Value::Null) => 0.0,
            Some(value) => value
                .as_f64()
                .filter(|share| (0.0..=1.0).contains(share))
                .ok_or_else(|| fields.wrong("guidance_rescale", "a number from 0 to 1"))?,
        };
        Ok(ModelIndex { class_name, components, flags, guidance_rescale, labels })
    }

    /// An option of the pipeline.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.flags.get(name).copied().unwrap_or(default)
    }

    /// The class of a component that the model has.
    pub fn class(&self, component: &str) -> Option<&str> {
        self.components.get(component)?.as_ref().map(|(_, class)| class.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn model_index_keeps_components_and_ignores_options() {
        let json = br#"{"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.36.0",
            "requires_safety_checker": true, "safety_checker": [null, null],
            "unet": ["diffusers", "UNet2DConditionModel"], "force_zeros": [1, 2]}"#;
        let index = ModelIndex::from_json(json, "model_index.json").unwrap();
        assert_eq!(index.class_name, "StableDiffusionPipeline");
        assert_eq!(index.components.keys().collect::<Vec<_>>(), ["safety_checker", "unet"]);
        assert_eq!(index.components["safety_checker"], None);
        assert_eq!(index.class("unet"), Some("UNet2DConditionModel"));
        assert_eq!((index.class("safety_checker"), index.class("vae")), (None, None));
        assert_eq!(index.labels, []);
    }

    #[test]
    fn labels_have_several_names() {
        let json = br#"{"_class_name": "DiTPipeline", "id2label": {"0": "tench, Tinca tinca", "7": "cock"}}"#;
        let index = ModelIndex::from_json(json, "model_index.json").unwrap();
        let named = [("tench", 0), ("Tinca tinca", 0), ("cock", 7)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(index.labels, named);
    }

    #[test]
    fn model_index_refuses_what_is_none() {
        let labels = r#"{"_class_name": "DiTPipeline", "id2label": {"a": "tench"}}"#;
        for json in ["", "[]", "{}", r#"{"_class_name": 3}"#, labels] {
            let e = ModelIndex::from_json(json.as_bytes(), "model_index.json").unwrap_err();
            assert_eq!(e.code, Code::InvalidModel, "{json}");
            assert!(e.message.starts_with("model_index.json"), "{e}");
        }
    }
}
