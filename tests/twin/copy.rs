/// `x`.
pub fn copy(x: &[f64]) -> Vec<f64> {
    x.to_vec()
}

/// The values of each of `images` images in `a`, and behind them those in `b`.
pub fn join(images: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    let each = |x: &[f64], n: usize| x[n * x.len() / images..][..x.len() / images].to_vec();
    (0..images).flat_map(|n| [each(a, n), each(b, n)].concat()).collect()
}

/// `count` tokens from `from` on of every image of `x` `[images, tokens, channels]`.
pub fn slice(x: &[f64], images: usize, channels: usize, from: usize, count: usize) -> Vec<f64> {
    let each = x.len() / images;
    x.chunks(each).flat_map(|image| &image[from * channels..(from + count) * channels]).copied().collect()
}
