/// Queries, keys and values `[images, tokens, heads, size]`; attention with products of what is positive for weights.
pub fn linear_attention([q, k, v]: [&[f64]; 3], [images, tokens, heads, size]: [usize; 4]) -> Vec<f64> {
    let head =
        |x: &[f64], row: usize, h: usize| -> Vec<f64> { x[(row * heads + h) * size..][..size].to_vec() };
    let mut y = vec![];
    for (n, t, h) in
        (0..images * tokens * heads).map(|i| (i / (tokens * heads), i / heads % tokens, i % heads))
    {
        let query = head(q, n * tokens + t, h);
        let mut sums = vec![0.0; size];
        let mut total = 1e-15;
        for s in 0..tokens {
            let key = head(k, n * tokens + s, h);
            let weight: f64 = query.iter().zip(&key).map(|(q, k)| q.max(0.0) * k.max(0.0)).sum();
            total += weight;
            let value = head(v, n * tokens + s, h);
            sums.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * v);
        }
        y.extend(sums.into_iter().map(|sum| sum / total));
    }
    y
}
