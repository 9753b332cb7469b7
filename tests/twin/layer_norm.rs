/// `x` is `[rows, channels]`.
pub fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64], epsilon: f64) -> Vec<f64> {
    let channels = weight.len();
    let mut y = vec![];
    for row in x.chunks(channels) {
        let mean = row.iter().sum::<f64>() / channels as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / channels as f64;
        y.extend((0..channels).map(|c| (row[c] - mean) / (variance + epsilon).sqrt() * weight[c] + bias[c]));
    }
    y
}

/// `x` is `[rows, channels]`.
pub fn rms_norm(x: &[f64], weight: &[f64], epsilon: f64) -> Vec<f64> {
    let row = |row: &[f64]| -> Vec<f64> {
        let squares = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        row.iter().zip(weight).map(|(v, w)| v / (squares + epsilon).sqrt() * w).collect()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

/// `x (1 + scale) + shift`, or of a gate `x tanh(scale) + shift`, for `x` `[images, rows, channels]` and vectors
/// `[images, channels]`.
pub fn modulate(x: &[f64], images: usize, scale: &[f64], shift: Option<&[f64]>, gate: bool) -> Vec<f64> {
    let (image, channels) = (x.len() / images, scale.len() / images);
    let vector = |v: &[f64], i: usize| v[i / image * channels + i % channels];
    let factor = |scale: f64| if gate { scale.tanh() } else { 1.0 + scale };
    let value = |i: usize| x[i] * factor(vector(scale, i)) + shift.map_or(0.0, |shift| vector(shift, i));
    (0..x.len()).map(value).collect()
}
