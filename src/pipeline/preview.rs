//! Images on the way: what a step predicts of the image, without the noise that it still has.
//!
//! A tiny autoencoder decodes them as it decodes the image. For any other decoder they are as large as the latents,
//! and every colour is a linear function of a cell's channels. The factors are not a table of known models: they are
//! fitted, once for each loaded model and not before the first preview, to what its own decoder makes of a little noise.

use super::denoise::DenoiseSession;
use super::precision::Part;
use super::request::{Image, Watch};
use super::run::Run;
use super::{Decoder, Pipeline, VaePart};
use crate::error::Result;
use crate::host::Cancel;
use crate::model::config::VaeConfig;
use crate::plan::Target;
use crate::rng::Generator;

/// Cells along a side of what is decoded for the fit, and of one piece of it: neighbours are alike in latents, and a
/// decoder makes of white noise what it makes of nothing else.
const CELLS: usize = 16;
const COARSE: usize = 4;
/// How much of the noise is the cell's own; the variance is 1 in all, as that of latents.
const OWN: f32 = 0.4;

/// Red, green and blue as functions of a cell: a factor for each channel and what is added.
pub(super) struct Colours(Vec<[f64; 3]>);

impl Pipeline {
    /// The share of a decoding that a preview takes.
    pub(super) fn preview_work(&self, watch: &Watch<'_>, decoding: f64) -> f64 {
        match self.vae.config {
            VaeConfig::Tiny(_) if watch.preview.is_some() => decoding,
            _ => 0.0,
        }
    }

    /// Shows a step's prediction, `[N, h, w, C]`, of the first image.
    pub(super) async fn preview(
        &self,
        run: &Run<'_>,
        (denoiser, decoder): (&DenoiseSession, &Decoder),
        sample: Option<Vec<f32>>,
        step: usize,
        progress: &dyn Fn(f64),
    ) -> Result<()> {
        let Run { task, watch, .. } = run;
        let Some(preview) = watch.preview else { return Ok(()) };
        let coefficients = &task.schedule.steps[step];
        let mut latents = denoiser.predictions().await?;
        latents.truncate(task.channels * task.pixels());
        // Of some schedulers the prediction is the noise: the image follows from it and the sample.
        for (i, latent) in latents.iter_mut().enumerate() {
            *latent = coefficients.denoised(*latent, sample.as_ref().map_or(0.0, |sample| sample[i]));
        }
        let image = match self.vae.config {
            VaeConfig::Tiny(_) => Image {
                width: task.width,
                height: task.height,
                rgba: decoder.decode(&latents, &watch.cancel, progress).await?.0,
            },
            VaeConfig::Kl(_) | VaeConfig::Dc(_) => {
                let [height, width] = task.job.size.map(|side| side as usize);
                let colours = self.colours(&watch.cancel).await?;
                Image { width, height, rgba: colours.paint(&latents, task.channels) }
            }
        };
        watch.cancel.check()?;
        preview(&image, step + 1, task.schedule.steps.len());
        Ok(())
    }

    async fn colours(&self, cancel: &Cancel) -> Result<&Colours> {
        if let Some(colours) = self.colours.get() {
            return Ok(colours);
        }
        let channels = self.vae.config.latent_channels();
        let latents = noise(0, channels, COARSE);
        let cells = async |target: &Target| decoded(&self.vae, target, &latents, cancel).await;
        let (cells, _) = match cells(self.precision.target(Part::Decoder)).await? {
            // The fit is kept for good; that halves do not suffice is learned, and said, by the image itself.
            (_, true) => cells(self.precision.exact()).await?,
            fine => fine,
        };
        // Another call may have been faster: its fit is the same.
        Ok(self.colours.get_or_init(|| Colours::fit(&latents, channels, &cells)))
    }
}

/// What the decoder makes of latents, `[CELLS, CELLS, C]`: a colour for each cell, and whether halves spoiled them.
async fn decoded(
    vae: &VaePart,
    target: &Target,
    latents: &[f32],
    cancel: &Cancel,
) -> Result<(Vec<[f64; 3]>, bool)> {
    let size = [CELLS as u32; 2];
    let decoder = vae.decoder(target, vae.decoding(target, size, false)?).await?;
    let (_, faults) = decoder.decode(latents, cancel, &|_| {}).await?;
    let cells = averages(&decoder.sample().await?, vae.config.spatial_factor());
    Ok((cells, faults.spoil(decoder.watched_halves())))
}

impl Colours {
    /// Least squares: `cells` is `[n, 3]` and `latents` `[n, channels]`.
    fn fit(latents: &[f32], channels: usize, cells: &[[f64; 3]]) -> Colours {
        let count = channels + 1;
        // The normal equations, and behind each row its three right sides.
        let mut rows = vec![vec![0.0; count + 3]; count];
        for (latent, colour) in latents.chunks_exact(channels).zip(cells) {
            let inputs: Vec<f64> = latent.iter().map(|v| f64::from(*v)).chain([1.0]).collect();
            for (row, a) in rows.iter_mut().zip(&inputs) {
                let outer = inputs.iter().chain(colour);
                row.iter_mut().zip(outer).for_each(|(sum, b)| *sum += a * b);
            }
        }
        // So little that it matters only where channels say the same.
        (0..count).for_each(|i| rows[i][i] += 1e-6 * cells.len() as f64);
        // Positive definite: no pivots are needed.
        for i in 0..count {
            let pivot = rows[i].clone();
            for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                let factor = row[i] / pivot[i];
                row.iter_mut().zip(&pivot).for_each(|(value, p)| *value -= factor * p);
            }
        }
        let solved = |i: usize| [0, 1, 2].map(|c| rows[i][count + c] / rows[i][i]);
        Colours((0..count).map(solved).collect())
    }

    /// Opaque rgba of latents, `[n, channels]`.
    fn paint(&self, latents: &[f32], channels: usize) -> Vec<u8> {
        let (added, factors) = self.0.split_last().expect("what is added");
        let pixel = |cell: &[f32]| {
            let colour = |c: usize| {
                let sum = cell.iter().zip(factors).fold(added[c], |sum, (v, f)| sum + f64::from(*v) * f[c]);
                (sum * 255.0).round().clamp(0.0, 255.0) as u8
            };
            [colour(0), colour(1), colour(2), 255]
        };
        latents.chunks_exact(channels).flat_map(pixel).collect()
    }
}

/// `[CELLS, CELLS, channels]`: of each piece of `coarse` x `coarse` cells the same noise, and some of each cell's own.
fn noise(seed: u64, channels: usize, coarse: usize) -> Vec<f32> {
    let mut generator = Generator::new(seed);
    let pieces = CELLS / coarse;
    let common = generator.randn(pieces * pieces * channels);
    let own = generator.randn(CELLS * CELLS * channels);
    let share = if coarse == 1 { 0.0 } else { (1.0 - OWN * OWN).sqrt() };
    let at = |i: usize| {
        let (cell, channel) = (i / channels, i % channels);
        let piece = cell / CELLS / coarse * pieces + cell % CELLS / coarse;
        piece * channels + channel
    };
    let own_share = (1.0 - share * share).sqrt();
    own.iter().enumerate().map(|(i, own)| share * common[at(i)] + own_share * own).collect()
}

/// The means of `factor` x `factor` pixels, from 0 to 1, of a square image `[H, W, 3]` in [-1, 1].
fn averages(sample: &[f32], factor: usize) -> Vec<[f64; 3]> {
    let width = CELLS * factor;
    let mut cells = vec![[0.0; 3]; CELLS * CELLS];
    for (i, pixel) in sample.as_chunks::<3>().0.iter().enumerate() {
        let cell = &mut cells[i / width / factor * CELLS + i % width / factor];
        for (sum, value) in cell.iter_mut().zip(pixel) {
            *sum += (f64::from(*value) / 2.0 + 0.5) / (factor * factor) as f64;
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::device::Device;
    use crate::pipeline::{Half, Origin};
    use crate::quant::Format;
    use crate::shape::Elem;
    use crate::weights::{DiskFolder, Hooks};

    #[test]
    fn a_linear_decoder_is_found() {
        let latents = noise(3, 4, COARSE);
        let colour = |cell: &[f32]| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| f64::from(cell[i]));
            [0.51 + 0.1 * a - 0.2 * b, 0.25 + 0.05 * c, 0.75 - 0.1 * d + 0.1 * a]
        };
        let cells: Vec<[f64; 3]> = latents.chunks_exact(4).map(colour).collect();
        let Colours(found) = Colours::fit(&latents, 4, &cells);
        let wanted =
            [[0.1, 0.0, 0.1], [-0.2, 0.0, 0.0], [0.0, 0.05, 0.0], [0.0, 0.0, -0.1], [0.51, 0.25, 0.75]];
        for (found, wanted) in found.as_flattened().iter().zip(wanted.as_flattened()) {
            // What is added to the diagonal: a millionth.
            assert!((found - wanted).abs() < 1e-5, "{found} for {wanted}");
        }
        let rgba = Colours(found).paint(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 8.0, 9.0], 4);
        assert_eq!(rgba, [130, 64, 191, 255, 105, 166, 0, 255]);
    }

    /// How much of what a decoder makes of smooth latents a fit explains, 1 at most.
    fn explained(vae: &VaePart, coarse: usize) -> f64 {
        let target = Target::new(Elem::F32);
        let channels = vae.config.latent_channels();
        let cells = |latents: &[f32]| block_on(decoded(vae, &target, latents, &Cancel::default())).unwrap().0;
        let latents = noise(0, channels, coarse);
        let Colours(factors) = Colours::fit(&latents, channels, &cells(&latents));
        let (added, factors) = factors.split_last().unwrap();
        let smooth = noise(1, channels, CELLS / 2);
        let wanted = cells(&smooth);
        let (mut error, mut all) = (0.0, 0.0);
        for c in 0..3 {
            let mean = wanted.iter().map(|colour| colour[c]).sum::<f64>() / wanted.len() as f64;
            for (cell, colour) in smooth.chunks_exact(channels).zip(&wanted) {
                let found = cell.iter().zip(factors).fold(added[c], |s, (v, f)| s + f64::from(*v) * f[c]);
                error += (found - colour[c]).powi(2);
                all += (mean - colour[c]).powi(2);
            }
        }
        1.0 - error / all
    }

    /// Of the only trained decoder that is here, which is a tiny one.
    #[test]
    fn colours_explain_what_the_decoder_draws() {
        let folder = DiskFolder::new("models/builtin");
        let (origin, halves) = (Origin::of(&folder), [Half::Decoder]);
        let vae = VaePart::load(&Device::Cpu, &origin, "vae", Format::F32, Hooks::NONE, &halves);
        let vae = block_on(vae).unwrap();
        // Measured: 0.81 of the variance. Of a decoder whose latents were laid down in another way it was 0.73, but 0.48
        // where the colours were found from white noise.
        let smooth = explained(&vae, COARSE);
        assert!(smooth > 0.65, "{smooth} of the variance of smooth noise");
    }
}
