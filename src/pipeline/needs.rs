//! What a model needs of a device's memory, known from its configurations before any weights are read; and the
//! weights that fit.

use super::plans::{read, record};
use super::{LoadOptions, read_json};
use crate::error::{Code, Error, Result};
use crate::model::config::{ModelIndex, NetworkConfig};
use crate::plan::Target;
use crate::quant::Format;
use crate::weights::{Folder, Layout, join};

/// The networks of a model that are loaded, and the usual class of each.
const NETWORKS: [(&str, &str); 4] = [
    ("text_encoder", "CLIPTextModel"),
    ("text_encoder_2", "CLIPTextModelWithProjection"),
    ("unet", "UNet2DConditionModel"),
    ("vae", "AutoencoderKL"),
];

/// Memory that may be used, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub bytes: u64,
    /// What does not fit is refused. Otherwise this is a guess, and the smallest weights are tried.
    pub firm: bool,
}

/// Bytes that one picture takes, without guidance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub format: Option<Format>,
    /// On the device.
    pub weights: u64,
    /// Rows of tokens, beside the device: in the program's own memory.
    pub rows: u64,
    /// Of all networks together, each of which keeps its own.
    pub activations: u64,
    pub size: [usize; 2],
}

impl Needs {
    /// On the device.
    pub fn total(&self) -> u64 {
        self.weights + self.activations
    }
}

/// The configurations of a model's networks.
pub struct Survey {
    configs: Vec<(&'static str, Vec<u8>)>,
}

impl Survey {
    pub async fn of<F: Folder>(folder: &F, index: &ModelIndex) -> Result<Survey> {
        let mut configs = vec![];
        for (component, _) in NETWORKS {
            if index.class(component).is_some() {
                configs.push((component, read_json(folder, &join(component, "config.json")).await?));
            }
        }
        Ok(Survey { configs })
    }

    /// With networks stored as `format` and the autoencoder as `decoder`, at `size` (width, height) or the model's own.
    pub fn needs(
        &self,
        format: Format,
        decoder: Format,
        encoder: bool,
        target: &Target,
        size: Option<[usize; 2]>,
    ) -> Result<Needs> {
        let size = match size {
            Some(size) => size,
            None => self.size()?,
        };
        let mut needs = Needs { format: Some(format), size, ..Needs::default() };
        for (stored, of_autoencoder) in [(format, false), (decoder, true)] {
            for planned in record(self.networks()?, stored, target, size)? {
                if (planned.component == "vae") != of_autoencoder || (planned.name == "encoder" && !encoder) {
                    continue;
                }
                for spec in &planned.declarations.specs {
                    match spec.layout {
                        Layout::Table { .. } => needs.rows += spec.layout.bytes() as u64,
                        _ => needs.weights += spec.layout.bytes() as u64,
                    }
                }
                needs.activations += planned.plan.summary().peak_bytes;
            }
        }
        Ok(needs)
    }

    /// The best weights that fit a budget; the smallest if it is a guess and none do.
    pub fn fit(&self, options: &LoadOptions, target: &Target) -> Result<Needs> {
        let formats =
            if options.auto { &[Format::F16, Format::Q8, Format::Q4][..] } else { &[options.weights] };
        let Some(budget) = options.budget else {
            return Ok(Needs { format: Some(formats[0]), ..Needs::default() });
        };
        let mut least = None;
        for &format in formats {
            let decoder = options.decoder.unwrap_or(format.of_autoencoder());
            let needs = self.needs(format, decoder, options.encoder, target, options.size)?;
            if needs.total() <= budget.bytes {
                return Ok(needs);
            }
            least = Some(needs);
        }
        let least = least.expect("at least one format");
        if !budget.firm {
            return Ok(least);
        }
        let [weights, activations, allowed] =
            [least.weights, least.activations, budget.bytes].map(|bytes| bytes.div_ceil(1_000_000));
        let [width, height] = least.size;
        Err(Error::new(
            Code::LimitTooLow,
            format!(
                "the model needs {weights} MB for weights of {} and {activations} MB for a picture of {width}x{height}, \
                 memory allows {allowed} MB",
                least.format.map_or("", Format::as_str)
            ),
        ))
    }

    pub(super) fn networks(&self) -> Result<Vec<(&'static str, NetworkConfig)>> {
        let mut found = vec![];
        for (component, json) in &self.configs {
            let path = join(component, "config.json");
            let usual = NETWORKS.iter().find(|(name, _)| name == component).map(|(_, class)| *class);
            // What is not built is refused by the loading, in its own words.
            if let Ok(config) = read(json, &path, usual)? {
                found.push((*component, config));
            }
        }
        Ok(found)
    }

    /// What the model was trained for.
    fn size(&self) -> Result<[usize; 2]> {
        let (mut cells, mut pixels) = (64, 8);
        for (_, config) in self.networks()? {
            match config {
                NetworkConfig::Unet(unet) => cells = unet.sample_size.unwrap_or(cells),
                NetworkConfig::Vae(vae) => pixels = vae.spatial_factor(),
                _ => {}
            }
        }
        Ok([cells * pixels; 2])
    }
}
