/// `q` is `[images, queries, heads, size]`, `k` and `v` are `[images, keys, heads / shared, size]`.
pub struct Attention<'a> {
    pub q: &'a [f64],
    pub k: &'a [f64],
    pub v: &'a [f64],
    pub images: usize,
    pub heads: usize,
    pub size: usize,
    pub causal: bool,
    pub scale: f64,
    /// Heads of queries that share a head of keys.
    pub shared: usize,
    pub cap: Option<f64>,
    /// Of an image, a head, a query and a key.
    pub bias: &'a dyn Fn(usize, usize, usize, usize) -> f64,
}

/// Heads that have keys of their own, scores divided by the root of their size, nothing else.
pub fn attention([q, k, v]: [&[f64]; 3], images: usize, heads: usize, size: usize, causal: bool) -> Vec<f64> {
    let scale = 1.0 / (size as f64).sqrt();
    let bias = &|_, _, _, _| 0.0;
    attention_of(&Attention { q, k, v, images, heads, size, causal, scale, shared: 1, cap: None, bias })
}

pub fn attention_of(a: &Attention) -> Vec<f64> {
    let &Attention { q, k, v, images, heads, size, .. } = a;
    let others = heads / a.shared;
    let queries = q.len() / (images * heads * size);
    let keys = k.len() / (images * others * size);
    let mut y = vec![0.0; q.len()];
    for n in 0..images {
        for h in 0..heads {
            let query = |t: usize, c: usize| q[((n * queries + t) * heads + h) * size + c];
            let at = |s: usize, c: usize| ((n * keys + s) * others + h / a.shared) * size + c;
            for t in 0..queries {
                let seen = if a.causal { t + 1 } else { keys };
                let score = |s| {
                    let score = (0..size).map(|c| query(t, c) * k[at(s, c)]).sum::<f64>() * a.scale;
                    a.cap.map_or(score, |cap| cap * (score / cap).tanh()) + (a.bias)(n, h, t, s)
                };
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
