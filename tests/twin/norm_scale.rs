/// From `x` `[images, pixels, channels]` to scale and shift, each `[images, channels]`.
pub fn norm_scale(
    x: &[f64],
    images: usize,
    groups: usize,
    weight: &[f64],
    bias: &[f64],
    epsilon: f64,
) -> (Vec<f64>, Vec<f64>) {
    let channels = weight.len();
    let width = channels / groups;
    let (mut scale, mut shift) = (vec![], vec![]);
    for image in x.chunks(x.len() / images) {
        for c in 0..channels {
            let group: Vec<f64> =
                image.chunks(channels).flat_map(|p| &p[c / width * width..][..width]).copied().collect();
            let mean = group.iter().sum::<f64>() / group.len() as f64;
            let variance = group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / group.len() as f64;
            let factor = weight[c] / (variance + epsilon).sqrt();
            scale.push(factor);
            shift.push(bias[c] - mean * factor);
        }
    }
    (scale, shift)
}
