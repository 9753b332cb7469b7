//! The published configurations whose shapes are measured by name.

use super::Setting;
use crate::error::Result;
use crate::pipeline;
use crate::pipeline::Plans;
use crate::weights::MemoryFolder;

macro_rules! files {
    ($($path:literal),*) => { &[$(($path, include_str!(concat!("models/", $path)))),*] };
}

const FILES: &[(&str, &str)] = files![
    "sd-turbo/text_encoder/config.json",
    "sd-turbo/unet/config.json",
    "sd-turbo/vae/config.json",
    "sd15/text_encoder/config.json",
    "sd15/unet/config.json",
    "sd15/vae/config.json",
    "sdxl/text_encoder_2/config.json",
    "sdxl/unet/config.json",
    "taesd/vae/config.json"
];

/// Names of models: Stable Diffusion Turbo and 1.5, what SDXL has that they do not have, and the tiny autoencoder.
pub const MODELS: [&str; 4] = ["sd-turbo", "sd15", "sdxl", "taesd"];

/// The plans of a model of this name for an image of `size` (width, height), or nothing.
pub async fn plans(model: &str, setting: &Setting, size: [usize; 2]) -> Result<Option<Plans>> {
    let target = setting.device.target(&setting.load.activations)?;
    let format = setting.load.weights;
    match MODELS.contains(&model) {
        true => pipeline::plans(&folder(model), format, &target, size).await.map(Some),
        false => Ok(None),
    }
}

fn folder(model: &str) -> MemoryFolder {
    let mut folder = MemoryFolder::new();
    for (path, text) in FILES {
        if let Some(path) = path.strip_prefix(model).and_then(|path| path.strip_prefix('/')) {
            folder.insert(path, text.as_bytes());
        }
    }
    folder
}
