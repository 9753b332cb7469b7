//! Inpainting, by an inpainting U-Net, which takes mask and masked image as input channels, or by any other.

use super::{Draws, Source, Start};
use crate::error::Result;
use crate::image::Picture;
use crate::pipeline::task::Task;
use crate::schedule::Step;

/// Latents of the image around the mask, `[N, h, w, C]`, and their noise.
pub struct InpaintBlend {
    picture: Vec<f32>,
    noise: Vec<f32>,
    /// `[h, w]`: 1 where the image is made anew.
    mask: Vec<f32>,
    channels: usize,
}

impl InpaintBlend {
    /// Puts the known latents back around the mask, with as much noise as `next` expects; none after the last step.
    pub fn blend(&self, latents: &mut [f32], next: Option<&Step>) {
        let noised = next.map(|step| step.noised(&self.picture, &self.noise));
        let around = noised.as_ref().unwrap_or(&self.picture);
        let masks = self.mask.iter().cycle().flat_map(|m| std::iter::repeat_n(m, self.channels));
        for ((x, around), mask) in latents.iter_mut().zip(around).zip(masks) {
            *x = (1.0 - mask) * around + mask * *x;
        }
    }
}

/// Draws come in diffusers' order: the image's posterior, the noise, the masked image's posterior.
pub async fn start(
    source: &Source<'_>,
    picture: &Picture,
    mask: &Picture,
    draws: &mut Draws,
) -> Result<Start> {
    let (task, sizes) = (source.run.task, source.pipeline.denoiser.network.sizes());
    let pixels = source.pixels(picture);
    let mask: Vec<f32> = source.fit(mask).greys().iter().map(|&v| if v >= 128 { 1.0 } else { 0.0 }).collect();
    let only_noise = task.strength >= 1.0;
    let latents = match sizes.is_inpainting() && only_noise {
        true => vec![],
        false => source.encoded(&pixels, draws).await?,
    };
    let noise = draws.noise();
    let start = if only_noise { source.only_noise(&noise) } else { source.under_noise(&latents, &noise) };
    let hole = nearest(&mask, task);
    if !sizes.is_inpainting() {
        // diffusers encodes the masked image here as well and leaves it unused; its draw counts.
        if source.pipeline.vae.draws() {
            draws.each();
        }
        let blend = InpaintBlend { picture: latents, noise, mask: hole, channels: task.channels };
        return Ok(Start { latents: start, blend: Some(blend), ..Start::default() });
    }
    let masked: Vec<f32> =
        pixels.chunks_exact(3).zip(&mask).flat_map(|(p, m)| p.iter().map(move |v| v * (1.0 - m))).collect();
    let masked = source.encoded(&masked, draws).await?;
    let rows = masked.chunks_exact(task.channels).zip(hole.iter().cycle());
    let channels = rows.flat_map(|(z, m)| [m].into_iter().chain(z)).copied();
    Ok(Start { latents: start, channels: Some(channels.collect()), ..Start::default() })
}

/// A mask of pixels at the size of the latents: the first pixel of each.
fn nearest(mask: &[f32], task: &Task) -> Vec<f32> {
    let [h, w] = task.job.size.map(|s| s as usize);
    let (down, across) = (task.height / h, task.width / w);
    (0..h * w).map(|i| mask[i / w * down * task.width + i % w * across]).collect()
}
