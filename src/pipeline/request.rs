//! What a caller asks for and gets.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::host::Cancel;
use crate::image::Picture;
use crate::warning::Warning;

/// The longest side of an image, in pixels; the GPU's limits come earlier on most devices.
const MAX_SIDE: usize = 8192;

#[derive(Clone, Debug, Default)]
pub struct Request {
    /// One image each.
    pub prompts: Vec<String>,
    /// Whether prompts are read as [`crate::prompt`] says: brackets weigh words, and what is longer than the text encoder
    /// takes becomes several chunks. Otherwise every character is text, and what is too long is cut, as in diffusers. Syntax of other tools that is
    /// not run is a warning.
    pub weighted: bool,
    pub negative_prompt: String,
    /// For the second text encoder (SDXL, SD 3), instead of the prompts.
    pub prompt_2: Option<String>,
    pub negative_prompt_2: Option<String>,
    /// For the third text encoder (SD 3), instead of the prompts.
    pub prompt_3: Option<String>,
    pub negative_prompt_3: Option<String>,
    pub seeds: Seeds,
    /// Denoising steps; by default what suits the scheduler ([`crate::schedule::Config::default_steps`]).
    pub steps: Option<usize>,
    /// Width and height in pixels, multiples of the autoencoder's factor (8); by default those of `image`, rounded
    /// down, or what the model was trained for.
    pub size: Option<[usize; 2]>,
    /// Classifier-free guidance, active above 1; by default off for distilled models, 7.5 for others (SDXL: 5). A
    /// U-Net that takes the guidance scale as an input (LCM) is told it instead, by default 8.5. Z-Image counts from 0, its
    /// default: there it is active above 0.
    pub guidance: Option<f64>,
    /// How much of the guided prediction is given the spread of the prompt's own, 0 to 1 (diffusers' `guidance_rescale`);
    /// by default what the model's index says, else 0.
    pub guidance_rescale: Option<f64>,
    /// "euler", "lcm" or another name, or a diffusers class; by default the model's own.
    pub scheduler: Option<String>,
    /// How much fresh noise DDIM and TCD add, 0 to 1; by default 0, as in diffusers' pipelines.
    pub eta: Option<f64>,
    /// Tokens of a prompt for a text encoder that takes any number of them (T5); by default what suits the family. What pads a
    /// prompt is seen by some denoisers, and so changes an image.
    pub max_sequence_length: Option<usize>,
    /// What stands in front of the prompt for SANA's text encoder, instead of diffusers' `complex_human_instruction`; nothing
    /// where it is empty.
    pub instruction: Option<String>,
    /// Layers that are left out at the end of the text encoders.
    pub clip_skip: usize,
    /// What SDXL is told of sizes.
    pub sizes: Sizes,
    /// Image to image: what the image is made from; for a denoiser that edits pictures the first of them.
    pub image: Option<Picture>,
    /// Pictures to edit, in their order, behind `image`, for a denoiser that knows them (FLUX.2).
    pub references: Vec<Picture>,
    /// Inpainting: what is white in it is made anew, in halves of grey.
    pub mask: Option<Picture>,
    /// How much noise `image` gets, above 0 to 1: by default 0.8, and 1 (all of it) for inpainting.
    pub strength: Option<f64>,
    /// An image for each ControlNet that was loaded, in their order.
    pub controls: Vec<ControlInput>,
    /// The ControlNets guess the image, even without a prompt (diffusers' `guess_mode`).
    pub guess_mode: bool,
    /// An image and a scale for each T2I-Adapter that was loaded.
    pub adapters: Vec<(Picture, f32)>,
    /// An image and a scale for the IP-Adapter.
    pub image_prompt: Option<(Picture, f32)>,
    pub safety: Safety,
}

/// What SDXL is told of sizes, in pixels; by default the image's own, not cropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Height and width.
    pub original: Option<[u32; 2]>,
    /// Top and left.
    pub crop: [u32; 2],
    /// Height and width.
    pub target: Option<[u32; 2]>,
}

impl Sizes {
    /// In the order of the U-Net's input, for an image of this size.
    pub fn numbers(&self, height: usize, width: usize) -> [f32; 6] {
        let own = [height as u32, width as u32];
        let ([a, b], [c, d], [e, f]) = (self.original.unwrap_or(own), self.crop, self.target.unwrap_or(own));
        [a, b, c, d, e, f].map(|v| v as f32)
    }
}

/// What a ControlNet sees, and when.
#[derive(Clone, Debug)]
pub struct ControlInput {
    pub picture: Picture,
    pub scale: f32,
    /// The shares of the steps between which it is active, 0 to 1.
    pub start: f64,
    pub end: f64,
}

impl ControlInput {
    /// Whether it is active in a step.
    pub fn active(&self, step: usize, steps: usize) -> bool {
        let share = |i: usize| i as f64 / steps as f64;
        share(step) >= self.start && share(step + 1) <= self.end
    }
}

/// What the safety checker does with images that it finds unsafe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Safety {
    /// It is not asked.
    #[default]
    Off,
    /// The report says so.
    Flag,
    /// They come out black, and the report says so.
    Block,
}

impl Safety {
    pub fn parse(word: &str) -> Result<Safety> {
        match word {
            "off" => Ok(Safety::Off),
            "flag" => Ok(Safety::Flag),
            "block" => Ok(Safety::Block),
            other => Err(Error::option(format!("safety: wanted off, flag or block, found {other:?}"))),
        }
    }
}

/// Seeds of torch's CPU generator, whose float32 numbers every version of torch has alike; the low 32 bits count.
#[derive(Clone, Debug)]
pub enum Seeds {
    /// One generator draws for the whole batch.
    One(u64),
    /// Each image has its own.
    Each(Vec<u64>),
}

impl Default for Seeds {
    fn default() -> Seeds {
        Seeds::One(0)
    }
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
    /// One image, everything else by default.
    pub fn new(prompt: &str, seed: u64) -> Request {
        Request { prompts: vec![prompt.to_owned()], seeds: Seeds::One(seed), ..Default::default() }
    }

    /// Width and height, checked.
    pub fn size(&self, default: usize, factor: usize) -> Result<[usize; 2]> {
        let multiple = factor.max(8);
        let down = |side: usize| (side / multiple * multiple).max(multiple);
        let own = self.image.as_ref().map(|image| [down(image.width), down(image.height)]);
        let size = self.size.or(own).unwrap_or([default, default]);
        for (name, side) in ["width", "height"].iter().zip(size) {
            if side == 0 || !side.is_multiple_of(multiple) || side > MAX_SIDE {
                return Err(Error::option(format!(
                    "{name}: wanted a multiple of {multiple} from {multiple} to {MAX_SIDE}, found {side}"
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

    pub fn guidance(&self, default: f64) -> Result<f32> {
        let guidance = self.guidance.unwrap_or(default);
        if !(0.0..=100.0).contains(&guidance) {
            return Err(Error::option(format!("guidance: wanted a number from 0 to 100, found {guidance}")));
        }
        Ok(guidance as f32)
    }

    /// The numbers beside images, and a mask that belongs to its image.
    pub fn check_inputs(&self) -> Result<()> {
        let wrong = |name: &str, wanted: &str, found: &dyn std::fmt::Display| {
            Err(Error::option(format!("{name}: wanted {wanted}, found {found}")))
        };
        let shares = [("eta", self.eta), ("guidance rescale", self.guidance_rescale)];
        let shares = shares.into_iter().filter_map(|(name, share)| Some((name, share?)));
        if let Some((name, share)) = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return wrong(name, "a number from 0 to 1", &share);
        }
        let controls = self.controls.iter().map(|c| ("control scale", c.scale));
        let adapters = self.adapters.iter().map(|(_, scale)| ("adapter scale", *scale));
        let prompts = self.image_prompt.iter().map(|(_, scale)| ("image prompt scale", *scale));
        if let Some((name, scale)) = controls.chain(adapters).chain(prompts).find(|(_, s)| !s.is_finite()) {
            return wrong(name, "a number", &scale);
        }
        for ControlInput { start, end, .. } in &self.controls {
            if !(0.0 <= *start && start < end && *end <= 1.0) {
                let found = format!("{start} and {end}");
                return wrong("control", "a start below the end, both from 0 to 1", &found);
            }
        }
        let size = |picture: &Picture| format!("{}x{}", picture.width, picture.height);
        match [&self.image, &self.mask].map(|picture| picture.as_ref().map(size)) {
            [Some(image), Some(mask)] if image != mask => {
                wrong("mask", &format!("the image's size, {image}"), &mask)
            }
            _ => Ok(()),
        }
    }

    /// How much noise the image gets; 1 if there is none.
    pub fn strength(&self) -> Result<f64> {
        let default = if self.image.is_some() && self.mask.is_none() { 0.8 } else { 1.0 };
        let strength = self.strength.unwrap_or(default);
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(Error::option(format!(
                "strength: wanted a number above 0, at most 1, found {strength}"
            )));
        }
        if self.mask.is_some() && self.image.is_none() {
            return Err(Error::option("mask: wanted an image beside it, found none"));
        }
        if self.strength.is_some() && self.image.is_none() {
            return Err(Error::option("strength: wanted an image beside it, found none"));
        }
        Ok(strength)
    }
}

/// What a run tells while it goes, and where it can be stopped.
pub struct Watch<'a> {
    pub cancel: Cancel,
    /// The stage, and how far the whole call is: from 0 to 1, never back.
    pub progress: &'a dyn Fn(Stage, f64),
    /// Gets an image of what each step but the last predicts of the first image, the step (from 1) and their number.
    pub preview: Option<&'a Preview<'a>>,
    /// Gets the latents after each step ("latents.0", [N, C, h, w]) and the images ("image", [N, H, W, 3]
    /// in 0..1), in the order of the reference's files.
    pub dump: Option<&'a Dump<'a>>,
}

/// Takes an image, which may be smaller than the one that is drawn.
pub type Preview<'a> = dyn Fn(&Image, usize, usize) + 'a;

/// Takes a name, a shape and its values.
pub type Dump<'a> = dyn Fn(&str, [usize; 4], Vec<f32>) + 'a;

/// An image.
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
    /// What was left out, such as the end of an overlong prompt.
    pub warnings: Vec<Warning>,
    pub steps: usize,
    pub timings: Timings,
    /// For each image, whether the safety checker found it unsafe; empty if it was not asked.
    pub unsafe_images: Vec<bool>,
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
    /// Kernels that no call before this one needed.
    Compile {
        done: usize,
        count: usize,
    },
    Text,
    Step {
        step: usize,
        steps: usize,
    },
    Decode,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize) -> Picture {
        Picture::new(width, 2, 3, &vec![0; width * 6]).unwrap()
    }

    fn control(scale: f32, start: f64, end: f64) -> Vec<ControlInput> {
        vec![ControlInput { picture: picture(1), scale, start, end }]
    }

    #[test]
    fn inputs_are_checked_and_named() {
        let of = |change: &dyn Fn(&mut Request)| {
            let mut request = Request::new("a boat", 1);
            change(&mut request);
            request.check_inputs().map_err(|e| e.message)
        };
        for eta in [f64::NAN, -0.1, 1.1] {
            let message = of(&|r| r.eta = Some(eta)).unwrap_err();
            assert_eq!(message, format!("eta: wanted a number from 0 to 1, found {eta}"));
        }
        let message = of(&|r| r.guidance_rescale = Some(1.5)).unwrap_err();
        assert_eq!(message, "guidance rescale: wanted a number from 0 to 1, found 1.5");
        for (scale, start, end, words) in [
            (f32::NAN, 0.0, 1.0, "control scale"),
            (1.0, 0.5, 0.5, "0.5 and 0.5"),
            (1.0, -0.1, 0.5, "start"),
            (1.0, 0.5, 1.1, "end"),
            (1.0, f64::NAN, 1.0, "NaN"),
        ] {
            let message = of(&|r| r.controls = control(scale, start, end)).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
        let message = of(&|r| r.adapters = vec![(picture(1), f32::INFINITY)]).unwrap_err();
        assert_eq!(message, "adapter scale: wanted a number, found inf");
        let message = of(&|r| r.image_prompt = Some((picture(1), f32::NAN))).unwrap_err();
        assert_eq!(message, "image prompt scale: wanted a number, found NaN");
        let message = of(&|r| (r.image, r.mask) = (Some(picture(3)), Some(picture(4)))).unwrap_err();
        assert_eq!(message, "mask: wanted the image's size, 3x2, found 4x2");
        let good = |r: &mut Request| {
            (r.eta, r.controls, r.adapters) = (Some(1.0), control(-1.0, 0.0, 1.0), vec![(picture(1), 0.0)]);
            (r.image, r.mask) = (Some(picture(3)), Some(picture(3)));
        };
        assert_eq!(of(&good), Ok(()));
    }
}
