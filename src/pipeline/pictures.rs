//! Images that other networks see: ControlNets, T2I-Adapters, an IP-Adapter, the safety checker.

use super::precision::Part;
use super::request::{Image, Safety};
use super::run::Run;
use super::{Decoder, DenoiseSession, Encoded, Pipeline, VisionPart};
use crate::error::Result;
use crate::host::Cancel;
use crate::image::{Filter, Picture};
use crate::model::denoiser::Job;

impl Pipeline {
    /// Shows the networks beside the U-Net the images of a request.
    pub(super) async fn show_pictures(
        &self,
        run: &Run<'_>,
        sessions: (&DenoiseSession, &Decoder),
    ) -> Result<()> {
        let Run { request, task, watch, .. } = run;
        let (denoiser, _) = sessions;
        let Some(networks) = self.denoiser.network.unet().filter(|networks| networks.slots() > 0) else {
            return Ok(());
        };
        let unit = |picture: &Picture, channels: usize| -> Vec<f32> {
            let fit = picture.resized(task.width, task.height, Filter::Lanczos);
            match channels {
                1 => fit.greys().iter().map(|&v| f32::from(v) / 255.0).collect(),
                _ => fit.normalised([0.0; 3], [1.0; 3]),
            }
        };
        let controls = request.controls.iter().zip(&networks.controls);
        let controls: Vec<Vec<f32>> =
            controls.map(|(c, n)| unit(&c.picture, n.config.conditioning_channels)).collect();
        let adapters = request.adapters.iter().zip(&networks.adapters);
        let adapters: Vec<Vec<f32>> = adapters.map(|((p, _), n)| unit(p, n.config.in_channels)).collect();
        let mut prompt = vec![];
        if let (Some(vision), Some(adapter)) = (&self.vision, &networks.ip_adapter) {
            let Job { images, guided, .. } = task.job;
            prompt = match &request.image_prompt {
                Some((picture, _)) => {
                    let network = (Part::Vision, vision);
                    let encode = async |pixels: &[f32]| {
                        self.encode_pictures(network, pixels, sessions, &watch.cancel).await
                    };
                    let seen = vision.prompt(picture, adapter.config, guided, encode).await?;
                    [seen.negative, seen.positive].map(|rows| rows.repeat(images as usize)).concat()
                }
                None => {
                    let shape = adapter.image_proj.shape(task.job.rows());
                    vec![0.0; (shape.rows() * shape.c) as usize]
                }
            };
        }
        denoiser.set_pictures(&controls, &adapters, &prompt, &watch.cancel).await
    }

    /// What an image encoder makes of images: again in f32 where halves do not suffice. The sessions keep their memory.
    async fn encode_pictures(
        &self,
        (part, vision): (Part, &VisionPart),
        pixels: &[f32],
        (denoiser, decoder): (&DenoiseSession, &Decoder),
        cancel: &Cancel,
    ) -> Result<Encoded> {
        let precision = &self.precision;
        loop {
            let target = precision.target(part);
            let encoded = async {
                let plan = vision.plan(target, pixels)?;
                precision.check(part, &plan, &[denoiser.plan(), decoder.plan()])?;
                vision.encode(plan, pixels, cancel).await
            };
            let encoded = encoded.await.map_err(|error| precision.explain(part, error))?;
            if !precision.again(part, target.elem, encoded.faults, encoded.looked_at)? {
                return Ok(encoded);
            }
        }
    }

    /// Sets how much each network adds in a step. Returns whether a ControlNet adds anything.
    pub(super) fn scale_additions(&self, run: &Run<'_>, denoiser: &DenoiseSession, step: usize) -> bool {
        let Run { request, task, .. } = run;
        let Some(networks) = self.denoiser.network.unet().filter(|networks| networks.slots() > 0) else {
            return false;
        };
        let (rows, steps) = (task.job.rows(), task.schedule.steps.len());
        let mut controlled = false;
        let mut scales = vec![];
        for row in 0..rows {
            // In guess mode the negative prompt's half goes without.
            let left_out = request.guess_mode && task.job.guided && row < task.job.images;
            for (i, control) in networks.controls.iter().enumerate() {
                let input = request.controls.get(i).filter(|c| c.active(step, steps) && !left_out);
                controlled |= input.is_some_and(|c| c.scale != 0.0);
                scales.extend(control.factors(input.map_or(0.0, |c| c.scale), request.guess_mode));
            }
            let adapter = |i: usize| request.adapters.get(i).map_or(0.0, |(_, scale)| *scale);
            scales.extend((0..networks.adapters.len()).map(adapter));
            if networks.ip_adapter.is_some() {
                scales.push(request.image_prompt.as_ref().map_or(0.0, |(_, scale)| *scale));
            }
        }
        denoiser.set_scales(&scales);
        controlled
    }

    /// Asks the safety checker, if the request wants it.
    pub(super) async fn check_safety(
        &self,
        run: &Run<'_>,
        sessions: (&DenoiseSession, &Decoder),
        images: &mut [Image],
    ) -> Result<Vec<bool>> {
        let Run { request, watch, .. } = run;
        if request.safety == Safety::Off {
            return Ok(vec![]);
        }
        let safety = self.safety.as_ref().expect("a request for it was refused");
        let mut pixels = vec![];
        for image in &*images {
            pixels.extend(safety.vision.pixels(&Picture::new(image.width, image.height, 4, &image.rgba)?));
        }
        let network = (Part::Safety, &safety.vision);
        let encoded = self.encode_pictures(network, &pixels, sessions, &watch.cancel).await?;
        let verdicts = safety.verdicts(&encoded.image_embeds);
        for (image, verdict) in images.iter_mut().zip(&verdicts) {
            if verdict.flagged && request.safety == Safety::Block {
                image.rgba.chunks_exact_mut(4).for_each(|pixel| pixel[..3].fill(0));
            }
        }
        Ok(verdicts.iter().map(|v| v.flagged).collect())
    }
}
