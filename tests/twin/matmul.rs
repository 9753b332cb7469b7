use super::activate;
use tintype::plan::ops::Activation;

/// `x` is `[rows, inputs]`, `weight` is `[outputs, inputs]`.
pub fn matmul(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let inputs = weight.len() / bias.len();
    let dot = |row: &[f64], w: &[f64]| row.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
    let product = |row| weight.chunks(inputs).zip(bias).map(move |(w, b)| dot(row, w) + b);
    x.chunks(inputs).flat_map(product).collect()
}

/// `y` is `[rows, 2 * outputs]`, values then gates.
pub fn gated(y: &[f64], outputs: usize, activation: Activation) -> Vec<f64> {
    let gated = |row: &[f64], o: usize| row[o] * activate(activation, row[outputs + o]);
    y.chunks(2 * outputs).flat_map(|row| (0..outputs).map(|o| gated(row, o)).collect::<Vec<_>>()).collect()
}
