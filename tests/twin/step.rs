/// What a scheduler says of one step.
#[derive(Clone, Copy)]
pub struct Coefficients {
    pub a: f64,
    pub b: f64,
    pub clip: f64,
    pub guidance: f64,
    pub c: f64,
    pub d: f64,
    pub e: f64,
    pub f: f64,
    pub before: [f64; 3],
    pub remembers: bool,
}

/// The next sample and the predictions, this one first. `model` has twice as many values under guidance;
/// `predictions` are the last one and three from before.
pub fn step(
    k: Coefficients,
    model: &[f64],
    noise: &[f64],
    x: &[f64],
    predictions: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let count = x.len();
    let mut kept = predictions.to_vec();
    if k.remembers {
        kept = [&predictions[..count], &predictions[..3 * count]].concat();
    }
    let mut next = vec![];
    for i in 0..count {
        let m = match model.get(count + i) {
            Some(prompted) => model[i] + k.guidance * (prompted - model[i]),
            None => model[i],
        };
        let p = (k.a * x[i] + k.b * m).clamp(-k.clip, k.clip);
        let [b1, b2, b3] = [1, 2, 3].map(|b| k.before[b - 1] * kept[b * count + i]);
        next.push(k.c * p + k.d * x[i] + k.e * m + k.f * noise[i] + b1 + b2 + b3);
        kept[i] = p;
    }
    (next, kept)
}
