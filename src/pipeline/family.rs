//! Families of models: what a pipeline is made of, and what it does where a request says nothing. A file each, and a row in
//! [`FAMILIES`].

mod latent_consistency;
mod stable_diffusion;
mod xl;

use crate::error::{Error, Result};
use crate::model::clip::HiddenState;
use crate::model::component::{COMPONENTS, Component, Role};
use crate::model::config::ModelIndex;

/// A text encoder and its tokenizer, by their folders.
pub struct Encoder {
    pub component: &'static str,
    pub tokenizer: &'static str,
}

pub struct Family {
    /// Whether a model is of this family: the first that says so counts.
    pub matches: fn(&ModelIndex) -> bool,
    /// Their states are side by side for the denoiser, in this order.
    pub encoders: &'static [Encoder],
    pub denoiser: &'static str,
    /// What the denoiser reads of a text encoder.
    pub hidden_state: HiddenState,
    /// The guidance scale of a request that names none, where the scheduler is not one for few steps.
    pub guidance: f64,
    /// Whether an empty negative prompt may stand for zeros (`force_zeros_for_empty_prompt`).
    pub zeros_for_empty_prompt: bool,
    /// Whether all steps of an image to image request are drawn from the end of the schedule.
    pub steps_from_the_end: bool,
    /// Whether diffusers' pipeline of this class obeys `force_upcast` of an autoencoder.
    pub upcasts: fn(&str) -> bool,
}

/// By diffusers' pipelines.
static FAMILIES: [&Family; 3] = [&xl::FAMILY, &latent_consistency::FAMILY, &stable_diffusion::FAMILY];

impl Family {
    /// The family of a model.
    ///
    /// Errors: `Unsupported` where there is none, or where the model has a denoiser or a text encoder that its family
    /// has not.
    pub fn of(index: &ModelIndex) -> Result<&'static Family> {
        let refused = |why: &str| {
            Err(Error::unsupported(format!("model_index.json: _class_name is {}, {why}", index.class_name)))
        };
        let found = FAMILIES.iter().find(|family| (family.matches)(index));
        let strange = |family: &&&Family| {
            let models = COMPONENTS.iter().filter(|c| matches!(c.role, Role::Text | Role::Denoiser));
            let present = models.filter(|c| index.class(c.folder).is_some());
            present.into_iter().all(|c| family.components().any(|own| own.folder == c.folder))
        };
        let Some(family) = found.filter(strange) else {
            return refused(
                "supported are StableDiffusionPipeline, StableDiffusionXLPipeline and LatentConsistencyModelPipeline",
            );
        };
        let absent = family.encoders.iter().skip(1).find(|e| index.class(e.component).is_none());
        match absent {
            Some(Encoder { component, .. }) => {
                refused(&format!("supported only with a {component}, found none"))
            }
            None => Ok(family),
        }
    }

    /// The networks of such a model.
    pub fn components(&self) -> impl Iterator<Item = &'static Component> {
        let encoders = self.encoders.iter().map(|encoder| encoder.component);
        encoders.chain([self.denoiser, "vae"]).map(Component::of)
    }
}
