//! Latents to the images that are asked for.

use super::precision::Part;
use super::request::{Image, Stage};
use super::run::Run;
use super::tiles::levels;
use super::{Decoder, DenoiseSession, Pipeline, bins};
use crate::error::Result;
use crate::plan::Faults;

impl Pipeline {
    /// One image after the other, so that a batch takes the memory of one; all of them again, by another decoder, if they
    /// have to be decoded in f32.
    pub(super) async fn decode(
        &self,
        run: &Run<'_>,
        (denoiser, decoder): (&DenoiseSession, &mut Option<Decoder>),
        latents: &[f32],
    ) -> Result<Vec<Image>> {
        let size = run.task.job.size;
        let precision = &self.precision;
        loop {
            let elem = precision.target(Part::Decoder).elem;
            let current = decoder.as_ref().expect("a decoder");
            let (images, faults) = self.decode_by(run, current, latents).await?;
            let halves = u64::from(run.task.job.images) * current.watched_halves();
            if !precision.again(Part::Decoder, elem, faults, halves)? {
                return Ok(images);
            }
            // Its memory is wanted.
            decoder.take();
            let decoding = self.decoding(size, denoiser.plan())?;
            *decoder = Some(self.decoder(size, decoding).await?);
        }
    }

    async fn decode_by(
        &self,
        run: &Run<'_>,
        decoder: &Decoder,
        latents: &[f32],
    ) -> Result<(Vec<Image>, Faults)> {
        let Run { task, watch, progress, .. } = run;
        let (count, width, height) = (task.job.images as usize, task.width, task.height);
        let mut images = vec![];
        let mut floats = vec![];
        let mut faults = Faults::default();
        for latent in latents.chunks_exact(task.channels * task.pixels()) {
            let part = progress.part(Stage::Decode, decoder.work());
            let (mut rgba, found) = decoder.decode(latent, &watch.cancel, &part).await?;
            let mut sample = vec![];
            if watch.dump.is_some() || task.asked != [width, height] {
                sample = decoder.sample().await?;
            }
            if task.asked != [width, height] {
                sample = bins::fitted(&sample, [width, height], task.asked);
                rgba = levels(&sample);
            }
            let [width, height] = task.asked;
            images.push(Image { width, height, rgba });
            faults = faults.and(found);
            if watch.dump.is_some() {
                floats.extend(sample.iter().map(|v| (v / 2.0 + 0.5).clamp(0.0, 1.0)));
            }
        }
        if let Some(dump) = watch.dump {
            dump("image", [count, task.asked[1], task.asked[0], 3], floats);
        }
        Ok((images, faults))
    }
}
