//! Text to image: nothing but noise.

use super::{Draws, Source, Start};

pub fn start(source: &Source<'_>, draws: &mut Draws) -> Start {
    Start { latents: source.only_noise(&draws.noise()), ..Start::default() }
}
