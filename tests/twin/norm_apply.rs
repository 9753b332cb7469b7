use super::activate;
use tintype::plan::ops::Activation;

/// `x` is `[images, pixels, channels]`, `scale` and `shift` are `[images, channels]`.
pub fn norm_apply(
    x: &[f64],
    images: usize,
    scale: &[f64],
    shift: &[f64],
    activation: Activation,
) -> Vec<f64> {
    let channels = scale.len() / images;
    let image = x.len() / images;
    let affine = |(i, v): (usize, &f64)| {
        let at = i / image * channels + i % channels;
        activate(activation, v * scale[at] + shift[at])
    };
    x.iter().enumerate().map(affine).collect()
}
