//! Text and images to images: load a model folder, then turn requests into pictures.

mod conditions;
mod decode;
mod denoise;
mod networks;
mod parts;
mod pictures;
mod plans;
mod request;
mod start;
mod task;
mod text;
mod vision;

use std::cell::RefCell;

pub use decode::{Decoder, Half, Network, VaePart, vae_plan};
pub use denoise::{Additions, Denoiser, UnetPart, step_coefficients};
pub use networks::{Job, Networks, denoise_plan};
pub use parts::{LoadOptions, read_json};
pub use plans::{Planned, Plans, network_plans, plans};
pub use request::{ControlInput, Image, Report, Request, Safety, Seeds, Sizes, Stage, Timings, Watch};
pub use text::{TextNetwork, TextPart, text_plan};
pub use vision::{Encoded, SafetyPart, Verdict, VisionPart, prompt_embeds};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::host::now;
pub use crate::model::clip::HiddenState;
use crate::model::config::ModelIndex;
use crate::plan::Target;
use crate::schedule;
use crate::shape::nchw;
use crate::weights::{Folder, Hooks};
use start::{Draws, Start};
use task::Task;

/// A loaded model on a device.
pub struct Pipeline {
    text: TextPart,
    /// SDXL's.
    text_2: Option<TextPart>,
    unet: UnetPart,
    vae: VaePart,
    /// The image encoder of an IP-Adapter.
    vision: Option<VisionPart>,
    safety: Option<SafetyPart>,
    scheduler: schedule::Config,
    /// Whether diffusers' pipeline is one for latent consistency models.
    latent_consistency: bool,
    /// Whether an empty negative prompt stands for zeros (SDXL).
    zeros_for_empty_prompt: bool,
    target: Target,
    /// The sessions of the last size, kept because people draw many pictures of one size.
    denoiser: RefCell<Option<Denoiser>>,
    decoder: RefCell<Option<Decoder>>,
}

impl Pipeline {
    /// Loads a folder in the diffusers layout. `hooks` sees the bytes of the tensors that are read.
    pub async fn load<F: Folder>(
        device: &Device,
        folder: &F,
        options: &LoadOptions,
        hooks: Hooks<'_>,
    ) -> Result<Pipeline> {
        Self::load_with(device, folder, &Additions::default(), options, hooks).await
    }

    /// Loads a folder in the diffusers layout, and networks that work with it.
    pub async fn load_with<F: Folder>(
        device: &Device,
        folder: &F,
        additions: &Additions<'_, F>,
        options: &LoadOptions,
        hooks: Hooks<'_>,
    ) -> Result<Pipeline> {
        let index = read_json(folder, "model_index.json").await?;
        let index = ModelIndex::from_json(&index, "model_index.json")?;
        if index.class("transformer").is_some() {
            return Err(Error::unsupported(format!(
                "model_index.json: _class_name is {}, supported are StableDiffusionPipeline, \
                 StableDiffusionXLPipeline and LatentConsistencyModelPipeline",
                index.class_name
            )));
        }
        if index.class_name.contains("XL") && index.class("text_encoder_2").is_none() {
            return Err(Error::unsupported(format!(
                "model_index.json: _class_name is {}, supported only with a text_encoder_2, found none",
                index.class_name
            )));
        }
        let target = device.target(&options.activations)?;
        let scheduler = read_json(folder, "scheduler/scheduler_config.json").await?;
        let scheduler = schedule::Config::from_json(&scheduler, "scheduler/scheduler_config.json")?;
        let format = options.weights;
        let text = TextPart::load(device, folder, "tokenizer", "text_encoder", format, hooks).await?;
        let text_2 = match index.class("text_encoder_2") {
            Some(_) => {
                Some(TextPart::load(device, folder, "tokenizer_2", "text_encoder_2", format, hooks).await?)
            }
            None => None,
        };
        let vision = match additions.ip_adapter {
            Some(folder) => Some(
                VisionPart::load(device, folder, "image_encoder", "feature_extractor", format, hooks).await?,
            ),
            None => None,
        };
        let embeds = vision.as_ref().map_or(0, |v| v.encoder.config.projection_dim);
        let unet = UnetPart::load_with(device, folder, "unet", additions, embeds, format, hooks).await?;
        let halves: &[Half] = match options.encoder || unet.networks.sees_hole() {
            true => &[Half::Decoder, Half::Encoder],
            false => &[Half::Decoder],
        };
        let vae = VaePart::load(device, folder, "vae", format, hooks, halves).await?;
        let safety = match additions.safety_checker {
            Some(folder) => {
                Some(SafetyPart::load(device, folder, "", "feature_extractor", format, hooks).await?)
            }
            None => None,
        };
        let pipeline = Pipeline {
            text,
            text_2,
            unet,
            vae,
            vision,
            safety,
            scheduler,
            latent_consistency: index.class_name.starts_with("LatentConsistencyModel"),
            zeros_for_empty_prompt: index.flag("force_zeros_for_empty_prompt", true),
            target,
            denoiser: None.into(),
            decoder: None.into(),
        };
        pipeline.check()?;
        Ok(pipeline)
    }

    /// Whether the parts fit each other.
    fn check(&self) -> Result<()> {
        let unet = &self.unet.networks.config;
        let encoders = || [Some(&self.text), self.text_2.as_ref()].into_iter().flatten();
        let width: usize = encoders().map(|t| t.network.encoder.config.hidden_size).sum();
        if width != unet.cross_attention_dim {
            let wanted = unet.cross_attention_dim;
            return Err(Error::model(format!(
                "unet/config.json: cross_attention_dim is {wanted}, but the text encoder's hidden_size is {width}"
            )));
        }
        let projections: usize = encoders().filter_map(|t| t.network.encoder.config.projection_dim).sum();
        if let Some(text_time) = unet.text_time.filter(|t| t.pooled() != projections) {
            return Err(Error::model(format!(
                "unet/config.json: projection_class_embeddings_input_dim wants {} numbers of pooled text, but the \
                 text encoder's projection_dim is {projections}",
                text_time.pooled()
            )));
        }
        let latent = self.vae.config.latent_channels();
        let seen = if self.unet.networks.sees_hole() { 2 * latent + 1 } else { latent };
        if unet.out_channels != latent || unet.in_channels != seen {
            return Err(Error::unsupported(format!(
                "unet/config.json: in_channels is {} and out_channels {}, the autoencoder's latent_channels \
                 {latent}; they must be equal, or in_channels one more than twice as many",
                unet.in_channels, unet.out_channels
            )));
        }
        Ok(())
    }

    /// Replaces the model's own scheduler.
    pub fn set_scheduler(&mut self, scheduler: schedule::Config) {
        self.scheduler = scheduler;
    }

    /// The picture's size when the request names none: what the U-Net was trained for.
    pub fn default_size(&self) -> usize {
        self.unet.networks.config.sample_size.unwrap_or(64) * self.vae.config.spatial_factor()
    }

    /// Draws what the request asks for.
    pub async fn generate(&self, device: &Device, request: &Request, watch: &Watch<'_>) -> Result<Report> {
        let task = self.task(request)?;
        let (job, target) = (task.job, &self.target);
        // The last sessions are taken out while they work: a second call meanwhile makes its own.
        let kept = self.denoiser.take().filter(|d| d.job == job);
        let kept_decoder = self.decoder.take().filter(|d| d.size == job.size);
        // Both plans are checked before either takes memory.
        let plan = kept.is_none().then(|| self.unet.plan(device, target, job)).transpose()?;
        let decoder_plan = kept_decoder
            .is_none()
            .then(|| self.vae.plan(device, target, Half::Decoder, 1, job.size))
            .transpose()?;
        let denoiser = match (kept, plan) {
            (_, Some(plan)) => self.unet.denoiser(device, plan, job).await?,
            (kept, None) => kept.expect("no plan was needed"),
        };
        let decoder = match (kept_decoder, decoder_plan) {
            (_, Some(plan)) => self.vae.decoder(device, plan, job.size).await?,
            (kept, None) => kept.expect("no plan was needed"),
        };
        let report = self.draw(device, request, &task, &denoiser, &decoder, watch).await;
        self.denoiser.replace(Some(denoiser));
        self.decoder.replace(Some(decoder));
        report
    }

    async fn draw(
        &self,
        device: &Device,
        request: &Request,
        task: &Task,
        denoiser: &Denoiser,
        decoder: &Decoder,
        watch: &Watch<'_>,
    ) -> Result<Report> {
        let begun = now();
        let conditions = self.conditions(device, request, task, watch).await?;
        denoiser.set_conditions(device, &conditions, &watch.cancel).await?;
        self.show_pictures(device, request, task, denoiser, watch).await?;
        let encoded = now();
        let mut draws = Draws::new(request.seeds.all(), task);
        let start = self.start(device, request, task, &mut draws, watch).await?;
        let latents = self.denoise(device, request, task, denoiser, start, draws, watch).await?;
        let denoised = now();
        let mut images = self.decode(device, task, decoder, &latents, watch).await?;
        let unsafe_images = self.check_safety(device, request, &mut images, watch).await?;
        let timings =
            Timings { text: encoded - begun, denoise: denoised - encoded, decode: now() - denoised };
        let warnings = task.warnings.clone();
        Ok(Report { images, warnings, steps: task.schedule.steps.len(), timings, unsafe_images })
    }

    /// From the first sample to latents, `[N, h, w, C]`. After the first sample's draws come those that the steps want.
    #[expect(
        clippy::too_many_arguments,
        reason = "one run's whole state; a struct of it would be used here alone"
    )]
    async fn denoise(
        &self,
        device: &Device,
        request: &Request,
        task: &Task,
        denoiser: &Denoiser,
        start: Start,
        mut draws: Draws,
        watch: &Watch<'_>,
    ) -> Result<Vec<f32>> {
        denoiser.start(device, &start.latents);
        if let Some(channels) = &start.channels {
            denoiser.set_channels(device, channels);
        }
        let steps = &task.schedule.steps;
        for (i, step) in steps.iter().enumerate() {
            let stage = Stage::Step { step: i, steps: steps.len() };
            let progress = |f: f64| (watch.progress)(stage, (i as f64 + f) / steps.len() as f64);
            let controlled = self.scale_additions(device, request, task, denoiser, i);
            denoiser.predict(device, step, controlled, &watch.cancel, &progress).await?;
            let noise = step.draws_noise.then(|| draws.noise());
            denoiser.advance(device, step, task.guidance, noise.as_deref(), &watch.cancel).await?;
            if let Some(surroundings) = &start.surroundings {
                let mut latents = denoiser.latents(device).await?;
                surroundings.put_back(&mut latents, steps.get(i + 1));
                denoiser.set_latents(device, &latents);
            }
            if let Some(dump) = watch.dump {
                let latents = nchw(&denoiser.latents(device).await?, task.channels, task.pixels());
                let [h, w] = task.job.size.map(|s| s as usize);
                dump(&format!("latents.{i}"), [task.job.images as usize, task.channels, h, w], latents);
            }
        }
        denoiser.latents(device).await
    }

    /// One picture after the other, so that a batch takes the memory of one.
    async fn decode(
        &self,
        device: &Device,
        task: &Task,
        decoder: &Decoder,
        latents: &[f32],
        watch: &Watch<'_>,
    ) -> Result<Vec<Image>> {
        let (count, width, height) = (task.job.images as usize, task.width, task.height);
        let mut images = vec![];
        let mut floats = vec![];
        for (i, latent) in latents.chunks_exact(task.channels * task.pixels()).enumerate() {
            let progress = |f: f64| (watch.progress)(Stage::Decode, (i as f64 + f) / count as f64);
            let rgba = decoder.decode(device, latent, &watch.cancel, &progress).await?;
            images.push(Image { width, height, rgba });
            if watch.dump.is_some() {
                floats.extend(decoder.sample(device).await?.iter().map(|v| (v / 2.0 + 0.5).clamp(0.0, 1.0)));
            }
        }
        if let Some(dump) = watch.dump {
            dump("image", [count, height, width, 3], floats);
        }
        Ok(images)
    }
}
