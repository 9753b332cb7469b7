//! A request with everything decided and checked.

use std::array::from_fn;

use super::request::{Request, Safety};
use super::{Half, Pipeline};
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::model::denoiser::Job;
use crate::prompt::Chunk;
use crate::schedule::{self, Schedule};
use crate::warning::{Topic, Warning};

pub struct Task {
    pub job: Job,
    /// Of the steps that are run.
    pub schedule: Schedule,
    /// What diffusers' latents are multiples of.
    pub unit: f32,
    pub guidance: f32,
    /// How much of the guided prediction gets the spread of the prompt's own.
    pub guidance_rescale: f64,
    pub strength: f64,
    /// Width and height of the image that was asked for.
    pub asked: [usize; 2],
    /// Of the image as it is drawn, in pixels.
    pub width: usize,
    pub height: usize,
    /// Of the latents.
    pub channels: usize,
    /// For each text encoder the chunks of every row that the U-Net sees.
    pub prompts: Vec<Vec<Vec<Chunk>>>,
    /// Of every row, where the denoiser is told labels.
    pub labels: Vec<usize>,
    /// Pictures to edit, in whole latents.
    pub references: Vec<Picture>,
    /// What was left out, such as the end of an overlong prompt.
    pub warnings: Vec<Warning>,
}

impl Task {
    /// Of one image's latents.
    pub fn pixels(&self) -> usize {
        self.job.size.map(|s| s as usize).iter().product()
    }
}

impl Pipeline {
    pub(super) fn task(&self, request: &Request) -> Result<Task> {
        request.check_inputs()?;
        self.check_pictures(request)?;
        let references = self.references(request)?;
        let strength = if references.is_empty() { request.strength()? } else { 1.0 };
        let mut scheduler = match &request.scheduler {
            Some(name) => self.scheduler.with_class(name)?,
            None => self.scheduler.clone(),
        };
        if let Some(eta) = request.eta {
            scheduler = scheduler.with_key("eta", eta);
        }
        let steps = request.steps.or(self.family.steps).unwrap_or(scheduler.default_steps());
        let begin = if self.family.steps_from_the_end && request.image.is_some() {
            // These pipelines of diffusers draw all steps from the end of the schedule.
            scheduler = scheduler.with_key("strength", strength);
            0
        } else {
            (self.family.left_out)(steps, strength)
        };
        if steps > 0 && begin == steps {
            return Err(Error::option(format!(
                "strength: {strength} of {steps} steps is less than one: nothing would be done"
            )));
        }
        let factor = self.vae.config.spatial_factor();
        // Whole tokens of the denoiser.
        let own = references.first().map(|picture| [picture.width, picture.height]);
        let side = factor * self.patch();
        // An image is made as large as it is asked for behind one of the model's shapes.
        let shape = |size| self.family.shape(self.default_size(), size, request.resolution_binning);
        let multiple = if shape([side; 2]).is_some() { 1 } else { side };
        let asked = match own.filter(|_| request.size.is_none()) {
            Some(size) => size,
            None => request.size(self.default_size(), multiple)?,
        };
        let [width, height] = shape(asked).unwrap_or(asked);
        let tokens = (height / side) * (width / side);
        let schedule = Schedule::new(&(self.family.schedule)(&scheduler, steps, tokens)?, steps, begin)?;
        let schedule = (self.family.for_network)(schedule);
        // As others count it.
        let guidance = request.guidance(self.usual_guidance(&scheduler))? + 1.0 - self.family.unguided;
        let guided = self.guides(guidance);
        let guidance_rescale = request.guidance_rescale.unwrap_or(self.guidance_rescale);
        let images = request.images()? as u32;
        let mut warnings: Vec<_> = scheduler.unused().into_iter().collect();
        warnings.extend(self.unused_guidance(request));
        if request.resolution_binning.is_some() && !self.family.bins {
            let message = "resolution binning is not used: this model draws every size as it is";
            warnings.push(Warning::new(Topic::Unused, message.to_owned()));
        }
        let prompts = self.chunks(request, guided, &mut warnings)?;
        let labels = self.labels(request, guided, &mut warnings)?;
        warnings.extend(self.unused_tokens(&prompts));
        let read = |rows: &Vec<Vec<Chunk>>| rows[0].iter().map(|chunk| chunk.ids.len()).sum();
        let tokens = self.each_encoder(prompts.iter().map(read));
        let latents = |side: usize| (side / factor) as u32;
        let job = Job {
            images,
            guided,
            size: [height, width].map(latents),
            tokens: (self.family.reading.tokens)(&tokens, self.sequence_length(request)?) as u32,
            references: from_fn(|i| references.get(i).map_or([0; 2], |p| [p.height, p.width].map(latents))),
        };
        if let Some(most) = self.denoiser.network.largest().filter(|most| job.size.iter().any(|n| n > most)) {
            let most = most as usize * factor;
            return Err(Error::option(format!(
                "size: this model draws at most {most} pixels along a side (pos_embed_max_size), found {width}x{height}"
            )));
        }
        let channels = self.vae.config.latent_channels();
        Ok(Task {
            job,
            schedule,
            unit: scheduler.unit(),
            guidance,
            guidance_rescale,
            strength,
            asked,
            width,
            height,
            channels,
            prompts,
            labels,
            references,
            warnings,
        })
    }

    /// A warning for every learned token that is in no prompt which a text encoder reads.
    fn unused_tokens(&self, prompts: &[Vec<Vec<Chunk>>]) -> Vec<Warning> {
        let of_each = self.texts.iter().zip(prompts).map(|(text, prompts)| text.learned(prompts).collect());
        let used = of_each.reduce(|mut used: Vec<(&[String], bool)>, other| {
            used.iter_mut().zip(other).for_each(|(used, (_, other))| used.1 |= other);
            used
        });
        let used = used.unwrap_or_default();
        let unused = used.iter().filter(|(_, used)| !used).map(|(names, _)| {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let message = format!("an embedding is not used: wanted {} in a prompt", names.join(" or "));
            Warning::new(Topic::Unused, message)
        });
        unused.collect()
    }

    /// The guidance scale of a request that names none.
    pub(super) fn usual_guidance(&self, scheduler: &schedule::Config) -> f64 {
        match self.denoiser.network.sizes().embeds_guidance {
            true => self.family.embedded_guidance,
            false if scheduler.distilled() => 1.0,
            false => self.family.guidance,
        }
    }

    /// Whether the denoiser sees every image twice.
    pub(super) fn guides(&self, guidance: f32) -> bool {
        let embeds = self.denoiser.network.sizes().embeds_guidance;
        self.family.classifier_free && guidance > 1.0 && !embeds
    }

    /// Warnings for a guidance scale and a negative prompt that a family makes nothing of.
    fn unused_guidance(&self, request: &Request) -> Vec<Warning> {
        if self.family.classifier_free {
            return vec![];
        }
        let embeds = self.denoiser.network.sizes().embeds_guidance;
        let negatives = [&request.negative_prompt_2, &request.negative_prompt_3];
        let negative = !request.negative_prompt.is_empty() || negatives.into_iter().any(Option::is_some);
        let unused = [
            (!embeds && request.guidance.is_some_and(|scale| scale > 1.0), "the guidance scale"),
            (negative, "the negative prompt"),
        ];
        let unused = unused.into_iter().filter(|(is, _)| *is).map(|(_, what)| {
            Warning::new(
                Topic::Unused,
                format!("{what} is not used: this model has no classifier-free guidance"),
            )
        });
        unused.collect()
    }

    /// Every image of the request has a network that sees it.
    fn check_pictures(&self, request: &Request) -> Result<()> {
        let network = &self.denoiser.network;
        let beside = network.unet().map_or([0; 2], |unet| [unet.controls.len(), unet.adapters.len()]);
        let missing =
            |name: &str, network: &str| Error::option(format!("{name}: wanted {network}, none was loaded"));
        let count = |name: &str, network: &str, found: usize, loaded: usize| match (found, loaded) {
            (0, _) => Ok(()),
            (_, 0) => Err(missing(name, network)),
            _ if found == loaded => Ok(()),
            _ => Err(Error::option(format!(
                "{name}: wanted one for each of the {loaded} networks that were loaded, found {found}"
            ))),
        };
        count("control images", "a ControlNet", request.controls.len(), beside[0])?;
        count("adapter images", "a T2I-Adapter", request.adapters.len(), beside[1])?;
        if request.image_prompt.is_some() && self.vision.is_none() {
            return Err(missing("image prompt", "an IP-Adapter"));
        }
        if request.safety != Safety::Off && self.safety.is_none() {
            return Err(missing("safety", "a safety checker"));
        }
        let pictures = request.image.is_some() || !request.references.is_empty();
        if pictures && !self.vae.has(Half::Encoder) {
            return Err(Error::option(
                "image: the model was loaded without its autoencoder's encoder; ask for it when loading",
            ));
        }
        if request.mask.is_some() && network.unet().is_none() {
            return Err(Error::unsupported(
                "mask: the denoiser is a transformer, supported for inpainting are U-Nets",
            ));
        }
        if network.sizes().is_inpainting() && request.mask.is_none() {
            return Err(Error::option(
                "mask: this model fills a hole in an image: wanted both, found no mask",
            ));
        }
        Ok(())
    }
}
