//! What every part of a pipeline needs while it loads.

use super::{Budget, Savings};
use crate::error::{Error, Result};
use crate::quant::Format;
use crate::weights::Folder;

#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How linear and convolution weights are stored on the device.
    pub weights: Format,
    /// The largest of f16, q8 and q4 that fit the budget are taken in place of `weights`.
    pub auto: bool,
    /// Of the device's memory; by default there is no limit that is known.
    pub budget: Option<Budget>,
    /// Width and height of the images that the budget is for; by default the model's own.
    pub size: Option<[usize; 2]>,
    /// Weight format of the autoencoder; by default what [`Format::of_autoencoder`] makes of `weights`. Never q4.
    pub decoder: Option<Format>,
    /// "auto", "f32", "f16" or "pack16".
    pub activations: String,
    /// Whether the autoencoder's encoder is loaded too: for requests with an image.
    pub encoder: bool,
    /// What is given up in any case; a budget may ask for more.
    pub savings: Savings,
}

impl LoadOptions {
    /// From the words of a caller: weights "auto", "f32", "f16", "q8" or "q4".
    pub fn parse(weights: &str, activations: &str) -> Result<LoadOptions> {
        let auto = weights == "auto";
        let weights =
            Format::ALL.into_iter().find(|f| f.as_str() == if auto { "f16" } else { weights }).ok_or_else(
                || Error::option(format!("weights: wanted auto, f32, f16, q8 or q4, found {weights:?}")),
            )?;
        Ok(LoadOptions {
            weights,
            auto,
            budget: None,
            size: None,
            decoder: None,
            activations: activations.to_owned(),
            encoder: false,
            savings: Savings::default(),
        })
    }

    /// What a caller asks for the autoencoder: "f32", "f16" or "q8".
    pub fn decoder(weights: Option<&str>) -> Result<Option<Format>> {
        let Some(weights) = weights else { return Ok(None) };
        let formats = [Format::F32, Format::F16, Format::Q8];
        let format = formats.into_iter().find(|f| f.as_str() == weights).ok_or_else(|| {
            Error::option(format!("decoderWeights: wanted f32, f16 or q8, found {weights:?}"))
        })?;
        Ok(Some(format))
    }
}

/// A small file that must be there.
pub async fn read_json(folder: &dyn Folder, path: &str) -> Result<Vec<u8>> {
    if let Some(json) = folder.read(path).await? {
        return Ok(json);
    }
    // TAEF2 is published as its two files alone.
    let taef2 = path.strip_suffix("config.json").map(|place| format!("{place}{}", TAEF2_FILES[0]));
    if let Some(taef2) = taef2
        && folder.open(&taef2).await?.is_some()
    {
        return Ok(br#"{"_class_name": "TAEF2"}"#.to_vec());
    }
    Err(Error::not_found(format!(
        "{} has no {path}: not a model folder in the diffusers layout?",
        folder.describe()
    )))
}

/// TAEF2's decoder and its encoder.
pub(super) const TAEF2_FILES: [&str; 2] = ["taef2_decoder.safetensors", "taef2_encoder.safetensors"];
