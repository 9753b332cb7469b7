//! Families of models: what a pipeline is made of, and what it does where a request says nothing. A file each, and a row in
//! [`FAMILIES`].

mod dit;
mod flux;
mod flux2;
mod latent_consistency;
mod pixart;
mod sana;
mod stable_diffusion;
mod stable_diffusion_3;
mod xl;
mod z_image;

use super::bins;
use super::component::{AUTOENCODER, Component, Role};
use super::text::Encoded;
use crate::error::{Error, Result};
use crate::model::config::{ModelIndex, NetworkConfig};
use crate::model::text::{HiddenState, TextUse};
use crate::schedule::{self, Schedule};

/// The folder of a denoiser that is a U-Net.
pub const UNET: &str = "unet";

/// A text encoder, and the folder of its tokenizer.
pub struct Encoder {
    pub component: Component,
    pub tokenizer: &'static str,
    /// A model may be without it.
    pub optional: bool,
    /// Tokens of a prompt, where the encoder takes any number: of a request that names none.
    pub tokens: usize,
    /// Its pooled state is used as it is, without a projection.
    pub pools: bool,
    /// Whether padding is hidden from other tokens, where the encoder can hide it.
    pub masked: bool,
    /// Whether padding is not for the denoiser: prompts are no longer than the longest of a request.
    pub cut: bool,
    /// What the tokenizer reads of a prompt.
    pub turn: fn(&str) -> String,
}

impl Encoder {
    const fn new(component: Component, tokenizer: &'static str) -> Encoder {
        let turn = |prompt: &str| prompt.to_owned();
        Encoder {
            component,
            tokenizer,
            optional: false,
            tokens: 0,
            pools: false,
            masked: false,
            cut: false,
            turn,
        }
    }
}

/// How the states of a family's text encoders become what its denoiser reads of a prompt.
pub struct Reading {
    /// Tokens of a prompt, of those that each encoder reads: `None` for one that a model is without. The last number is
    /// that of an encoder of any number of tokens.
    pub tokens: fn(&[Option<usize>], usize) -> usize,
    /// The states, of so many tokens and of this width, and the pooled text.
    pub join: fn(Vec<Option<Encoded>>, usize, usize) -> Encoded,
    /// The width that the denoiser must have for encoders of these widths.
    pub width: fn(&[Option<usize>], usize) -> usize,
}

pub struct Family {
    /// Whether a model is of this family: the first that says so counts.
    pub matches: fn(&ModelIndex) -> bool,
    pub encoders: &'static [Encoder],
    /// What stands in front of every prompt for encoders that read any number of tokens; empty for nothing.
    pub instruction: &'static str,
    pub reading: Reading,
    pub denoiser: Component,
    /// What the denoiser reads of a text encoder.
    pub hidden_state: HiddenState,
    /// The guidance scale of a request that names none, where the scheduler is not one for few steps.
    pub guidance: f64,
    /// The guidance scale that changes nothing. From 0 on a prediction is what the prompt says and as many times its difference
    /// from the other one.
    pub unguided: f32,
    /// Whether a larger guidance scale means two predictions; or else only a denoiser that takes it as an input has any use
    /// for it, and none for a negative prompt.
    pub classifier_free: bool,
    /// The guidance scale of a request that names none, where it is an input of the denoiser.
    pub embedded_guidance: f64,
    /// What the pipeline asks of the scheduler, for so many steps and tokens of an image.
    pub schedule: fn(&schedule::Config, usize, usize) -> Result<schedule::Config>,
    /// What schedulers are not written for: what the denoiser is told in place of timesteps, and what it gives.
    pub for_network: fn(Schedule) -> Schedule,
    /// Steps of a request that names none, where the scheduler does not say.
    pub steps: Option<usize>,
    /// Whether an empty negative prompt may stand for zeros (`force_zeros_for_empty_prompt`).
    pub zeros_for_empty_prompt: bool,
    /// Steps that an image to image request leaves out, of so many, at this strength.
    pub left_out: fn(usize, f64) -> usize,
    /// Whether all steps of an image to image request are drawn from the end of the schedule.
    pub steps_from_the_end: bool,
    /// Whether images are drawn in shapes that the model was trained for (`use_resolution_binning`).
    pub bins: bool,
    /// Whether diffusers' pipeline of this class obeys `force_upcast` of an autoencoder.
    pub upcasts: fn(&str) -> bool,
}

/// By diffusers' pipelines.
pub(super) static FAMILIES: [&Family; 12] = [
    &sana::FAMILY,
    &stable_diffusion_3::FAMILY,
    &flux::FAMILY,
    &flux2::DISTILLED,
    &flux2::BASE,
    &z_image::FAMILY,
    &pixart::ALPHA,
    &pixart::SIGMA,
    &dit::FAMILY,
    &xl::FAMILY,
    &latent_consistency::FAMILY,
    &stable_diffusion::FAMILY,
];

/// A prompt as pipelines of T5 and Gemma prepare it: Python's `lower` and `strip`.
fn lower_cased(prompt: &str) -> String {
    let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    prompt.to_lowercase().trim_matches(blank).to_owned()
}

impl Family {
    /// What such a model does with a text encoder.
    pub fn text_use(&self, encoder: &Encoder) -> TextUse {
        TextUse { state: Some(self.hidden_state), masked: encoder.masked }
    }

    /// The family of a model.
    ///
    /// Errors: `Unsupported` where there is none, or where the model has a denoiser or a text encoder that its family
    /// has not.
    pub fn of(index: &ModelIndex) -> Result<&'static Family> {
        let refused = |why: &str| {
            Err(Error::unsupported(format!("model_index.json: _class_name is {}, {why}", index.class_name)))
        };
        let Some(family) = FAMILIES.iter().find(|family| (family.matches)(index) && family.knows(index))
        else {
            return refused(
                "supported are StableDiffusionPipeline, StableDiffusionXLPipeline, StableDiffusion3Pipeline, FluxPipeline, Flux2KleinPipeline, SanaSprintPipeline, ZImagePipeline, PixArtAlphaPipeline, PixArtSigmaPipeline, DiTPipeline and LatentConsistencyModelPipeline",
            );
        };
        // A first text encoder that is not there is told by its files.
        let mut needed = family.encoders.iter().skip(1).filter(|e| !e.optional);
        let absent = needed.find(|e| index.class(e.component.folder).is_none());
        match absent {
            Some(Encoder { component: Component { folder, .. }, .. }) => {
                refused(&format!("supported only with a {folder}, found none"))
            }
            None => Ok(family),
        }
    }

    /// The family of fewest text encoders that has all these text encoders and denoisers, by their folders: of several the
    /// last one.
    pub fn with(found: &[(&str, NetworkConfig)]) -> Option<&'static Family> {
        let has = |family: &Family, (folder, config): &(&str, NetworkConfig)| match config {
            NetworkConfig::Text(_) => family.encoders.iter().any(|e| e.component.folder == *folder),
            NetworkConfig::Denoiser(c) => c.classes().contains(&family.denoiser.class),
            NetworkConfig::ControlNet(_) | NetworkConfig::T2iAdapter(_) => family.denoiser.folder == UNET,
            _ => true,
        };
        let all = FAMILIES.into_iter().rev().filter(|family| found.iter().all(|one| has(family, one)));
        all.min_by_key(|family| family.encoders.len())
    }

    /// Whether every text encoder and denoiser of a model is one of the family's.
    fn knows(&'static self, index: &ModelIndex) -> bool {
        let all = Component::all().into_iter().filter(|c| matches!(c.role, Role::Text | Role::Denoiser));
        let own = |folder: &str| self.components().any(|own| own.folder == folder);
        all.into_iter().all(|c| index.class(c.folder).is_none() || own(c.folder))
    }

    /// The family of networks that are in no model, where none is said otherwise.
    pub fn plain() -> &'static Family {
        &stable_diffusion::FAMILY
    }

    /// The family of a network that stands alone: the last one that has a denoiser of this kind.
    pub fn with_denoiser(config: &NetworkConfig) -> &'static Family {
        let NetworkConfig::Denoiser(config) = config else { return Family::plain() };
        let has = |family: &&&Family| config.classes().contains(&family.denoiser.class);
        FAMILIES.iter().rev().find(has).copied().unwrap_or(Family::plain())
    }

    /// The width and the height in which an image of this one is drawn, if not as it is, by a model for square images of this
    /// side; `wanted` is what a request says.
    pub fn shape(&self, side: usize, size: [usize; 2], wanted: Option<bool>) -> Option<[usize; 2]> {
        let bins = self.bins && wanted.unwrap_or(true);
        if bins { bins::nearest(side, size) } else { None }
    }

    /// Whether a model has this text encoder.
    pub fn has(encoder: &Encoder, index: &ModelIndex) -> bool {
        !encoder.optional || index.class(encoder.component.folder).is_some()
    }

    /// The networks of such a model.
    pub fn components(&'static self) -> impl Iterator<Item = &'static Component> {
        self.encoders.iter().map(|encoder| &encoder.component).chain([&self.denoiser, &AUTOENCODER])
    }
}
