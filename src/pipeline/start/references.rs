//! Pictures to edit, as further tokens of a denoiser that knows them (FLUX.2).

use super::Source;
use crate::error::{Error, Result};
use crate::image::{Filter, Picture};
use crate::model::denoiser::REFERENCES;
use crate::pipeline::Pipeline;
use crate::pipeline::request::Request;
use crate::pipeline::run::Run;
use crate::pipeline::{Decoder, DenoiseSession};

/// A larger one is made as large as this, as in diffusers' pipeline.
const PIXELS: usize = 1024 * 1024;
/// Of a side, and of the longer one as a multiple of the other.
const LEAST_SIDE: usize = 64;
const MOST_RATIO: usize = 8;

impl Pipeline {
    /// The pictures that a request shows a denoiser that edits, its `image` first, in whole latents.
    ///
    /// Errors: `InvalidOption` for more than it takes, for one that is too small or too long, for a strength, which such a
    /// denoiser has no use for, and for any where it shows none.
    pub(in crate::pipeline) fn references(&self, request: &Request) -> Result<Vec<Picture>> {
        if !self.denoiser.network.edits() {
            return match request.references.len() {
                0 => Ok(vec![]),
                _ => Err(Error::option("references: wanted a model that edits pictures, such as FLUX.2")),
            };
        }
        if let Some(strength) = request.strength {
            return Err(Error::option(format!(
                "strength: wanted none, since this model edits pictures as a whole, found {strength}"
            )));
        }
        let pictures: Vec<&Picture> = request.image.iter().chain(&request.references).collect();
        if pictures.len() > REFERENCES {
            let found = pictures.len();
            return Err(Error::option(format!(
                "references: wanted at most {REFERENCES} pictures, found {found}"
            )));
        }
        pictures.into_iter().map(|picture| fit(picture, self.vae.config.spatial_factor())).collect()
    }

    /// Encodes the pictures and shows them to the denoiser.
    pub(in crate::pipeline) async fn show_references(
        &self,
        run: &Run<'_>,
        (denoiser, decoder): (&DenoiseSession, &Decoder),
    ) -> Result<()> {
        if run.task.references.is_empty() {
            return Ok(());
        }
        let source = Source { pipeline: self, run, beside: [denoiser.plan(), decoder.plan()] };
        let factor = self.vae.config.spatial_factor();
        let mut tokens = vec![];
        for picture in &run.task.references {
            let size = [picture.height, picture.width].map(|side| side as u32);
            let sample = source.sample(&picture.normalised([0.5; 3], [0.5; 3]), size).await?;
            tokens.extend(self.vae.reference(&sample, picture.width / factor));
        }
        denoiser.set_references(&tokens, &run.watch.cancel).await
    }
}

/// A picture in whole latents of so many pixels along a side: the middle of it, at most as large as [`PIXELS`].
fn fit(picture: &Picture, multiple: usize) -> Result<Picture> {
    let [width, height] = [picture.width, picture.height];
    let (short, long) = (width.min(height), width.max(height));
    if short < LEAST_SIDE || long > MOST_RATIO * short {
        return Err(Error::option(format!(
            "references: wanted pictures of at least {LEAST_SIDE} pixels along a side and at most {MOST_RATIO} times as \
             long as wide, found {width}x{height}"
        )));
    }
    let area = width * height;
    let smaller = (area > PIXELS).then(|| {
        let scale = (PIXELS as f64 / area as f64).sqrt();
        let [width, height] = [width, height].map(|side| (side as f64 * scale) as usize);
        picture.resized(width, height, Filter::Lanczos)
    });
    let picture = smaller.as_ref().unwrap_or(picture);
    let [width, height] = [picture.width, picture.height].map(|side| side / multiple * multiple);
    Ok(picture.centre_crop(width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: usize, height: usize) -> Result<[usize; 2]> {
        let picture = Picture::new(width, height, 3, &vec![0; width * height * 3])?;
        fit(&picture, 16).map(|picture| [picture.width, picture.height])
    }

    #[test]
    fn pictures_are_in_whole_latents() {
        assert_eq!(size(64, 512).unwrap(), [64, 512]);
        assert_eq!(size(79, 100).unwrap(), [64, 96]);
        // 1254 x 836 pixels before they are cut.
        assert_eq!(size(1500, 1000).unwrap(), [1248, 832]);
        for (width, height) in [(63, 100), (600, 64)] {
            let error = size(width, height).unwrap_err();
            assert!(error.message.contains(&format!("found {width}x{height}")), "{error}");
        }
    }
}
