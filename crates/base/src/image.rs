//! Images of 8-bit RGB, cut and resized as Pillow does it, bit for bit: a network that was trained behind
//! Pillow sees the same pixels here.

use crate::error::{Error, Result};

/// `rgb` has `height` rows of `width` pixels, three bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Nearest,
    /// Cubic convolution with a = -1/2.
    Bicubic,
    /// A sinc under the middle of one three times as wide.
    Lanczos,
}

impl Picture {
    /// From rows of `channels` bytes a pixel: 3, or 4 with an alpha that is left out.
    pub fn new(width: usize, height: usize, channels: usize, bytes: &[u8]) -> Result<Picture> {
        let wanted = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
        if wanted != Some(bytes.len()) || bytes.is_empty() {
            return Err(Error::option(format!(
                "wanted {width} x {height} pixels of {channels} bytes, at least one, found {} bytes",
                bytes.len()
            )));
        }
        let rgb = bytes.chunks_exact(channels).flat_map(|pixel| &pixel[..3]).copied().collect();
        Ok(Picture { width, height, rgb })
    }

    /// Of another size, with the whole image in it.
    pub fn resized(&self, width: usize, height: usize, filter: Filter) -> Picture {
        assert!(width > 0 && height > 0, "an image of {width} x {height}");
        match filter {
            Filter::Nearest => self.nearest(width, height),
            Filter::Bicubic => self.resampled(width, height, 2.0, bicubic),
            Filter::Lanczos => self.resampled(width, height, 3.0, lanczos),
        }
    }

    /// The middle of the image, which must be as large.
    pub fn centre_crop(&self, width: usize, height: usize) -> Picture {
        assert!(
            width <= self.width && height <= self.height,
            "{width} x {height} of {} x {}",
            self.width,
            self.height
        );
        let (left, top) = ((self.width - width) / 2, (self.height - height) / 2);
        let rows = self.rgb.chunks_exact(self.width * 3).skip(top).take(height);
        let rgb = rows.flat_map(|row| &row[left * 3..(left + width) * 3]).copied().collect();
        Picture { width, height, rgb }
    }

    /// `(v / 255 - mean) / std` of every channel, `[H, W, 3]`.
    pub fn normalised(&self, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
        let unit = |v: u8| (f64::from(v) * (1.0 / 255.0)) as f32;
        let channels = (0..3).cycle();
        self.rgb.iter().zip(channels).map(|(&v, c)| (unit(v) - mean[c]) / std[c]).collect()
    }

    /// One byte a pixel: the luma of ITU-R 601, as Pillow rounds it.
    pub fn greys(&self) -> Vec<u8> {
        let weights = [19595, 38470, 7471];
        let luma = |p: &[u8]| p.iter().zip(weights).map(|(&v, w)| u32::from(v) * w).sum::<u32>();
        self.rgb.chunks_exact(3).map(|p| ((luma(p) + 0x8000) >> 16) as u8).collect()
    }

    fn nearest(&self, width: usize, height: usize) -> Picture {
        // Positions are added up, as Pillow does, and not multiplied: the last bit decides at borders.
        let places = |from: usize, to: usize| -> Vec<usize> {
            let step = from as f64 / to as f64;
            let all = std::iter::successors(Some(step * 0.5), |at| Some(at + step));
            all.take(to).map(|at| (at as usize).min(from - 1)).collect()
        };
        let (columns, rows) = (places(self.width, width), places(self.height, height));
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in rows {
            let row = &self.rgb[y * self.width * 3..][..self.width * 3];
            columns.iter().for_each(|x| rgb.extend(&row[x * 3..x * 3 + 3]));
        }
        Picture { width, height, rgb }
    }

    /// Across, then down, with the values between them rounded to bytes; a direction that keeps its length
    /// stays as it is.
    fn resampled(&self, width: usize, height: usize, support: f64, filter: fn(f64) -> f64) -> Picture {
        let mut rgb = self.rgb.clone();
        if width != self.width {
            rgb = resample(&rgb, self.width, 3, &windows(self.width, width, support, filter));
        }
        if height != self.height {
            rgb = resample(&rgb, self.height, width * 3, &windows(self.height, height, support, filter));
        }
        Picture { width, height, rgb }
    }
}

/// Weights are whole numbers of 2^-22: a sum of bytes times weights stays within 32 bits.
const PRECISION: u32 = 22;

/// What one new pixel is made of: the old pixels from `first` on, each with its weight.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// For each of `to` pixels along a line of `from`. `filter` is zero `support` pixels away from its middle;
/// it is stretched when the line becomes shorter, and cut off at the line's ends.
fn windows(from: usize, to: usize, support: f64, filter: fn(f64) -> f64) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let (support, inverse) = (support * stretch, 1.0 / stretch);
    let window = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        // Negative numbers become 0 here.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|x| filter((x as f64 - centre + 0.5) * inverse)).collect();
        let sum = weights.iter().sum::<f64>();
        let fixed = |w: &f64| {
            let share = if sum == 0.0 { *w } else { w / sum };
            // Halves away from zero.
            (share * f64::from(1 << PRECISION) + 0.5f64.copysign(share)) as i32
        };
        Window { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

/// `values` is `[.., length, inner]`; returns `[.., windows, inner]`.
fn resample(values: &[u8], length: usize, inner: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() / length * windows.len());
    let mut sums = vec![0; inner];
    for line in values.chunks_exact(length * inner) {
        for window in windows {
            sums.fill(1 << (PRECISION - 1));
            for (values, weight) in line[window.first * inner..].chunks_exact(inner).zip(&window.weights) {
                sums.iter_mut().zip(values).for_each(|(sum, &v)| *sum += i32::from(v) * weight);
            }
            out.extend(sums.iter().map(|sum| (sum >> PRECISION).clamp(0, 255) as u8));
        }
    }
    out
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of greys; other channels get other values, so that they cannot be mistaken for one another.
    fn line(greys: &[u8]) -> Picture {
        let rgb: Vec<u8> = greys.iter().flat_map(|&v| [v, 255 - v, 7]).collect();
        Picture::new(greys.len(), 1, 3, &rgb).unwrap()
    }

    /// The first channel of a line resized to `to` pixels, and of the same as a column.
    fn resized(greys: &[u8], to: usize, filter: Filter) -> Vec<u8> {
        let across = line(greys).resized(to, 1, filter);
        let down = Picture { width: 1, height: greys.len(), rgb: line(greys).rgb }.resized(1, to, filter);
        assert_eq!((across.width, across.height, down.width, down.height), (to, 1, 1, to));
        assert_eq!(across.rgb, down.rgb);
        assert!(across.rgb.chunks_exact(3).all(|p| p[2] == 7), "weights add up to 1");
        across.rgb.chunks_exact(3).map(|p| p[0]).collect()
    }

    /// The cubic is 0.8671875 at a quarter of a pixel, 0.2265625 at three and -0.0703125 at five: of 100 and
    /// 200 that makes (86.71875 - 14.0625) / 0.796875 = 91.2 and (86.71875 + 45.3125) / 1.09375 = 120.7.
    #[test]
    fn bicubic_enlarges() {
        assert_eq!(resized(&[100, 200], 4, Filter::Bicubic), [91, 121, 179, 209]);
    }

    /// Twice as wide, the cubic weighs four pixels by 0.8671875 (twice), 0.2265625 and -0.0703125, which are
    /// 1.890625 together: 255 * 0.8671875 / 1.890625 = 117.0; what lies below 0 or above 255 is cut off.
    #[test]
    fn bicubic_shrinks_and_clips() {
        assert_eq!(resized(&[0, 0, 0, 255], 2, Filter::Bicubic), [0, 117]);
        assert_eq!(resized(&[255, 255, 255, 0], 2, Filter::Bicubic), [255, 138]);
    }

    /// sinc(1/4) sinc(1/12) = 0.890067, sinc(3/4) sinc(1/4) = 0.270190, sinc(5/4) sinc(5/12) = -0.132871:
    /// of 100 and 200 that makes 62.4325 / 0.757196 = 82.45 and 143.04 / 1.160257 = 123.3.
    #[test]
    fn lanczos_enlarges_and_rounds_halves_up() {
        assert_eq!(resized(&[100, 200], 4, Filter::Lanczos), [82, 123, 177, 218]);
        assert_eq!(resized(&[10, 13], 1, Filter::Lanczos), [12]);
    }

    #[test]
    fn nearest_takes_the_pixel_in_the_middle() {
        assert_eq!(resized(&[1, 2, 3, 4, 5], 3, Filter::Nearest), [1, 3, 5]);
        assert_eq!(resized(&[1, 2], 5, Filter::Nearest), [1, 1, 2, 2, 2]);
    }

    /// 100.5 and 101.5 become 101 and 102, and their mean 102; the mean of all four is 101.
    #[test]
    fn the_two_passes_round_one_after_the_other() {
        let greys = [100, 101, 101, 102];
        let rgb: Vec<u8> = greys.iter().flat_map(|&v| [v; 3]).collect();
        let one = Picture::new(2, 2, 3, &rgb).unwrap().resized(1, 1, Filter::Bicubic);
        assert_eq!(one.rgb, [102; 3]);
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let picture = line(&[3, 1, 4, 1, 5]);
        for filter in [Filter::Nearest, Filter::Bicubic, Filter::Lanczos] {
            assert_eq!(picture.resized(5, 1, filter), picture);
        }
    }

    #[test]
    fn the_crop_lies_in_the_middle() {
        assert_eq!(line(&[1, 2, 3, 4, 5, 6]).centre_crop(3, 1), line(&[2, 3, 4]));
        let column = |greys| Picture { width: 1, height: 6, ..line(greys) }.centre_crop(1, 3).rgb;
        assert_eq!(column(&[1, 2, 3, 4, 5, 6]), line(&[2, 3, 4]).rgb);
    }

    /// 0.299 * 200 + 0.587 * 100 + 0.114 * 30 = 121.9; the first weighs 255 by 76.2, the last by 29.1.
    #[test]
    fn greys_are_rounded() {
        let picture = Picture::new(4, 1, 3, &[200, 100, 30, 255, 0, 0, 0, 0, 255, 255, 255, 255]).unwrap();
        assert_eq!(picture.greys(), [122, 76, 29, 255]);
    }

    #[test]
    fn alpha_is_left_out_and_lengths_are_checked() {
        let picture = Picture::new(1, 2, 4, &[1, 2, 3, 0, 4, 5, 6, 255]).unwrap();
        assert_eq!(picture.rgb, [1, 2, 3, 4, 5, 6]);
        assert_eq!(picture.normalised([0.0; 3], [1.0; 3])[5], 6.0 / 255.0);
        for (width, bytes) in [(1, &[1, 2][..]), (0, &[]), (usize::MAX, &[1, 2, 3])] {
            let e = Picture::new(width, 2, 3, bytes).unwrap_err();
            assert!(e.message.contains(&width.to_string()) && e.message.contains("pixels"), "{e}");
        }
    }
}
