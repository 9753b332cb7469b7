/// Of `x` `[images, pixels, channels]` (one kernel of three; a whole norm goes by norm_scale.rs) the mean and the sum of squared deviations of each channel over each
/// slab of pixels: `[images, slabs, channels]` both.
pub fn norm_stats(x: &[f64], images: usize, channels: usize, slab: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut means, mut squares) = (vec![], vec![]);
    for image in x.chunks(x.len() / images) {
        for slab in image.chunks(slab * channels) {
            for c in 0..channels {
                let values: Vec<f64> = slab.chunks(channels).map(|pixel| pixel[c]).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                means.push(mean);
                squares.push(values.iter().map(|v| (v - mean).powi(2)).sum());
            }
        }
    }
    (means, squares)
}
