//! Options that no published model has: one element all the way, beside what diffusers computes.

use super::*;

/// The model's output and the noise in each step.
const MODEL: [f32; 8] = [0.5, -0.25, 1.0, 0.75, -1.5, 0.25, -0.5, 1.25];
const NOISE: [f32; 8] = [1.0, -0.5, 0.25, -1.0, 0.5, 0.75, -0.25, 1.5];

/// The sample after each step, from 1.
fn trajectory(class: &str, keys: &str, steps: usize) -> Vec<f32> {
    let config = config(class, &format!("{LATENT}, {keys}"));
    let (mut x, mut last, mut before) = (1.0, 0.0, [0.0; 3]);
    let steps = Schedule::new(&config, steps, 0).unwrap().steps;
    let each = steps.iter().zip(MODEL).zip(NOISE).map(|((step, m), noise)| {
        if step.remembers {
            before = [last, before[0], before[1]];
        }
        last = step.p(x, m);
        x = step.prev(last, x, m, before, if step.draws_noise { noise } else { 0.0 });
        x
    });
    each.collect()
}

#[track_caller]
fn assert_runs(class: &str, keys: &str, wanted: &[f32]) {
    // PNDM calls the model once more than it has steps.
    let steps = if class == "PNDMScheduler" { wanted.len() - 1 } else { wanted.len() };
    let got = trajectory(class, keys, steps);
    assert_eq!(got.len(), wanted.len());
    // Five steps of ten roundings by 2^-24 each, which a division by the signal, 1/15 of the sample, makes larger.
    let limit = 5.0 * 10.0 * 15.0 * f32::EPSILON / 2.0;
    for (g, w) in got.iter().zip(wanted) {
        assert!((g - w).abs() <= limit * w.abs().max(1.0), "{keys}: {got:?} instead of {wanted:?}");
    }
}

/// Whether each step draws noise, with weight or without: what is drawn afterwards depends on it.
fn draws(class: &str, keys: &str) -> Vec<bool> {
    let config = config(class, &format!("{LATENT}, {keys}"));
    Schedule::new(&config, 2, 0).unwrap().steps.iter().map(|step| step.draws_noise).collect()
}

#[test]
fn dpm_solver() {
    for (keys, wanted) in [
        (r#""solver_type": "heun""#, &[1.9064939, 4.624418, 6.4815845, 8.212322, 10.317019][..]),
        (
            r#""solver_type": "heun", "algorithm_type": "sde-dpmsolver++""#,
            &[2.5065246, 6.29427, 9.045937, 10.890012, 13.401367],
        ),
        (
            r#""final_sigmas_type": "sigma_min", "lower_order_final": false"#,
            &[2.2325969, 5.608029, 7.7110715, 8.57028],
        ),
        (r#""final_sigmas_type": "sigma_min""#, &[2.2325969, 5.608029, 7.7110715, 8.890269]),
        (
            r#""final_sigmas_type": "sigma_min", "lower_order_final": false, "euler_at_final": true"#,
            &[2.2325969, 5.608029, 7.7110715, 8.890269],
        ),
        (
            r#""solver_order": 1, "prediction_type": "v_prediction""#,
            &[0.89970523, 0.9329612, 0.4578168, -0.052561194],
        ),
        (r#""timestep_spacing": "trailing""#, &[2.852828, 7.1994348, 8.8985815]),
        (r#""use_karras_sigmas": true, "final_sigmas_type": "sigma_min""#, &[4.92602, 9.008668, 9.008668]),
    ] {
        assert_runs("DPMSolverMultistepScheduler", keys, wanted);
    }
}

#[test]
fn ddim() {
    for (keys, wanted) in [
        (r#""clip_sample": true, "clip_sample_range": 0.75"#, [0.8895266, 0.7423924, 0.7135406]),
        (
            r#""clip_sample": false, "prediction_type": "v_prediction", "set_alpha_to_one": false, "eta": 0.5"#,
            [0.87968075, 0.8167925, 0.8167925],
        ),
        (r#""clip_sample": false, "prediction_type": "sample""#, [0.9697299, -0.2006169, 1.0]),
    ] {
        assert_runs("DDIMScheduler", keys, &wanted);
    }
}

/// The table has no timestep 1000.
#[test]
fn an_offset_that_leads_out_of_the_table() {
    let config = config("DDIMScheduler", &format!(r#"{LATENT}, "steps_offset": 250"#));
    assert_refused(&config, 4, Code::InvalidModel, "leads to timestep 1000 with 4 steps");
    assert_eq!(timesteps(&config.with_key("steps_offset", 249), 4), [999.0, 749.0, 499.0, 249.0]);
}

#[test]
fn pndm() {
    let keys = r#""skip_prk_steps": true, "set_alpha_to_one": true"#;
    assert_runs("PNDMScheduler", keys, &[1.5659473, 2.0549982, 2.2623963, 2.5467625, 2.662389]);
    let keys = r#""skip_prk_steps": true, "timestep_spacing": "trailing""#;
    assert_runs("PNDMScheduler", keys, &[2.852828, 4.2746396, 7.8292704, 10.401883]);
}

#[test]
fn tcd() {
    let keys = r#""prediction_type": "v_prediction", "eta": 1.0"#;
    assert_runs("TCDScheduler", keys, &[0.8266829, 0.028261542, -0.64683056]);
    assert_eq!(draws("TCDScheduler", keys), [true, false]);
    let keys = r#""prediction_type": "sample", "eta": 0.0"#;
    assert_runs("TCDScheduler", keys, &[1.0862824, -0.2081106]);
    assert_eq!(draws("TCDScheduler", keys), [false, false]);
}

/// The model sees the sample scaled, which its output here does not depend on.
#[test]
fn euler_ancestral() {
    let keys = r#""prediction_type": "v_prediction""#;
    assert_runs("EulerAncestralDiscreteScheduler", keys, &[1.1297673, 0.5111345, 0.48154485]);
    assert_eq!(draws("EulerAncestralDiscreteScheduler", keys), [true, true]);
}
