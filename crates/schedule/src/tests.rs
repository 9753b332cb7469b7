//! Expected numbers are printed by diffusers 0.36 on torch 2.9.1.

mod flows;
mod trajectories;
mod variants;

use super::*;
use crate::error::Code;

/// A value here is computed in double precision and rounded once; diffusers rounds about ten times in
/// float32, each by at most 2^-24.
const LIMIT: f32 = 10.0 * f32::EPSILON;

const LATENT: &str = r#""beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear""#;

fn config(class: &str, keys: &str) -> Config {
    let json = format!(r#"{{"_class_name": "{class}", {keys}}}"#);
    Config::from_json(json.as_bytes(), "scheduler_config.json").unwrap()
}

fn euler(keys: &str) -> Config {
    config("EulerDiscreteScheduler", &format!("{LATENT}, {keys}"))
}

fn lcm(keys: &str) -> Config {
    config("LCMScheduler", keys)
}

fn timesteps(config: &Config, steps: usize) -> Vec<f32> {
    Schedule::new(config, steps, 0).unwrap().steps.iter().map(|s| s.timestep).collect()
}

#[track_caller]
fn assert_close(got: &[f32], wanted: &[f32]) {
    assert_eq!(got.len(), wanted.len());
    for (g, w) in got.iter().zip(wanted) {
        assert!((g - w).abs() <= LIMIT * w.abs(), "{got:?} instead of {wanted:?}");
    }
}

#[track_caller]
fn assert_refused(config: &Config, steps: usize, code: Code, words: &str) {
    let error = Schedule::new(config, steps, 0).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(words), "{error}");
}

#[test]
fn alphas_are_bit_exact() {
    // FNV-1a over the little-endian bytes of torch's table.
    let wanted = [
        (LATENT, 1000, 0x552e_fb73_1a32_0022),
        (LATENT, 100, 0x4768_ee37_c24b_685b),
        (r#""beta_schedule": "linear""#, 1000, 0x5b0a_d40d_73df_8aec),
        (r#""beta_schedule": "linear""#, 1, 0xd41a_841d_370c_349a),
        (r#""beta_schedule": "scaled_linear""#, 999, 0x3904_bce4_4fb5_7ddc),
        (r#""beta_schedule": "squaredcos_cap_v2""#, 1000, 0x6d74_34fd_fe96_5e9e),
        (r#""beta_schedule": "squaredcos_cap_v2""#, 2, 0x315b_ee21_c20c_1bea_u64),
    ];
    let defaults = alphas::Defaults::new(alphas::Terminal::Unknown);
    for (keys, steps, hash) in wanted {
        let config = config("any", keys).with_key("num_train_timesteps", steps);
        let table = alphas::from_keys(&config.keys(), &defaults).unwrap();
        assert_eq!(table.len(), steps);
        let mut fnv = 0xcbf2_9ce4_8422_2325u64;
        for byte in table.iter().flat_map(|a| a.to_le_bytes()) {
            fnv = (fnv ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        assert_eq!(fnv, hash, "{keys}, {steps}: {} to {}", table[0], table[steps - 1]);
    }
}

#[test]
fn euler_tables() {
    let trailing = euler(r#""timestep_spacing": "trailing", "steps_offset": 1"#);
    let four = Schedule::new(&trailing, 4, 0).unwrap();
    assert_eq!(timesteps(&trailing, 4), [999.0, 749.0, 499.0, 249.0]);
    assert_close(&four.sigmas, &[14.614647, 4.081731, 1.612887, 0.6932054, 0.0]);
    assert_eq!(four.init_noise_sigma, four.sigmas[0]);
    // Halves, rounded where numpy's rounded stride puts them, and a number of steps for which
    // numpy.arange has one element too many.
    assert_eq!(timesteps(&trailing, 48)[..5], [999.0, 978.0, 957.0, 936.0, 916.0]);
    assert_eq!(timesteps(&trailing, 61).len(), 61);

    let leading = euler(r#""timestep_spacing": "leading", "steps_offset": 1"#);
    let three = Schedule::new(&leading, 3, 0).unwrap();
    assert_eq!(timesteps(&leading, 3), [667.0, 334.0, 1.0]);
    assert_close(&three.sigmas, &[2.92955, 0.9355102, 0.04131448, 0.0]);
    assert_close(&[three.init_noise_sigma], &[3.095523]);

    let linspace = euler(r#""final_sigmas_type": "sigma_min""#);
    assert_eq!(timesteps(&linspace, 4), [999.0, 666.0, 333.0, 0.0]);
    let four = Schedule::new(&linspace, 4, 0).unwrap();
    assert_close(&four.sigmas, &[14.614647, 2.9183085, 0.9323584, 0.029167535, 0.029167535]);
    // Between whole timesteps sigmas are interpolated.
    let six = Schedule::new(&linspace, 6, 0).unwrap();
    assert_eq!(six.steps[1].timestep, 799.2);
    assert_close(&six.sigmas[1..2], &[5.0924187]);
    assert_eq!(timesteps(&linspace, 1), [0.0]);
}

#[test]
fn euler_steps() {
    // One step of each prediction from sigma 14.614647 to 1.612887, x = 3, m = 0.5: the formulas of
    // EulerDiscreteScheduler.step in double precision.
    let wanted = [
        ("epsilon", [0.20479466, -4.3073235, -3.50088]),
        ("v_prediction", [0.20479466, -0.48485333, -0.10026144]),
        ("sample", [0.20479466, 0.5, 0.7759025]),
    ];
    for (prediction, [scaled, x0, prev]) in wanted {
        let keys = format!(r#""timestep_spacing": "trailing", "prediction_type": "{prediction}""#);
        let schedule = Schedule::new(&euler(&keys), 2, 0).unwrap();
        let step = schedule.steps[0];
        let got = step.p(3.0, 0.5);
        assert_close(
            &[step.input_scale * 3.0, got, step.prev(got, 3.0, 7.0, [7.0; 3], 7.0)],
            &[scaled, x0, prev],
        );
        assert_eq!(step.denoised(got, 3.0), got);
        // The last step ends at the predicted image.
        let last = schedule.steps[1];
        assert_eq!(last.prev(0.25, 3.0, 7.0, [7.0; 3], 7.0), 0.25);
        assert!(!last.draws_noise);
    }
}

#[test]
fn lcm_tables() {
    let fifty = lcm(r#""clip_sample": false"#);
    assert_eq!(timesteps(&fifty, 1), [999.0]);
    assert_eq!(timesteps(&fifty, 3), [999.0, 679.0, 339.0]);
    assert_eq!(timesteps(&fifty, 8), [999.0, 879.0, 759.0, 639.0, 499.0, 379.0, 259.0, 139.0]);
    assert_eq!(timesteps(&fifty.with_key("original_inference_steps", 100), 4), [999.0, 749.0, 499.0, 249.0]);
    let schedule = Schedule::new(&fifty, 4, 0).unwrap();
    assert_eq!(schedule.init_noise_sigma, 1.0);
    assert!(schedule.sigmas.is_empty());
    let draws: Vec<bool> = schedule.steps.iter().map(|s| s.draws_noise).collect();
    assert_eq!(draws, [true, true, true, false]);
}

#[test]
fn lcm_steps() {
    // The first of two steps, t = 999 then 499, x = 3, m = 0.5, noise = -1: the formulas of
    // LCMScheduler.step in double precision. timestep_scaling 0.001 makes both factors matter.
    let wanted = [
        ("epsilon", [36.639134, 33.365436, 16.731799]),
        ("v_prediction", [-0.29403895, 0.33801729, -0.6717843]),
        ("sample", [0.5, 1.0480851, -0.29761872]),
    ];
    for (prediction, [x0, denoised, prev]) in wanted {
        let keys = format!(r#""prediction_type": "{prediction}", "timestep_scaling": 0.001"#);
        let schedule = Schedule::new(&lcm(&keys), 2, 0).unwrap();
        let step = schedule.steps[0];
        let got = step.p(3.0, 0.5);
        assert_close(
            &[got, step.denoised(got, 3.0), step.prev(got, 3.0, 7.0, [7.0; 3], -1.0)],
            &[x0, denoised, prev],
        );
        let last = schedule.steps[1];
        assert_eq!(last.prev(0.25, 3.0, 7.0, [7.0; 3], 7.0), last.denoised(0.25, 3.0));
    }
    let clipped = Schedule::new(&lcm(r#""clip_sample": true, "clip_sample_range": 2.5"#), 1, 0).unwrap();
    assert_eq!(clipped.steps[0].p(3.0, 0.5), 2.5);
    assert_eq!(clipped.steps[0].p(-3.0, -0.5), -2.5);
}

#[test]
fn another_class_takes_explicit_keys_only() {
    let pndm = config("PNDMScheduler", r#""beta_end": 0.012, "set_alpha_to_one": false, "steps_offset": 1"#);
    let other = config("UniPCMultistepScheduler", r#""beta_end": 0.012"#);
    assert_refused(&other, 4, Code::Unsupported, "UniPCMultistepScheduler");
    let lcm = pndm.with_class("lcm").unwrap();
    assert_eq!(lcm.class().unwrap(), "LCMScheduler");
    assert_eq!(timesteps(&lcm, 4), [999.0, 759.0, 499.0, 259.0]);
    // PNDM's spacing by default is leading, Euler's linspace.
    assert_eq!(timesteps(&pndm.with_class("EulerDiscreteScheduler").unwrap(), 2), [999.0, 0.0]);
    assert_eq!(pndm.with_class("unipc").unwrap_err().code, Code::InvalidOption);
    // Settings of other classes are of no concern.
    assert!(lcm.with_key("use_beta_sigmas", true).check().is_ok());
}

#[test]
fn what_is_not_supported_is_named() {
    let cases = [
        ("use_exponential_sigmas", "true"),
        ("use_beta_sigmas", "true"),
        ("trained_betas", "[0.1,0.2]"),
        ("timestep_type", "\"continuous\""),
        ("interpolation_type", "\"log_linear\""),
        ("timestep_spacing", "\"random\""),
        ("final_sigmas_type", "\"one\""),
        ("prediction_type", "\"flow\""),
    ];
    for (key, value) in cases {
        let config = euler(&format!(r#""{key}": {value}"#));
        assert_refused(
            &config,
            2,
            Code::Unsupported,
            &format!("scheduler_config.json, {key}: {value} is not"),
        );
    }
    assert_refused(
        &lcm(r#""beta_schedule": "sigmoid""#),
        2,
        Code::Unsupported,
        "beta_schedule: \"sigmoid\" is not",
    );
    assert_refused(&lcm(r#""thresholding": true"#), 2, Code::Unsupported, "thresholding: true is not");
}

#[test]
fn wrong_values_are_named() {
    assert_refused(
        &lcm(r#""beta_end": "x""#),
        1,
        Code::InvalidModel,
        r#"beta_end: "x" found where a number"#,
    );
    assert_refused(&lcm(r#""beta_end": 1.5"#), 1, Code::InvalidModel, "to 1.5 (beta_end)");
    assert_refused(&lcm(r#""beta_start": -1"#), 1, Code::InvalidModel, "from -1 to");
    assert_refused(&lcm(r#""num_train_timesteps": 0"#), 1, Code::InvalidModel, "between 1 and 100000");
    assert_refused(&lcm(r#""num_train_timesteps": 20"#), 1, Code::InvalidModel, "50 is more than");
    assert_refused(
        &lcm(r#""clip_sample": true, "clip_sample_range": 0"#),
        1,
        Code::InvalidModel,
        "clip_sample_range",
    );
    let nameless = Config::from_json(b"{}", "scheduler_config.json").unwrap();
    assert_refused(&nameless, 1, Code::InvalidModel, "_class_name");
    assert!(Config::from_json(b"[]", "the/file").unwrap_err().message.starts_with("the/file is not"));
}

#[test]
fn steps_are_limited() {
    let words = "steps must be between 1 and 50 (original_inference_steps in scheduler_config.json), not";
    assert_refused(&lcm(r#""clip_sample": false"#), 0, Code::InvalidOption, &format!("{words} 0"));
    assert_refused(&lcm(r#""clip_sample": false"#), 51, Code::InvalidOption, &format!("{words} 51"));
    assert_refused(&euler("\"steps_offset\": 0"), 1001, Code::InvalidOption, "between 1 and 1000");
}

#[test]
fn infinities_are_read_as_null() {
    let json = br#"{"_class_name": "LCMScheduler", "a": -Infinity, "b": [NaN, Infinity], "c\"NaN": "\\", "beta_end": NaN}"#;
    let config = Config::from_json(json, "f").unwrap();
    assert_eq!(timesteps(&config, 1), [999.0]);
}

/// Every scheduler for every number of steps up to 50, as tests/golden/tables.py prints them, with 7 digits.
#[test]
fn tables_of_every_scheduler() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ref/sched/tables.json");
    let tables: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f32> {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let mut compared = 0;
    for (name, table) in tables.as_object().unwrap() {
        let config = Config::from_json(table["config"].to_string().as_bytes(), name).unwrap();
        for (steps, row) in table["rows"].as_object().unwrap() {
            let schedule = Schedule::new(&config, steps.parse().unwrap(), 0).unwrap();
            let found: Vec<f32> = schedule.steps.iter().map(|s| s.timestep).collect();
            for (what, found, wanted) in [
                ("timesteps", &found, numbers(&row["timesteps"])),
                ("sigmas", &schedule.sigmas, numbers(&row["sigmas"])),
            ] {
                let near = |(f, w): (&f32, &f32)| (f - w).abs() <= LIMIT * w.abs().max(1e-3);
                let all = found.len() == wanted.len() && found.iter().zip(&wanted).all(near);
                assert!(all, "{name}, {steps} steps, {what}: {found:?} instead of {wanted:?}");
                compared += wanted.len();
            }
        }
    }
    assert!(compared > 20_000, "{compared}");
}

/// A model that predicts velocity: samples of tests/golden/pndm_velocity.py.
#[test]
fn pndm_of_velocity() {
    let pndm = config("PNDMScheduler", &format!(r#"{LATENT}, "skip_prk_steps": true, "steps_offset": 1"#));
    let schedule = Schedule::new(&pndm.with_key("prediction_type", "v_prediction"), 6, 0).unwrap();
    let wanted = [0.6585571, 0.6687358, 0.6243444, 0.5724332, 0.5797468, 0.6059379, 0.6096843];
    let (mut x, mut last, mut before) = (0.75, 0.0, [0.0; 3]);
    for (i, (step, wanted)) in schedule.steps.iter().zip(wanted).enumerate() {
        let m = 0.5 - 0.125 * i as f32;
        if step.remembers {
            before = [last, before[0], before[1]];
        }
        last = step.p(x, m);
        x = step.prev(last, x, m, before, 0.0);
        assert!((x - wanted).abs() < 2e-6, "{i}: {x} instead of {wanted}");
    }
}
