//! The published configurations whose shapes are measured by name.

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
    "taesd/vae/config.json"
];

/// Names of models: Stable Diffusion Turbo and 1.5, and the tiny autoencoder.
pub const MODELS: [&str; 3] = ["sd-turbo", "sd15", "taesd"];

/// The configurations of a model of this name, or nothing.
pub fn folder(model: &str) -> Option<MemoryFolder> {
    MODELS.contains(&model).then(|| {
        let mut folder = MemoryFolder::new();
        for (path, text) in FILES {
            if let Some(("", path)) = path.split_once(model).map(|(a, b)| (a, b.trim_start_matches('/'))) {
                folder.insert(path, text.as_bytes());
            }
        }
        folder
    })
}
