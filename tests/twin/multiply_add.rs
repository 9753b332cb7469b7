/// The sum of eight chains of 128 times `v <- 0.75 v + 0.125` that begin with `x`, `x + 1`, ... `x + 7`.
pub fn multiply_add(x: &[f64]) -> Vec<f64> {
    let chain = |begin: f64| (0..128).fold(begin, |v, _| 0.75 * v + 0.125);
    x.iter().map(|x| (0..8).map(|i| chain(x + f64::from(i))).sum()).collect()
}
