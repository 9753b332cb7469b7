use super::activate;
use tintype::plan::ops::Activation;

/// `act(a x + b)`, repeated.
pub fn scale(x: &[f64], a: f64, b: f64, times: usize, activation: Activation) -> Vec<f64> {
    let once: Vec<f64> = x.iter().map(|v| activate(activation, a * v + b)).collect();
    once.repeat(times)
}
