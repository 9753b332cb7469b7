//! Latents of FLUX.2: squares of 2x2 cells of the autoencoder's network, normalised by the statistics of a batch norm
//! (diffusers' `_patchify_latents` and `bn` of AutoencoderKLFlux2).

/// Cells of a latent along a side.
const SIDE: usize = 2;

/// The statistics of each channel of a latent: those of a cell's channels follow one another by row and column.
pub struct Packing {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Packing {
    pub fn new(mean: &[f32], variance: &[f32], epsilon: f32) -> Packing {
        let std = variance.iter().map(|v| (v + epsilon).sqrt()).collect();
        Packing { mean: mean.to_vec(), std }
    }

    /// The cells of latents: `[h, w, C * 4]` to `[2h, 2w, C]`.
    pub fn cells(&self, latents: &[f32], width: usize) -> Vec<f32> {
        let mut cells = vec![0.0; latents.len()];
        self.each(latents.len(), width, |at, cell, channel| {
            cells[cell] = latents[at] * self.std[channel] + self.mean[channel];
        });
        cells
    }

    /// The latents of cells: `[2h, 2w, C]` to `[h, w, C * 4]`, where `width` is that of the latents.
    pub fn latents(&self, cells: &[f32], width: usize) -> Vec<f32> {
        let mut latents = vec![0.0; cells.len()];
        self.each(cells.len(), width, |at, cell, channel| {
            latents[at] = (cells[cell] - self.mean[channel]) / self.std[channel];
        });
        latents
    }

    /// The place of each value among latents, that among cells, and its channel.
    fn each(&self, count: usize, width: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let (channels, inner) = (self.mean.len(), self.mean.len() / (SIDE * SIDE));
        for at in 0..count {
            let (place, channel) = (at / channels, at % channels);
            let (row, column, within) = (place / width, place % width, channel % (SIDE * SIDE));
            let y = row * SIDE + within / SIDE;
            let x = column * SIDE + within % SIDE;
            visit(at, (y * width * SIDE + x) * inner + channel / (SIDE * SIDE), channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latent_is_four_cells() {
        // Two latents side by side, of cells of two channels.
        let packing = Packing::new(&[0.0; 8], &[1.0; 8], 0.0);
        let latents: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let top = [0.0, 4.0, 1.0, 5.0, 8.0, 12.0, 9.0, 13.0];
        let bottom = [2.0, 6.0, 3.0, 7.0, 10.0, 14.0, 11.0, 15.0];
        let cells = packing.cells(&latents, 2);
        assert_eq!(cells, [top, bottom].concat());
        assert_eq!(packing.latents(&cells, 2), latents);
    }

    #[test]
    fn statistics_are_those_of_the_channel() {
        let mean = [1.0, 2.0, 3.0, 4.0];
        let packing = Packing::new(&mean, &[3.0, 8.0, 15.0, 24.0], 1.0);
        assert_eq!(packing.cells(&[1.0; 4], 1), [3.0, 5.0, 7.0, 9.0]);
        assert_eq!(packing.latents(&[3.0, 5.0, 7.0, 9.0], 1), [1.0; 4]);
    }
}
