//! An image in tiles, for a device that cannot hold what a decoder makes of all of it at once. Neighbours overlap, and
//! are blended where they do, as with `enable_vae_tiling` of diffusers; unlike there, all tiles are of one size, so that
//! there is one plan, and are spread evenly, so that none is a sliver. Each tile has group norms of its own: where a
//! decoder has them, an image in tiles is not quite that in one piece.

/// Sides of tiles in cells of the latents, the best first.
const SIDES: [u32; 3] = [64, 32, 16];
/// Tiles are at most this large where memory is short.
const SMALL: u32 = 32;
/// More tiles than these take longer than anybody waits, and the image more memory than there may be.
const MOST: usize = 64;
/// What neighbours have in common at least, of a side: diffusers' `tile_overlap_factor` is a quarter, too.
const OVERLAP: u32 = 4;

/// Where the tiles of an image are, in cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Height and width of the whole image.
    pub size: [u32; 2],
    /// Height and width of each tile.
    pub tile: [u32; 2],
    /// The first row and column of each.
    corners: Vec<[u32; 2]>,
}

impl Tiles {
    /// With sides of at most `side` cells.
    pub fn new(size: [u32; 2], side: u32) -> Tiles {
        let tile = size.map(|whole| whole.min(side));
        let [rows, columns] = [0, 1].map(|axis| begins(size[axis], tile[axis]));
        let corners = rows.iter().flat_map(|&row| columns.iter().map(move |&column| [row, column])).collect();
        Tiles { size, tile, corners }
    }

    /// The whole in one piece, and then ever smaller tiles; only the small ones if memory is short.
    pub fn choices(size: [u32; 2], short: bool) -> Vec<Tiles> {
        let sides = [u32::MAX].into_iter().chain(SIDES).filter(|&side| !short || side <= SMALL);
        let mut choices: Vec<Tiles> = sides.map(|side| Tiles::new(size, side)).collect();
        choices.dedup();
        choices.retain(|tiles| tiles.count() <= MOST);
        if choices.is_empty() { vec![Tiles::new(size, u32::MAX)] } else { choices }
    }

    pub fn count(&self) -> usize {
        self.corners.len()
    }

    /// The `i`-th tile of latents, `[h, w, C]`.
    pub fn cut(&self, latents: &[f32], i: usize) -> Vec<f32> {
        let ([height, width], [rows, columns]) = (self.size.map(usize), self.tile.map(usize));
        let [row, column] = self.corners[i].map(usize);
        let channels = latents.len() / (height * width);
        let line = |y: usize| &latents[((row + y) * width + column) * channels..][..columns * channels];
        (0..rows).flat_map(line).copied().collect()
    }
}

/// The first cells of the tiles along one axis.
fn begins(whole: u32, tile: u32) -> Vec<u32> {
    let (overlap, rest) = (tile / OVERLAP, whole - tile);
    let more = rest.div_ceil(tile - overlap);
    (0..=more).map(|i| (i * rest + more / 2).checked_div(more).unwrap_or(0)).collect()
}

/// The image that decoded tiles are laid into.
pub struct Mosaic<'a> {
    tiles: &'a Tiles,
    /// Pixels for each cell along one side.
    factor: usize,
    /// Of the weighted tiles, `[H, W, 3]`.
    sums: Vec<f32>,
    /// `[H, W]`
    weights: Vec<f32>,
}

impl Mosaic<'_> {
    pub fn new(tiles: &Tiles, factor: usize) -> Mosaic<'_> {
        let pixels = tiles.size.iter().map(|&side| side as usize * factor).product::<usize>();
        Mosaic { tiles, factor, sums: vec![0.0; 3 * pixels], weights: vec![0.0; pixels] }
    }

    /// Lays the `i`-th tile, `[h, w, 3]`: it fades towards those sides where it has neighbours.
    pub fn lay(&mut self, i: usize, tile: &[f32]) {
        let width = usize(self.tiles.size[1]) * self.factor;
        let [row, column] = self.tiles.corners[i].map(|corner| usize(corner) * self.factor);
        let [down, across] = [0, 1].map(|axis| self.ramp(axis, self.tiles.corners[i][axis]));
        let lines = tile.chunks_exact(3 * across.len());
        for (y, (line, wy)) in lines.zip(&down).enumerate() {
            for (x, (pixel, wx)) in line.chunks_exact(3).zip(&across).enumerate() {
                let at = (row + y) * width + column + x;
                let weight = wy * wx;
                self.weights[at] += weight;
                self.sums[3 * at..][..3].iter_mut().zip(pixel).for_each(|(sum, v)| *sum += weight * v);
            }
        }
    }

    /// Weights of a tile's pixels along one axis.
    fn ramp(&self, axis: usize, corner: u32) -> Vec<f32> {
        let (tile, whole) = (self.tiles.tile[axis], self.tiles.size[axis]);
        let (length, fade) = (usize(tile) * self.factor, (usize(tile / OVERLAP) * self.factor) as f32);
        let (first, last) = (corner == 0, corner + tile == whole);
        let from = |side: usize, outermost: bool| if outermost { 1.0 } else { (side as f32 + 0.5) / fade };
        (0..length).map(|i| from(i, first).min(from(length - 1 - i, last)).min(1.0)).collect()
    }

    /// The image, `[H, W, 3]`.
    pub fn finish(mut self) -> Vec<f32> {
        for (pixel, weight) in self.sums.chunks_exact_mut(3).zip(&self.weights) {
            pixel.iter_mut().for_each(|v| *v /= weight);
        }
        self.sums
    }
}

/// Opaque rgba of an image, `[n, 3]` in about [-1, 1], as kernels/image.wgsl makes it.
pub fn levels(picture: &[f32]) -> Vec<u8> {
    let level = |v: f32| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    picture
        .chunks_exact(3)
        .flat_map(|pixel| [level(pixel[0]), level(pixel[1]), level(pixel[2]), 255])
        .collect()
}

fn usize(cells: u32) -> usize {
    cells as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_picture_and_overlap() {
        for whole in 1..200 {
            for side in SIDES {
                let tiles = Tiles::new([whole, 5], side);
                let tile = whole.min(side);
                let rows: Vec<u32> = tiles.corners.iter().map(|[row, _]| *row).collect();
                assert_eq!((rows[0], rows[rows.len() - 1] + tile), (0, whole));
                assert!(
                    rows.windows(2).all(|w| w[1] > w[0] && w[0] + tile >= w[1] + tile / OVERLAP),
                    "{rows:?}"
                );
                // No more than needed.
                assert_eq!(rows.len() as u32, 1 + (whole - tile).div_ceil(tile - tile / OVERLAP));
            }
        }
    }

    #[test]
    fn a_picture_that_is_cut_and_laid_is_the_picture() {
        let (height, width, factor) = (45, 70, 2);
        let pixel = |y: usize, x: usize| [y as f32, x as f32, (y * x) as f32];
        let tiles = Tiles::new([height, width], 16);
        let latents: Vec<f32> =
            (0..height as usize).flat_map(|y| (0..width as usize).flat_map(move |x| pixel(y, x))).collect();
        let mut mosaic = Mosaic::new(&tiles, factor);
        for i in 0..tiles.count() {
            let cells = tiles.cut(&latents, i);
            // A decoder that shows every cell as pixels of its own.
            let line = |y: usize| &cells[y / factor * 16 * 3..][..16 * 3];
            let tile: Vec<f32> = (0..16 * factor)
                .flat_map(|y| line(y).chunks_exact(3).flat_map(move |cell| cell.repeat(factor)))
                .collect();
            mosaic.lay(i, &tile);
        }
        let picture = mosaic.finish();
        assert_eq!(picture.len(), 3 * factor * factor * (height * width) as usize);
        for (i, found) in picture.chunks_exact(3).enumerate() {
            let (y, x) = (i / (width as usize * factor), i % (width as usize * factor));
            let wanted = pixel(y / factor, x / factor);
            // Weighted means of equal values, in single precision.
            assert!(
                found.iter().zip(wanted).all(|(a, b)| (a - b).abs() <= 1e-5 * b.max(1.0)),
                "{y} {x}: {found:?}"
            );
        }
    }

    #[test]
    fn neighbours_fade_into_one_another() {
        let tiles = Tiles::new([16, 28], 16);
        let mut mosaic = Mosaic::new(&tiles, 1);
        (0..2).for_each(|i| mosaic.lay(i, &[i as f32; 16 * 16 * 3]));
        let picture = mosaic.finish();
        let line: Vec<f32> = picture[..28 * 3].chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(line, [vec![0.0; 12], vec![0.125, 0.375, 0.625, 0.875], vec![1.0; 12]].concat());
    }

    #[test]
    fn tiles_that_are_not_square_fade_along_each_axis_by_their_own_side() {
        // Tiles of 8 x 16, and of 16 x 8: a quarter of the longer side is common to neighbours.
        for (size, step) in [([8, 28], 1), ([28, 8], 8)] {
            let tiles = Tiles::new(size, 16);
            assert_eq!(tiles.count(), 2);
            let mut mosaic = Mosaic::new(&tiles, 1);
            (0..2).for_each(|i| mosaic.lay(i, &[i as f32; 8 * 16 * 3]));
            let picture = mosaic.finish();
            let wanted = [vec![0.0; 12], vec![0.125, 0.375, 0.625, 0.875], vec![1.0; 12]].concat();
            for line in 0..8 {
                let at = |i: usize| picture[3 * if step == 1 { line * 28 + i } else { i * step + line }];
                assert_eq!((0..28).map(at).collect::<Vec<f32>>(), wanted, "{size:?}, line {line}");
            }
        }
    }

    #[test]
    fn the_whole_comes_first_where_there_is_room() {
        let sides = |size, short| Tiles::choices(size, short).iter().map(|t| t.tile).collect::<Vec<_>>();
        assert_eq!(sides([128, 96], false), [[128, 96], [64, 64], [32, 32]]);
        assert_eq!(sides([64, 64], false), [[64, 64], [32, 32], [16, 16]]);
        assert_eq!(sides([64, 64], true), [[32, 32], [16, 16]]);
        assert_eq!(sides([8, 8], false), [[8, 8]]);
        // Too many of them are none.
        assert_eq!(sides([512, 512], false), [[512, 512]]);
        assert_eq!(sides([512, 512], true), [[512, 512]]);
    }
}
