//! Initial latents: noise, an image under noise, or an image with a mask. A task is one file beside this one,
//! and one line where [`Pipeline::start`] chooses.

mod inpaint;
mod noise;
mod picture;
mod references;

use super::precision::Part;
use super::run::Run;
use super::task::Task;
use super::{Decoder, DenoiseSession, Half, Pipeline};
use crate::device::Session;
use crate::error::{Code, Result};
use crate::image::{Filter, Picture};
use crate::plan::{Faults, Plan, Target};
use crate::rng::Generator;
use crate::shape::{Elem, nhwc};
pub use inpaint::InpaintBlend;

/// The first sample, and what an inpainting needs beside it.
#[derive(Default)]
pub struct Start {
    /// `[N, h, w, C]`
    pub latents: Vec<f32>,
    /// Extra input channels of an inpainting U-Net: mask and latents of the masked image, `[N, h, w, 1 + C]`.
    pub channels: Option<Vec<f32>>,
    /// For any other U-Net: the known latents, put back around the mask after every step.
    pub blend: Option<InpaintBlend>,
}

/// What a task begins from.
struct Source<'a> {
    pipeline: &'a Pipeline,
    run: &'a Run<'a>,
    /// Of the sessions that keep their memory meanwhile.
    beside: [&'a Plan; 2],
}

impl Pipeline {
    pub(super) async fn start(
        &self,
        run: &Run<'_>,
        (denoiser, decoder): (&DenoiseSession, &Decoder),
        draws: &mut Draws,
    ) -> Result<Start> {
        let beside = [denoiser.plan(), decoder.plan()];
        let source = Source { pipeline: self, run, beside };
        let image = run.request.image.as_ref().filter(|_| run.task.references.is_empty());
        match (image, &run.request.mask) {
            (None, _) => Ok(noise::start(&source, draws)),
            (Some(picture), None) => picture::start(&source, picture, draws).await,
            (Some(picture), Some(mask)) => inpaint::start(&source, picture, mask, draws).await,
        }
    }
}

impl Source<'_> {
    /// An image at the size that is asked for.
    fn fit(&self, picture: &Picture) -> Picture {
        picture.resized(self.run.task.width, self.run.task.height, Filter::Lanczos)
    }

    /// Its pixels as the autoencoder takes them, `[H, W, 3]` in [-1, 1].
    fn pixels(&self, picture: &Picture) -> Vec<f32> {
        self.fit(picture).normalised([0.5; 3], [0.5; 3])
    }

    /// Noise as the first sample.
    fn only_noise(&self, noise: &[f32]) -> Vec<f32> {
        noise.iter().map(|v| v * self.run.task.schedule.init_noise_sigma).collect()
    }

    /// An image's latents under noise, as the first step expects them.
    fn under_noise(&self, latents: &[f32], noise: &[f32]) -> Vec<f32> {
        self.run.task.schedule.steps.first().expect("at least one step").noised(latents, noise)
    }

    /// The latents of an image, `[H, W, 3]` in [-1, 1], for all images.
    async fn encoded(&self, pixels: &[f32], draws: &mut Draws) -> Result<Vec<f32>> {
        let Source { pipeline, run, .. } = self;
        let sample = self.sample(pixels, [run.task.height, run.task.width].map(|side| side as u32)).await?;
        let latents = pipeline.vae.latents(&sample, || draws.each());
        Ok(draws.spread(latents))
    }

    /// What the encoder makes of an image, `[H, W, 3]` in [-1, 1], of this height and width.
    async fn sample(&self, pixels: &[f32], size: [u32; 2]) -> Result<Vec<f32>> {
        let Source { pipeline, run, .. } = self;
        let precision = &pipeline.precision;
        loop {
            let target = precision.target(Part::Encoder);
            let session = match self.encoder(target, size).await {
                Ok(session) => session,
                Err(error) if error.code == Code::OutOfMemory && precision.lower(Part::Encoder) => continue,
                Err(error) => return Err(precision.explain(Part::Encoder, error)),
            };
            session.reset_watch();
            session.write("input", pixels);
            session.run("vae", &run.watch.cancel, &|_| {}).await?;
            let (sample, faults) = session.read_watched("sample").await?;
            let faults = faults.and(Faults::of(&sample, target.elem != Elem::F32));
            let halves = session.plan().watched_halves("vae") + sample.len() as u64;
            if !precision.again(Part::Encoder, target.elem, faults, halves)? {
                return Ok(sample);
            }
        }
    }

    /// The encoder of one image.
    async fn encoder(&self, target: &Target, size: [u32; 2]) -> Result<Session> {
        let Pipeline { vae, precision, .. } = self.pipeline;
        let plan = vae.plan(target, Half::Encoder, 1, size)?;
        precision.check(Part::Encoder, &plan, &self.beside)?;
        vae.session_of(plan, Half::Encoder).await
    }
}

/// Random draws in diffusers' order: of a generator for all images, or of one for each.
pub struct Draws {
    generators: Vec<Generator>,
    images: usize,
    channels: usize,
    /// Of one image's latents.
    pixels: usize,
}

impl Draws {
    pub fn new(seeds: &[u64], task: &Task) -> Draws {
        Draws {
            generators: seeds.iter().map(|&s| Generator::new(s)).collect(),
            images: task.job.images as usize,
            channels: task.channels,
            pixels: task.pixels(),
        }
    }

    /// Noise for all images, `[N, h, w, C]`.
    pub fn noise(&mut self) -> Vec<f32> {
        self.draw(self.images / self.generators.len())
    }

    /// Noise for one image from each generator, `[generators, h, w, C]`.
    fn each(&mut self) -> Vec<f32> {
        self.draw(1)
    }

    fn draw(&mut self, pictures: usize) -> Vec<f32> {
        let count = pictures * self.channels * self.pixels;
        let noise: Vec<f32> = self.generators.iter_mut().flat_map(|g| g.randn(count)).collect();
        nhwc(&noise, self.channels, self.pixels)
    }

    /// Latents of one image, or one for each generator, for all images.
    fn spread(&self, latents: Vec<f32>) -> Vec<f32> {
        let pictures = latents.len() / (self.channels * self.pixels);
        latents.repeat(self.images / pictures)
    }
}
