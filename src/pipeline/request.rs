//! What a caller asks for and gets.

use serde::Serialize;

use crate::error::{Error, Result};

/// The longest side of a picture, in pixels; the GPU's limits come earlier on most devices.
const MAX_SIDE: usize = 8192;

#[derive(Clone, Debug)]
pub struct Request {
    /// One picture each.
    pub prompts: Vec<String>,
    pub negative_prompt: String,
    pub seeds: Seeds,
    /// Denoising steps; by default what suits the scheduler ([`crate::schedule::Config::default_steps`]).
    pub steps: Option<usize>,
    /// Width and height in pixels, multiples of the autoencoder's factor (8).
    pub size: Option<[usize; 2]>,
    /// Classifier-free guidance, active above 1; by default off, as distilled models want it.
    pub guidance: Option<f64>,
    /// "euler", "lcm" or a diffusers class; by default the model's own.
    pub scheduler: Option<String>,
}

/// Seeds of torch's CPU generator; the low 32 bits count.
#[derive(Clone, Debug)]
pub enum Seeds {
    /// One generator draws for the whole batch.
    One(u64),
    /// Each picture has its own.
    Each(Vec<u64>),
}

impl Seeds {
    pub fn all(&self) -> &[u64] {
        match self {
            Seeds::One(seed) => std::slice::from_ref(seed),
            Seeds::Each(seeds) => seeds,
        }
    }
}

impl Request {
    /// One picture, everything else by default.
    pub fn new(prompt: &str, seed: u64) -> Request {
        Request {
            prompts: vec![prompt.to_owned()],
            negative_prompt: String::new(),
            seeds: Seeds::One(seed),
            steps: None,
            size: None,
            guidance: None,
            scheduler: None,
        }
    }

    /// Width and height, checked.
    pub fn size(&self, default: usize, factor: usize) -> Result<[usize; 2]> {
        let size = self.size.unwrap_or([default, default]);
        for (name, side) in ["width", "height"].iter().zip(size) {
            if side == 0 || !side.is_multiple_of(factor.max(8)) || side > MAX_SIDE {
                return Err(Error::option(format!(
                    "{name}: wanted a multiple of {} from {} to {MAX_SIDE}, found {side}",
                    factor.max(8),
                    factor.max(8)
                )));
            }
        }
        Ok(size)
    }

    pub fn images(&self) -> Result<usize> {
        let images = self.prompts.len();
        if images == 0 {
            return Err(Error::option("prompts: wanted at least one, found none"));
        }
        match &self.seeds {
            Seeds::Each(seeds) if seeds.len() != images => Err(Error::option(format!(
                "seeds: wanted one for each of {images} prompts, found {}",
                seeds.len()
            ))),
            _ => Ok(images),
        }
    }

    pub fn guidance(&self) -> Result<f32> {
        let guidance = self.guidance.unwrap_or(1.0);
        if !(0.0..=100.0).contains(&guidance) {
            return Err(Error::option(format!("guidance: wanted a number from 0 to 100, found {guidance}")));
        }
        Ok(guidance as f32)
    }
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// Four bytes a pixel, row after row, opaque.
    pub rgba: Vec<u8>,
}

/// What a run made.
#[derive(Clone, Debug)]
pub struct Report {
    pub images: Vec<Image>,
    /// Sentences about what was left out, such as the end of an overlong prompt.
    pub warnings: Vec<String>,
    pub steps: usize,
    pub timings: Timings,
}

/// Seconds by stage.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timings {
    pub text: f64,
    pub denoise: f64,
    pub decode: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Text,
    Step { step: usize, steps: usize },
    Decode,
}
