use super::rms_norm;

/// `x` is `[tokens, heads, size]`, the table `[tokens, size / 2]` has an angle's cosine and sine for each pair of channels:
/// neighbours, or half a head apart.
pub fn turn(x: &[f64], heads: usize, size: usize, table: &[(f64, f64)], neighbours: bool) -> Vec<f64> {
    let mut y = x.to_vec();
    for (i, head) in y.chunks_mut(size).enumerate() {
        let token = i / heads % (table.len() * 2 / size);
        for pair in 0..size / 2 {
            let (first, second) = if neighbours { (2 * pair, 2 * pair + 1) } else { (pair, pair + size / 2) };
            let ((a, b), (cosine, sine)) = ((head[first], head[second]), table[token * size / 2 + pair]);
            (head[first], head[second]) = (a * cosine - b * sine, b * cosine + a * sine);
        }
    }
    y
}

/// RMS norm of heads: `x` is `[images, tokens, sets, heads, size]`, `weight` `[segments, sets, size]`; tokens from `split` on
/// have the second segment.
pub fn head_norm(
    x: &[f64],
    [tokens, sets, heads, size]: [usize; 4],
    weight: &[f64],
    split: usize,
    epsilon: f64,
) -> Vec<f64> {
    let head = |(i, head): (usize, &[f64])| {
        let segment = usize::from(i / (sets * heads) % tokens >= split);
        let set = i / heads % sets;
        rms_norm(head, &weight[(segment * sets + set) * size..][..size], epsilon)
    };
    x.chunks(size).enumerate().flat_map(head).collect()
}
