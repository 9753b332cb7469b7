use std::f64::consts::PI;

use tintype::plan::ops::Activation;

pub fn activate(kind: Activation, v: f64) -> f64 {
    match kind {
        Activation::None => v,
        Activation::Silu => v * sigmoid(v),
        Activation::Gelu => v / 2.0 * (1.0 + erf(v / 2f64.sqrt())),
        Activation::QuickGelu => v * sigmoid(1.702 * v),
        Activation::Relu => v.max(0.0),
        Activation::SoftClamp => 3.0 * (v / 3.0).tanh(),
        Activation::Signed => 2.0 * v - 1.0,
        Activation::Tanh => v.tanh(),
        Activation::GeluTanh => v / 2.0 * (1.0 + ((2.0 / PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh()),
    }
}

fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// erf(v) = 2 / sqrt(pi) * exp(-v^2) * sum of 2^n v^(2n+1) / (1 * 3 * 5 .. (2n+1)); all terms have one sign.
fn erf(v: f64) -> f64 {
    // Past 6 it differs from one by less than 1e-16.
    if v.abs() > 6.0 {
        return v.signum();
    }
    let (mut term, mut sum) = (v, v);
    for n in 1..200 {
        term *= 2.0 * v * v / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / PI.sqrt() * (-v * v).exp() * sum
}

#[test]
fn erf_as_in_tables() {
    for (v, want) in
        [(0.0, 0.0), (0.5, 0.5204998778130465), (-1.0, -0.8427007929497149), (3.0, 0.9999779095030014)]
    {
        assert!((erf(v) - want).abs() < 1e-14, "erf({v}) = {}", erf(v));
    }
}
