//! What denoising begins with: noise, a picture under noise, or a picture with a hole.

use super::request::{Request, Watch};
use super::task::Task;
use super::{Half, Pipeline};
use crate::device::Device;
use crate::error::Result;
use crate::image::{Filter, Picture};
use crate::rng::Generator;
use crate::schedule::Step;
use crate::shape::nhwc;

/// The first sample, and what an inpainting needs beside it.
pub struct Start {
    /// `[N, h, w, C]`
    pub latents: Vec<f32>,
    /// For a U-Net that sees the hole itself: mask and latents of the masked picture, `[N, h, w, 1 + C]`.
    pub channels: Option<Vec<f32>>,
    /// For any other U-Net: what is put back around the hole after every step.
    pub surroundings: Option<Surroundings>,
}

/// A picture around a hole, `[N, h, w, C]`, and the noise that it comes with.
pub struct Surroundings {
    picture: Vec<f32>,
    noise: Vec<f32>,
    /// `[h, w]`: 1 in the hole.
    mask: Vec<f32>,
    channels: usize,
}

impl Surroundings {
    /// Puts the picture around the hole, with as much noise as `next` expects; none behind the last step.
    pub fn put_back(&self, latents: &mut [f32], next: Option<&Step>) {
        let noised = next.map(|step| step.noised(&self.picture, &self.noise));
        let around = noised.as_ref().unwrap_or(&self.picture);
        let masks = self.mask.iter().cycle().flat_map(|m| std::iter::repeat_n(m, self.channels));
        for ((x, around), mask) in latents.iter_mut().zip(around).zip(masks) {
            *x = (1.0 - mask) * around + mask * *x;
        }
    }
}

/// Random draws in diffusers' order: of a generator for all pictures, or of one for each.
pub struct Draws {
    generators: Vec<Generator>,
    images: usize,
    channels: usize,
    /// Of one picture's latents.
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

    /// Noise for all pictures, `[N, h, w, C]`.
    pub fn noise(&mut self) -> Vec<f32> {
        self.draw(self.images / self.generators.len())
    }

    /// Noise for one picture from each generator, `[generators, h, w, C]`.
    fn each(&mut self) -> Vec<f32> {
        self.draw(1)
    }

    fn draw(&mut self, pictures: usize) -> Vec<f32> {
        let count = pictures * self.channels * self.pixels;
        let noise: Vec<f32> = self.generators.iter_mut().flat_map(|g| g.randn(count)).collect();
        nhwc(&noise, self.channels, self.pixels)
    }

    /// Latents of one picture, or one for each generator, for all pictures.
    fn spread(&self, latents: Vec<f32>) -> Vec<f32> {
        let pictures = latents.len() / (self.channels * self.pixels);
        latents.repeat(self.images / pictures)
    }
}

impl Pipeline {
    /// Draws come in diffusers' order: the picture's posterior, the noise, the masked picture's posterior.
    pub(super) async fn start(
        &self,
        device: &Device,
        request: &Request,
        task: &Task,
        draws: &mut Draws,
        watch: &Watch<'_>,
    ) -> Result<Start> {
        let plain = |noise: &[f32]| noise.iter().map(|v| v * task.schedule.init_noise_sigma).collect();
        let Some(picture) = &request.image else {
            return Ok(Start { latents: plain(&draws.noise()), channels: None, surroundings: None });
        };
        let first = task.schedule.steps.first().expect("at least one step");
        let fit = |p: &Picture| p.resized(task.width, task.height, Filter::Lanczos);
        let pixels = fit(picture).normalised([0.5; 3], [0.5; 3]);
        let Some(mask) = &request.mask else {
            let latents = self.encoded(device, &pixels, task, draws, watch).await?;
            let noise = draws.noise();
            return Ok(Start { latents: first.noised(&latents, &noise), channels: None, surroundings: None });
        };

        let mask: Vec<f32> = fit(mask).greys().iter().map(|&v| if v >= 128 { 1.0 } else { 0.0 }).collect();
        let sees_hole = self.unet.networks.sees_hole();
        let from_noise = task.strength >= 1.0;
        let latents = match sees_hole && from_noise {
            true => vec![],
            false => self.encoded(device, &pixels, task, draws, watch).await?,
        };
        let noise = draws.noise();
        let start = if from_noise { plain(&noise) } else { first.noised(&latents, &noise) };
        let hole = nearest(&mask, task);
        if !sees_hole {
            // diffusers encodes the masked picture here as well and leaves it unused; its draw counts.
            if self.vae.draws() {
                draws.each();
            }
            let surroundings = Surroundings { picture: latents, noise, mask: hole, channels: task.channels };
            return Ok(Start { latents: start, channels: None, surroundings: Some(surroundings) });
        }
        let masked: Vec<f32> = pixels
            .chunks_exact(3)
            .zip(&mask)
            .flat_map(|(p, m)| p.iter().map(move |v| v * (1.0 - m)))
            .collect();
        let masked = self.encoded(device, &masked, task, draws, watch).await?;
        let holes = hole.iter().cycle();
        let channels = masked
            .chunks_exact(task.channels)
            .zip(holes)
            .flat_map(|(z, m)| [m].into_iter().chain(z))
            .copied();
        Ok(Start { latents: start, channels: Some(channels.collect()), surroundings: None })
    }

    /// The latents of a picture, `[H, W, 3]` in [-1, 1], for all pictures.
    async fn encoded(
        &self,
        device: &Device,
        pixels: &[f32],
        task: &Task,
        draws: &mut Draws,
        watch: &Watch<'_>,
    ) -> Result<Vec<f32>> {
        let size = [task.height as u32, task.width as u32];
        let session = self.vae.session(device, &self.target, Half::Encoder, 1, size).await?;
        session.write(device, "input", pixels);
        session.run(device, "vae", &watch.cancel, &|_| {}).await?;
        let latents = self.vae.latents(&session.read(device, "sample").await?, || draws.each());
        Ok(draws.spread(latents))
    }
}

/// A mask of pixels at the size of the latents: the first pixel of each.
fn nearest(mask: &[f32], task: &Task) -> Vec<f32> {
    let [h, w] = task.job.size.map(|s| s as usize);
    let (down, across) = (task.height / h, task.width / w);
    (0..h * w).map(|i| mask[i / w * down * task.width + i % w * across]).collect()
}
