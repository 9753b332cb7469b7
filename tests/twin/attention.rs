/// `q` is `[images, queries, heads, size]`, `k` and `v` are `[images, keys, heads, size]`.
pub fn attention([q, k, v]: [&[f64]; 3], images: usize, heads: usize, size: usize, causal: bool) -> Vec<f64> {
    let queries = q.len() / (images * heads * size);
    let keys = k.len() / (images * heads * size);
    let mut y = vec![0.0; q.len()];
    for n in 0..images {
        for h in 0..heads {
            let query = |t: usize, c: usize| q[((n * queries + t) * heads + h) * size + c];
            let at = |s: usize, c: usize| ((n * keys + s) * heads + h) * size + c;
            for t in 0..queries {
                let seen = if causal { t + 1 } else { keys };
                let score =
                    |s| (0..size).map(|c| query(t, c) * k[at(s, c)]).sum::<f64>() / (size as f64).sqrt();
                let scores: Vec<f64> = (0..seen).map(score).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in 0..size {
                    let mixed: f64 = (0..seen).map(|s| weights[s] * v[at(s, c)]).sum();
                    y[((n * queries + t) * heads + h) * size + c] = mixed / total;
                }
            }
        }
    }
    y
}
