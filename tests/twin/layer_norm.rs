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
