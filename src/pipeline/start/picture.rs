//! Image to image: an image under noise.

use super::{Draws, Source, Start};
use crate::error::Result;
use crate::image::Picture;

/// Draws come in diffusers' order: the image's posterior, the noise.
pub async fn start(source: &Source<'_>, picture: &Picture, draws: &mut Draws) -> Result<Start> {
    let latents = source.encoded(&source.pixels(picture), draws).await?;
    let noise = draws.noise();
    Ok(Start { latents: source.under_noise(&latents, &noise), ..Start::default() })
}
