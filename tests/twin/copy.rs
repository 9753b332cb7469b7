/// `x`.
pub fn copy(x: &[f64]) -> Vec<f64> {
    x.to_vec()
}
