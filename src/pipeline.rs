//! Text to image: load a model folder, then turn requests into pictures.

mod decode;
mod denoise;
mod parts;
mod plans;
mod request;
mod text;
mod vision;

use std::cell::RefCell;

pub use decode::{Decoder, Network, VaePart, vae_plan};
pub use denoise::{Denoiser, Job, UnetPart, denoise_plan, step_coefficients};
pub use parts::{LoadOptions, read_json};
pub use plans::{Planned, plans};
pub use request::{Image, Report, Request, Seeds, Stage, Timings};
pub use text::{TextNetwork, TextPart, text_plan};
pub use vision::{
    Encoded, SafetyPart, Similarity, Verdict, VisionPart, clip_pixels, prompt_embeds, vision_plan,
};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::host::{Cancel, now};
use crate::model::config::ModelIndex;
use crate::plan::Target;
use crate::rng::Generator;
use crate::schedule::{self, Schedule};
use crate::shape::{nchw, nhwc};
use crate::weights::{Folder, Hooks};

/// A loaded model on a device.
pub struct Pipeline {
    text: TextPart,
    unet: UnetPart,
    vae: VaePart,
    scheduler: schedule::Config,
    target: Target,
    /// The sessions of the last size, kept because people draw many pictures of one size.
    denoiser: RefCell<Option<Denoiser>>,
    decoder: RefCell<Option<Decoder>>,
}

/// What a run tells while it goes, and where it can be stopped.
pub struct Watch<'a> {
    pub cancel: Cancel,
    /// The stage, and how far it is from 0 to 1.
    pub progress: &'a dyn Fn(Stage, f64),
    /// Gets the latents after each step ("latents.0", [N, C, h, w]) and the pictures ("image", [N, H, W, 3]
    /// in 0..1), in the order of the reference's files.
    pub dump: Option<&'a Dump<'a>>,
}

/// Takes a name, a shape and its values.
pub type Dump<'a> = dyn Fn(&str, [usize; 4], Vec<f32>) + 'a;

impl Pipeline {
    /// Loads a folder in the diffusers layout. `hooks` sees the bytes of the tensors that are read.
    pub async fn load<F: Folder>(
        device: &Device,
        folder: &F,
        options: &LoadOptions,
        hooks: Hooks<'_>,
    ) -> Result<Pipeline> {
        let index = read_json(folder, "model_index.json").await?;
        let index = ModelIndex::from_json(&index, "model_index.json")?;
        if index.class_name.contains("XL") {
            return Err(Error::unsupported(format!(
                "model_index.json: _class_name is {}, supported is StableDiffusionPipeline",
                index.class_name
            )));
        }
        let target = device.target(&options.activations)?;
        let scheduler = read_json(folder, "scheduler/scheduler_config.json").await?;
        let scheduler = schedule::Config::from_json(&scheduler, "scheduler/scheduler_config.json")?;
        let text =
            TextPart::load(device, folder, "tokenizer", "text_encoder", options.weights, hooks).await?;
        let unet = UnetPart::load(device, folder, "unet", options.weights, hooks).await?;
        let vae = VaePart::load(device, folder, "vae", options.weights, hooks, Network::decoder).await?;
        let (width, wanted) = (text.network.encoder.config.hidden_size, unet.config.cross_attention_dim);
        if width != wanted {
            return Err(Error::model(format!(
                "unet/config.json: cross_attention_dim is {wanted}, but the text encoder's hidden_size is {width}"
            )));
        }
        let (latent, inputs) = (vae.config.latent_channels(), unet.config.in_channels);
        if latent != inputs || unet.config.out_channels != inputs {
            return Err(Error::unsupported(format!(
                "unet/config.json: in_channels is {inputs} and out_channels {}, the autoencoder's latent_channels \
                 {latent}; they must be equal",
                unet.config.out_channels
            )));
        }
        Ok(Pipeline { text, unet, vae, scheduler, target, denoiser: None.into(), decoder: None.into() })
    }

    /// Replaces the model's own scheduler.
    pub fn set_scheduler(&mut self, scheduler: schedule::Config) {
        self.scheduler = scheduler;
    }

    /// The picture's size when the request names none: what the U-Net was trained for.
    pub fn default_size(&self) -> usize {
        self.unet.config.sample_size.unwrap_or(64) * self.vae.config.spatial_factor()
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
        let decoder_plan =
            kept_decoder.is_none().then(|| self.vae.plan(device, target, 1, job.size)).transpose()?;
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

    /// The request with everything decided and checked.
    fn task(&self, request: &Request) -> Result<Task> {
        let scheduler = match &request.scheduler {
            Some(name) => self.scheduler.with_class(name)?,
            None => self.scheduler.clone(),
        };
        let schedule = Schedule::new(&scheduler, request.steps.unwrap_or(scheduler.default_steps()))?;
        let factor = self.vae.config.spatial_factor();
        let [width, height] = request.size(self.default_size(), factor)?;
        let guidance = request.guidance()?;
        let job = Job {
            images: request.images()? as u32,
            guided: guidance > 1.0,
            size: [(height / factor) as u32, (width / factor) as u32],
            tokens: self.text.tokenizer.length() as u32,
        };
        Ok(Task { job, schedule, guidance, width, height, channels: self.vae.config.latent_channels() })
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
        let mut prompts = vec![];
        if task.job.guided {
            prompts.resize(request.prompts.len(), request.negative_prompt.as_str());
        }
        prompts.extend(request.prompts.iter().map(String::as_str));
        let mut warnings = vec![];
        let text = self.text.encode(device, &self.target, &prompts, watch, &mut warnings).await?;
        denoiser.set_text(device, &text, &watch.cancel).await?;
        let encoded = now();
        let latents = self.denoise(device, request, task, denoiser, watch).await?;
        let denoised = now();
        let images = self.decode(device, task, decoder, &latents, watch).await?;
        let timings =
            Timings { text: encoded - begun, denoise: denoised - encoded, decode: now() - denoised };
        Ok(Report { images, warnings, steps: task.schedule.steps.len(), timings })
    }

    /// From noise to latents, `[N, h, w, C]`. Draws come in diffusers' order: the start, then what each
    /// step wants.
    async fn denoise(
        &self,
        device: &Device,
        request: &Request,
        task: &Task,
        denoiser: &Denoiser,
        watch: &Watch<'_>,
    ) -> Result<Vec<f32>> {
        let (images, pixels, channels) = (task.job.images as usize, task.pixels(), task.channels);
        let mut generators: Vec<Generator> = request.seeds.all().iter().map(|&s| Generator::new(s)).collect();
        let size = channels * pixels * images / generators.len();
        let mut draw = || {
            let noise: Vec<f32> = generators.iter_mut().flat_map(|g| g.randn(size)).collect();
            nhwc(&noise, channels, pixels)
        };
        let start: Vec<f32> = draw().iter().map(|v| v * task.schedule.init_noise_sigma).collect();
        denoiser.start(device, &start);
        let steps = task.schedule.steps.len();
        for (i, step) in task.schedule.steps.iter().enumerate() {
            let progress =
                |f: f64| (watch.progress)(Stage::Step { step: i, steps }, (i as f64 + f) / steps as f64);
            denoiser.predict(device, step, &watch.cancel, &progress).await?;
            let noise = step.draws_noise.then(&mut draw);
            denoiser.advance(device, step, task.guidance, noise.as_deref(), &watch.cancel).await?;
            if let Some(dump) = watch.dump {
                let latents = nchw(&denoiser.latents(device).await?, channels, pixels);
                let [h, w] = task.job.size.map(|s| s as usize);
                dump(&format!("latents.{i}"), [images, channels, h, w], latents);
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

/// A request with everything decided.
struct Task {
    job: Job,
    schedule: Schedule,
    guidance: f32,
    /// Of the picture, in pixels.
    width: usize,
    height: usize,
    /// Of the latents.
    channels: usize,
}

impl Task {
    /// Of one picture's latents.
    fn pixels(&self) -> usize {
        self.job.size.map(|s| s as usize).iter().product()
    }
}
