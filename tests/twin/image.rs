/// RGBA levels of `x` `[pixels, 3]` in -1 to 1.
pub fn image(x: &[f64]) -> Vec<u8> {
    let level = |v: &f64| ((v + 1.0) / 2.0 * 255.0).clamp(0.0, 255.0).round_ties_even() as u8;
    x.chunks(3).flat_map(|rgb| rgb.iter().map(level).chain([255])).collect()
}
