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
}

/// The next sample and the predicted original. `model` has twice as many values under guidance.
pub fn step(k: Coefficients, model: &[f64], noise: &[f64], x: &[f64], x0: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let one = |i: usize| {
        let m = match model.get(x.len() + i) {
            Some(prompted) => model[i] + k.guidance * (prompted - model[i]),
            None => model[i],
        };
        let clean = (k.a * x[i] + k.b * m).clamp(-k.clip, k.clip);
        (k.c * clean + k.d * x[i] + k.e * x0[i] + k.f * noise[i], clean)
    };
    (0..x.len()).map(one).unzip()
}
