/// `a + k b` for `a` of as many images as there are `k`, `b` of as many or of one.
pub fn add(k: &[f64], a: &[f64], b: &[f64]) -> Vec<f64> {
    let image = a.len() / k.len();
    (0..a.len()).map(|i| a[i] + k[i / image] * b[i % b.len()]).collect()
}
