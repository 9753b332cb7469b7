//! Shapes that a model was trained for: an image of any size is drawn in the nearest of them, and then made as large as it is
//! asked for (diffusers' `use_resolution_binning`).

/// Heights and widths in sixteenths of the side of a square image, from the widest on (`ASPECT_RATIO_256_BIN` and those of 512
/// and 1024).
const SIDES: [[usize; 2]; 33] = [
    [8, 32],
    [8, 29],
    [9, 28],
    [9, 27],
    [9, 26],
    [10, 25],
    [10, 24],
    [11, 23],
    [11, 22],
    [11, 21],
    [12, 21],
    [12, 20],
    [13, 19],
    [13, 18],
    [14, 18],
    [14, 17],
    [15, 17],
    [15, 16],
    [16, 16],
    [16, 15],
    [17, 15],
    [17, 14],
    [18, 14],
    [18, 13],
    [19, 13],
    [20, 12],
    [21, 12],
    [22, 11],
    [23, 11],
    [24, 10],
    [25, 10],
    [27, 9],
    [32, 8],
];
/// Models of this side have these, too (`ASPECT_RATIO_2048_BIN`).
const LARGE: usize = 2048;
const MORE: [[usize; 2]; 7] = [[8, 31], [8, 30], [26, 9], [28, 9], [29, 8], [30, 8], [31, 8]];

/// The width and the height in which an image of this one is drawn by a model for square images of this side; nothing where
/// such a model has no shapes of its own.
pub(super) fn nearest(side: usize, [width, height]: [usize; 2]) -> Option<[usize; 2]> {
    if ![256, 512, 1024, LARGE].contains(&side) {
        return None;
    }
    let more = if side == LARGE { &MORE[..] } else { &[] };
    // As the tables have them, which Python rounded.
    let ratio = |[h, w]: [usize; 2]| (h as f64 / w as f64 * 100.0).round_ties_even() / 100.0;
    let wanted = height as f64 / width as f64;
    let mut shapes: Vec<_> = SIDES.iter().chain(more).copied().collect();
    shapes.sort_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
    let off = |shape: &[usize; 2]| (ratio(*shape) - wanted).abs();
    let [h, w] = shapes.into_iter().min_by(|a, b| off(a).total_cmp(&off(b)))?;
    Some([w, h].map(|sixteenths| sixteenths * side / 16))
}

/// The middle of an image `[h, w, 3]` of this width and height, as large as `to`: torch's bilinear interpolation, and a crop
/// (diffusers' `resize_and_crop_tensor`).
pub(super) fn fitted(image: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let share = |axis: usize| to[axis] as f64 / from[axis] as f64;
    let ratio = share(0).max(share(1));
    // For each pixel along an axis the two that it lies between, and how much the second counts.
    let places = |axis: usize| -> Vec<(usize, usize, f32)> {
        // The product may be a little less than what the ratio was made of: diffusers loses a row to that, and the image.
        let resized = ((from[axis] as f64 * ratio) as usize).max(to[axis]);
        let scale = from[axis] as f32 / resized as f32;
        let place = |i: usize| {
            let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
            let first = at as usize;
            (first, (first + 1).min(from[axis] - 1), at - first as f32)
        };
        let begin = (resized - to[axis]) / 2;
        (begin..begin + to[axis]).map(place).collect()
    };
    let (columns, rows) = (places(0), places(1));
    let mut pixels = Vec::with_capacity(to[0] * to[1] * 3);
    for &(top, bottom, down) in &rows {
        for &(left, right, across) in &columns {
            for colour in 0..3 {
                let at = |row: usize, column: usize| image[(row * from[0] + column) * 3 + colour];
                let mix = |row: usize| at(row, left) * (1.0 - across) + at(row, right) * across;
                pixels.push(mix(top) * (1.0 - down) + mix(bottom) * down);
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of diffusers' `classify_height_width_bin`.
    #[test]
    fn the_nearest_shape_is_that_of_diffusers() {
        for (side, [width, height], wanted) in [
            (1024, [1024, 1024], [1024, 1024]),
            (1024, [512, 256], [1408, 704]),
            (1024, [1024, 256], [2048, 512]),
            (1024, [640, 512], [1088, 896]),
            (1024, [1024, 768], [1152, 832]),
            (1024, [512, 1536], [576, 1728]),
            (512, [1920, 1080], [672, 384]),
            (256, [300, 200], [304, 208]),
            (2048, [4096, 1072], [3968, 1024]),
            (2048, [1000, 2890], [1152, 3328]),
            (2048, [304, 1024], [1024, 3712]),
        ] {
            assert_eq!(nearest(side, [width, height]), Some(wanted), "{width}x{height} of {side}");
        }
        assert_eq!(nearest(96, [96, 96]), None);
    }

    /// Values of torch 2.9's `interpolate` and a crop.
    #[test]
    fn an_image_is_made_as_large_as_it_is_asked_for() {
        let image: Vec<f32> = (0..6).flat_map(|v| [v as f32, 10.0 * v as f32, 0.0]).collect();
        // Three by two pixels to four by four: first six by four, then the middle.
        let of = |to| fitted(&image, [3, 2], to).chunks_exact(3).map(|p| p[0]).collect::<Vec<_>>();
        assert_eq!(of([3, 2]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let rows = [0.0, 0.75, 2.25, 3.0];
        let wanted: Vec<f32> = rows.iter().flat_map(|r| [0.25, 0.75, 1.25, 1.75].map(|c| r + c)).collect();
        assert_eq!(of([4, 4]), wanted);
    }

    /// 640x480 in the shape that SANA draws it in, both in sixteenths: 30 / 52 of 52 is less than 30 in doubles.
    #[test]
    fn no_row_is_lost_to_rounding() {
        let image = [0.5; 72 * 52 * 3];
        assert_eq!(fitted(&image, [72, 52], [40, 30]), [0.5; 40 * 30 * 3]);
    }
}
