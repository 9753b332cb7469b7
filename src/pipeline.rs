//! Text to image: load a model folder, then turn requests into pictures.

mod decode;
mod denoise;
mod parts;
mod request;
mod text;

use std::cell::RefCell;

pub use decode::{Decoder, Network, VaePart, vae_plan};
pub use denoise::{Denoiser, Job, UnetPart, denoise_plan, step_coefficients};
pub use parts::{LoadOptions, read_json};
pub use request::{Image, Report, Request, Seeds, Stage, Timings};
pub use text::{TextPart, text_plan};

use crate::error::{Error, Result};
use crate::gpu::{Cancel, Gpu, now};
use crate::model::config::ModelIndex;
use crate::plan::Target;
use crate::rng::Generator;
use crate::schedule::{self, Schedule};
use crate::shape::{nchw, nhwc};
use crate::weights::{Folder, Hooks};

/// A loaded model on a GPU.
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
    pub dump: Option<&'a dyn Fn(&str, [usize; 4], Vec<f32>)>,
}

impl Pipeline {
    /// Loads a folder in the diffusers layout. `hooks` sees the bytes of the tensors that are read.
    pub async fn load<F: Folder>(
        gpu: &Gpu,
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
        let target = Target { elem: gpu.elem(&options.activations)?, taps: false };
        let scheduler = read_json(folder, "scheduler/scheduler_config.json").await?;
        let scheduler = schedule::Config::from_json(&scheduler, "scheduler/scheduler_config.json")?;
        let text = TextPart::load(gpu, folder, "tokenizer", "text_encoder", options.weights, hooks).await?;
        let unet = UnetPart::load(gpu, folder, "unet", options.weights, hooks).await?;
        let vae = VaePart::load(gpu, folder, "vae", options.weights, hooks, Network::decoder).await?;
        let (width, wanted) = (text.encoder.config.hidden_size, unet.config.cross_attention_dim);
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
    pub async fn generate(&self, gpu: &Gpu, request: &Request, watch: &Watch<'_>) -> Result<Report> {
        let scheduler = match &request.scheduler {
            Some(name) => self.scheduler.with_class(name)?,
            None => self.scheduler.clone(),
        };
        let steps = request.steps.unwrap_or(scheduler.default_steps());
        let schedule = Schedule::new(&scheduler, steps)?;
        let factor = self.vae.config.spatial_factor();
        let [width, height] = request.size(self.default_size(), factor)?;
        let images = request.images()?;
        let guidance = request.guidance()?;
        let guided = guidance > 1.0;
        let (h, w, channels) = (height / factor, width / factor, self.vae.config.latent_channels());
        // Both plans are checked before anything runs.
        let job = Job {
            images: images as u32,
            guided,
            size: [h as u32, w as u32],
            tokens: self.text.tokenizer.length() as u32,
        };
        let denoiser = self.unet.denoiser(gpu, &self.target, &self.denoiser, job).await?;
        let decoder = self.vae.decoder(gpu, &self.target, &self.decoder, [h, w]).await?;

        let begun = now();
        let mut prompts: Vec<&str> = if guided { vec![&request.negative_prompt; images] } else { vec![] };
        prompts.extend(request.prompts.iter().map(String::as_str));
        let mut warnings = vec![];
        let text = self.text.encode(gpu, &self.target, &prompts, watch, &mut warnings).await?;
        denoiser.set_text(gpu, &text, &watch.cancel).await?;

        let encoded = now();
        let mut generators: Vec<Generator> = request.seeds.all().iter().map(|&s| Generator::new(s)).collect();
        let size = channels * h * w * images / generators.len();
        let mut draw = || {
            let noise: Vec<f32> = generators.iter_mut().flat_map(|g| g.randn(size)).collect();
            nhwc(&noise, channels, h * w)
        };
        let start: Vec<f32> = draw().iter().map(|v| v * schedule.init_noise_sigma).collect();
        denoiser.start(gpu, &start);
        for (i, step) in schedule.steps.iter().enumerate() {
            let progress =
                |f: f64| (watch.progress)(Stage::Step { step: i, steps }, (i as f64 + f) / steps as f64);
            denoiser.predict(gpu, step, &watch.cancel, &progress).await?;
            let noise = step.draws_noise.then(&mut draw);
            denoiser.advance(gpu, step, guidance, noise.as_deref(), &watch.cancel).await?;
            if let Some(dump) = watch.dump {
                let latents = nchw(&denoiser.latents(gpu).await?, channels, h * w);
                dump(&format!("latents.{i}"), [images, channels, h, w], latents);
            }
        }
        let latents = denoiser.latents(gpu).await?;

        let denoised = now();
        let mut pictures = vec![];
        let mut floats = vec![];
        for (i, latent) in latents.chunks_exact(channels * h * w).enumerate() {
            let progress = |f: f64| (watch.progress)(Stage::Decode, (i as f64 + f) / images as f64);
            let rgba = decoder.decode(gpu, latent, &watch.cancel, &progress).await?;
            pictures.push(Image { width, height, rgba });
            if watch.dump.is_some() {
                floats.extend(decoder.sample(gpu).await?.iter().map(|v| (v / 2.0 + 0.5).clamp(0.0, 1.0)));
            }
        }
        if let Some(dump) = watch.dump {
            dump("image", [images, height, width, 3], floats);
        }
        let timings =
            Timings { text: encoded - begun, denoise: denoised - encoded, decode: now() - denoised };
        Ok(Report { images: pictures, warnings, steps, timings })
    }
}
