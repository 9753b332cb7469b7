//! Text and images to images: load a model folder, then turn requests into images.

mod beside;
mod bins;
mod compile;
mod component;
mod conditions;
mod decode;
mod denoise;
mod draw_progress;
mod family;
mod images;
mod labels;
pub mod ladder;
mod load;
mod load_progress;
mod needs;
mod origin;
pub mod packing;
mod parts;
mod pictures;
mod plans;
mod precision;
mod preview;
mod request;
mod run;
pub mod shares;
mod single;
mod start;
mod task;
mod text;
mod tiles;
mod vision;

use std::cell::{Cell, OnceCell, RefCell};

pub use decode::{Decoder, Half, Network, VaePart, vae_plan};
pub use denoise::{DenoiseSession, DenoiserPart, step_coefficients};
pub use needs::{Budget, Needs, Savings, Survey};
pub use origin::{Additions, FileIn, Origin};
pub use parts::{LoadOptions, read_json};
pub use plans::{Planned, Plans, network_plans, plans};
pub use request::{
    ControlInput, Image, Preview, Report, Request, Safety, Seeds, Sizes, Stage, Timings, Watch,
};
pub use single::{Described, ModelFiles, Prediction};
pub use text::{TextNetwork, TextPart, text_plan};
pub use vision::{Encoded, ImagePrompt, SafetyPart, Verdict, VisionPart};

use crate::device::Device;
use crate::error::{Code, Result};
use crate::host::now;
pub use crate::model::text::{HiddenState, TextUse};
use crate::plan::{Plan, Target};
use crate::quant::Format;
use crate::schedule;
use crate::shape::nchw;
use crate::warning::{Topic, Warning};
use crate::weights::Lora;
use conditions::EncodeBatch;
use decode::decoding_work;
use draw_progress::DrawProgress;
use family::Family;
use precision::{Part, Precision};
use preview::Colours;
use run::Run;
use start::{Draws, Start};
use task::Task;
use tiles::Tiles;

/// A loaded model on a device.
pub struct Pipeline {
    device: Device,
    family: &'static Family,
    /// The family's text encoders.
    texts: Vec<TextPart>,
    denoiser: DenoiserPart,
    vae: VaePart,
    /// The image encoder of an IP-Adapter.
    vision: Option<VisionPart>,
    safety: Option<SafetyPart>,
    loras: Vec<Lora>,
    /// How strongly each LoRA is merged; none while that is being changed, or where changing it failed.
    lora_scales: RefCell<Option<Vec<f32>>>,
    scheduler: schedule::Config,
    /// Whether an empty negative prompt stands for zeros.
    zeros_for_empty_prompt: bool,
    /// What the index says of it, for requests that say nothing.
    guidance_rescale: f64,
    /// Names that a prompt may have for a label, with its number.
    label_names: Vec<(String, usize)>,
    precision: Precision,
    /// Whether images are decoded in small tiles, since the device has too little memory.
    small_tiles: bool,
    /// What the plans of the text encoders are recorded for, where they are on the CPU beside the device.
    text_target: Option<Target>,
    warnings: Vec<Warning>,
    /// How the networks and the autoencoder are stored.
    pub formats: [Format; 2],
    /// The sessions of the last size, kept because people draw many images of one size.
    denoise_session: RefCell<Option<DenoiseSession>>,
    decoder: RefCell<Option<Decoder>>,
    /// Of previews, once there was one.
    colours: OnceCell<Colours>,
}

impl Pipeline {
    /// Something of each of the family's text encoders; nothing of those that the model is without, which are the last ones.
    fn each_encoder<T>(&self, of: impl IntoIterator<Item = T>) -> Vec<Option<T>> {
        let mut all: Vec<Option<T>> = of.into_iter().map(Some).collect();
        all.resize_with(self.family.encoders.len(), || None);
        all
    }

    /// Latents of a token of the denoiser along a side.
    fn patch(&self) -> usize {
        self.denoiser.network.sizes().patch
    }

    /// What the plans of the text encoders are recorded for.
    fn text_target(&self) -> &Target {
        self.text_target.as_ref().unwrap_or_else(|| self.precision.target(Part::Text))
    }

    /// Where it draws; text encoders may be on the CPU beside it.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What of the loading differs from what was asked for.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Replaces the model's own scheduler.
    pub fn set_scheduler(&mut self, scheduler: schedule::Config) {
        self.scheduler = scheduler;
    }

    /// The image's size when the request names none: what the denoiser was trained for.
    pub fn default_size(&self) -> usize {
        self.denoiser.network.sizes().sample_size.unwrap_or(64) * self.vae.config.spatial_factor()
    }

    /// Draws what the request asks for.
    pub async fn generate(&self, request: &Request, watch: &Watch<'_>) -> Result<Report> {
        self.check_loras()?;
        let task = self.task(request)?;
        let told = Cell::new(0.0);
        // At most once more for each network that halves do not suffice for.
        loop {
            if let Some(report) = self.attempt(request, &task, watch, &told).await? {
                return Ok(report);
            }
        }
    }

    /// None if it has to be done again, with a network in f32. `told` is the fraction that the caller has heard of.
    async fn attempt(
        &self,
        request: &Request,
        task: &Task,
        watch: &Watch<'_>,
        told: &Cell<f64>,
    ) -> Result<Option<Report>> {
        let batches = self.batches(request, task)?;
        let (job, precision) = (task.job, &self.precision);
        // The last sessions are taken out while they work: a second call meanwhile makes its own.
        let kept = self.denoise_session.take().filter(|d| d.job == job);
        let kept_decoder = self.decoder.take().filter(|d| d.size == job.size);
        // Both plans are checked before either takes memory.
        let target = precision.target(Part::Denoiser);
        let plan = kept.is_none().then(|| self.denoiser.plan(target, job)).transpose();
        let plan = plan.map_err(|error| precision.explain(Part::Denoiser, error))?;
        let denoise_plan = plan.as_ref().or(kept.as_ref().map(DenoiseSession::plan)).expect("one of both");
        let decoding = kept_decoder.is_none().then(|| self.decoding(job.size, denoise_plan)).transpose()?;
        let kept_decoding = kept_decoder.as_ref().map(|decoder| (&decoder.tiles, decoder.plan()));
        let (tiles, decode_plan) =
            decoding.as_ref().map(|(tiles, plan)| (tiles, plan)).or(kept_decoding).expect("one of both");
        precision.check(Part::Denoiser, denoise_plan, &[decode_plan])?;
        for EncodeBatch { plan, .. } in batches.iter().flatten() {
            precision.check(Part::Text, plan, &[denoise_plan, decode_plan])?;
        }
        let work = self.work(task, &batches, denoise_plan, decoding_work(tiles, decode_plan), watch);
        let texts = batches.iter().flatten().map(|batch| &batch.plan);
        let texts = texts.filter(|_| self.text_target.is_none());
        // The kernels of kept sessions are compiled.
        let new = [plan.as_ref(), decoding.as_ref().map(|(_, plan)| plan)];
        let plans: Vec<&Plan> = texts.chain(new.into_iter().flatten()).collect();
        let progress = DrawProgress::new(watch, self.device.uncompiled(&plans) > 0, work, told);
        let compiled = |done, count| progress.compile(done, count);
        self.device.compile(&plans, &compiled, &|| watch.cancel.is_cancelled()).await?;
        let denoiser = match (kept, plan) {
            (_, Some(plan)) => {
                let denoiser = self.denoiser.prepare(plan, job).await;
                denoiser.map_err(|error| precision.explain(Part::Denoiser, error))?
            }
            (kept, None) => kept.expect("no plan was needed"),
        };
        let mut decoder = Some(match (kept_decoder, decoding) {
            (_, Some(decoding)) => self.decoder(job.size, decoding).await?,
            (kept, None) => kept.expect("no plan was needed"),
        });
        let run = Run { request, task, watch, progress };
        let report = self.draw(&run, batches, &denoiser, &mut decoder).await;
        if !matches!(report, Ok(None)) {
            self.denoise_session.replace(Some(denoiser));
            self.decoder.replace(decoder);
        }
        report
    }

    /// The plan of the decoder of one image; in small tiles where f32, which halves made necessary, has no room in one piece
    /// beside the denoiser.
    fn decoding(&self, size: [u32; 2], denoiser: &Plan) -> Result<(Tiles, Plan)> {
        let precision = &self.precision;
        let target = precision.target(Part::Decoder);
        let choose = |short| self.vae.decoding(target, size, short);
        let fits = |(_, plan): &(Tiles, Plan)| precision.check(Part::Decoder, plan, &[denoiser]);
        let decoding = choose(self.small_tiles).and_then(|decoding| match fits(&decoding) {
            Ok(()) => Ok(decoding),
            Err(_) => choose(true).and_then(|tiles| fits(&tiles).map(|()| tiles)),
        });
        decoding.map_err(|error| precision.explain(Part::Decoder, error))
    }

    /// The decoder of one image; in halves where f32 that its configuration wants has no room.
    async fn decoder(&self, size: [u32; 2], decoding: (Tiles, Plan)) -> Result<Decoder> {
        let precision = &self.precision;
        match self.vae.decoder(precision.target(Part::Decoder), decoding).await {
            Err(error) if error.code == Code::OutOfMemory && precision.lower(Part::Decoder) => {
                let target = precision.target(Part::Decoder);
                let decoding = self.vae.decoding(target, size, self.small_tiles)?;
                self.vae.decoder(target, decoding).await
            }
            decoder => decoder.map_err(|error| precision.explain(Part::Decoder, error)),
        }
    }

    /// Executed FLOPs of a request.
    fn work(
        &self,
        task: &Task,
        batches: &[Vec<EncodeBatch<'_>>],
        denoising: &Plan,
        decoding: f64,
        watch: &Watch<'_>,
    ) -> f64 {
        let text: f64 = batches.iter().flatten().map(|batch| batch.plan.work("text")).sum();
        let steps = task.schedule.steps.len() as f64;
        let previews = (steps - 1.0) * self.preview_work(watch, decoding);
        text + steps * step_work(denoising) + previews + f64::from(task.job.images) * decoding
    }

    async fn draw(
        &self,
        run: &Run<'_>,
        batches: Vec<Vec<EncodeBatch<'_>>>,
        denoiser: &DenoiseSession,
        decoder: &mut Option<Decoder>,
    ) -> Result<Option<Report>> {
        let Run { request, task, watch, progress } = run;
        let begun = now();
        let Some(conditions) = self.conditions(run, batches).await? else {
            return Ok(None);
        };
        denoiser.set_conditions(&conditions, &watch.cancel).await?;
        let sessions = (denoiser, decoder.as_ref().expect("a decoder"));
        self.show_pictures(run, sessions).await?;
        self.show_references(run, sessions).await?;
        let encoded = now();
        let mut draws = Draws::new(request.seeds.all(), task);
        let start = self.start(run, sessions, &mut draws).await?;
        let latents = self.denoise(run, sessions, start, draws).await?;
        let Some(latents) = latents else { return Ok(None) };
        let denoised = now();
        let mut images = self.decode(run, (denoiser, decoder), &latents).await?;
        let sessions = (denoiser, decoder.as_ref().expect("the decoder that was used"));
        let unsafe_images = self.check_safety(run, sessions, &mut images).await?;
        progress.finish();
        let timings =
            Timings { text: encoded - begun, denoise: denoised - encoded, decode: now() - denoised };
        let mut warnings = task.warnings.clone();
        warnings.extend(self.precision.warnings());
        let tiles = &sessions.1.tiles;
        if tiles.count() > 1 {
            let [height, width] = tiles.tile.map(|side| side as usize * self.vae.config.cell());
            let tiles = tiles.count();
            warnings.push(Warning::new(
                Topic::Memory,
                format!("the image was decoded in {tiles} tiles of {width}x{height}: one piece takes more than the device can hold"),
            ));
        }
        Ok(Some(Report { images, warnings, steps: task.schedule.steps.len(), timings, unsafe_images }))
    }

    /// From the first sample to latents, `[N, h, w, C]`. After the first sample's draws come those that the steps want. None
    /// if it has to be done again in f32.
    async fn denoise(
        &self,
        run: &Run<'_>,
        (denoiser, decoder): (&DenoiseSession, &Decoder),
        start: Start,
        mut draws: Draws,
    ) -> Result<Option<Vec<f32>>> {
        let Run { task, watch, progress, .. } = run;
        denoiser.start(&start.latents);
        if let Some(channels) = &start.channels {
            denoiser.set_channels(channels);
        }
        let steps = &task.schedule.steps;
        for (i, step) in steps.iter().enumerate() {
            let stage = Stage::Step { step: i, steps: steps.len() };
            let part = progress.part(stage, step_work(denoiser.plan()));
            let controlled = self.scale_additions(run, denoiser, i);
            denoiser.predict(step, controlled, &watch.cancel, &part).await?;
            denoiser.rescale(task.guidance, task.guidance_rescale).await?;
            let noise = step.draws_noise.then(|| draws.noise());
            let shown = watch.preview.is_some() && i + 1 < steps.len();
            let before = match shown && step.denoised_sample != 0.0 {
                true => Some(denoiser.latents().await?),
                false => None,
            };
            denoiser.advance(step, task.guidance, noise.as_deref(), &watch.cancel).await?;
            if shown {
                let part = progress.part(stage, self.preview_work(watch, decoder.work()));
                self.preview(run, (denoiser, decoder), before, i, &part).await?;
            }
            if let Some(blend) = &start.blend {
                let mut latents = denoiser.latents().await?;
                blend.blend(&mut latents, steps.get(i + 1));
                denoiser.set_latents(&latents);
            }
            if let Some(dump) = watch.dump {
                let latents: Vec<f32> = denoiser.latents().await?.iter().map(|v| v * task.unit).collect();
                let latents = nchw(&latents, task.channels, task.pixels());
                let [h, w] = task.job.size.map(|s| s as usize);
                dump(&format!("latents.{i}"), [task.job.images as usize, task.channels, h, w], latents);
            }
        }
        let (latents, faults) = denoiser.result().await?;
        let elem = self.precision.target(Part::Denoiser).elem;
        let halves = steps.len() as u64 * denoiser.watched_halves();
        Ok((!self.precision.again(Part::Denoiser, elem, faults, halves)?).then_some(latents))
    }
}

/// Executed FLOPs of a step.
fn step_work(plan: &Plan) -> f64 {
    ["time", "control", "unet", "step"].map(|section| plan.work(section)).iter().sum()
}
