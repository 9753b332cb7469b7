//! Configurations that end in noise alone, or were another scheduler's, beside what diffusers makes of them
//! (tests/golden/variants.py).

use serde_json::Value;

use super::*;

fn cases() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ref/sched/variants.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

#[test]
fn variants_run_as_in_diffusers() {
    let file = cases();
    let (model, noise) = (numbers(&file["model"]), numbers(&file["noise"]));
    let cases = file["cases"].as_object().unwrap();
    for (name, case) in cases {
        let config = Config::from_json(case["config"].to_string().as_bytes(), name).unwrap();
        let mut config = config.with_class(case["class"].as_str().unwrap()).unwrap();
        if let Some(eta) = case["eta"].as_f64() {
            config = config.with_key("eta", eta);
        }
        let steps = case["steps"].as_u64().unwrap() as usize;
        let schedule = Schedule::new(&config, steps, 0).unwrap_or_else(|e| panic!("{name}: {e}"));
        let first = case["first"].as_f64().unwrap() as f32;
        let mut x = 0.8 * schedule.init_noise_sigma;
        assert!((x - first).abs() <= LIMIT * first, "{name} begins at {x} instead of {first}");
        // Fractions of timesteps come of the difference of two logarithms.
        let found: Vec<f32> = schedule.steps.iter().map(|step| step.timestep).collect();
        let near = found.iter().zip(numbers(&case["timesteps"])).all(|(f, w)| (f - w).abs() <= 1e-3);
        assert!(near, "{name}: {found:?}");
        let (mut last, mut before) = (0.0, [0.0; 3]);
        let wanted = numbers(&case["samples"]);
        assert_eq!(wanted.len(), found.len(), "{name}");
        // diffusers rounds samples as large as the first one to float32, which nearly cancel in the first step.
        let limit = 2.0 * f32::EPSILON * first;
        for (i, step) in schedule.steps.iter().enumerate() {
            if step.remembers {
                before = [last, before[0], before[1]];
            }
            last = step.p(x, model[i]);
            x = step.prev(last, x, model[i], before, if step.draws_noise { noise[i] } else { 0.0 });
            let near = (x - wanted[i]).abs() <= 30.0 * LIMIT * wanted[i].abs().max(1.0) + limit;
            assert!(near, "{name}, step {i}: {x} instead of {}", wanted[i]);
        }
    }
    assert!(cases.len() > 25);
}

/// torch's vectorised square root is one bit off here and there, and a difference of two makes that larger.
#[test]
fn tables_end_in_noise_alone() {
    use alphas::Terminal::{Nearly, Zero};
    let cosine = r#""beta_schedule": "squaredcos_cap_v2""#;
    for (keys, terminal, wanted) in [
        (
            LATENT,
            Nearly,
            [0.99915, 0.6524568, 0.2410186, 0.03279908, 1.6530386e-05, 1.9679634e-07, 5.9604645e-08],
        ),
        (LATENT, Zero, [0.99915, 0.6524568, 0.2410186, 0.03279908, 1.6530386e-05, 1.9679634e-07, 0.0]),
        (
            r#""beta_schedule": "linear""#,
            Zero,
            [0.9999, 0.5188605, 0.0752462, 0.002644106, 3.6713934e-07, 4.2132733e-09, 0.0],
        ),
        (
            cosine,
            Nearly,
            [0.9999589, 0.8458812, 0.492265, 0.1431556, 0.0001953568, 2.2778138e-06, 5.9604645e-08],
        ),
    ] {
        let config = config("any", &format!(r#"{keys}, "rescale_betas_zero_snr": true"#));
        let table = alphas::from_keys(&config.keys(), &alphas::Defaults::new(terminal)).unwrap();
        for (at, wanted) in [0, 250, 500, 750, 990, 998].into_iter().zip(wanted) {
            let found: f32 = table[at];
            assert!((found - wanted).abs() <= 1e-5 * wanted, "{keys}, {at}: {found} instead of {wanted}");
        }
        assert_eq!(table[999], wanted[6]);
    }
}

/// Where nothing of the image is left, no prediction of the noise leads back to it.
#[test]
fn noise_alone_gives_no_picture_by_epsilon() {
    let keys = r#""rescale_betas_zero_snr": true, "clip_sample": false, "timestep_spacing": "trailing""#;
    for class in ["DDIMScheduler", "LCMScheduler", "TCDScheduler"] {
        let words =
            format!("scheduler_config.json, rescale_betas_zero_snr: with these settings step 0 of {class}");
        let config = config(class, keys);
        assert_refused(&config, 4, Code::InvalidModel, &words);
        // Steps that begin later have something of it.
        assert!(Schedule::new(&config, 4, 1).is_ok());
    }
}

/// One step without guidance is for models that were distilled to it.
#[test]
fn models_that_end_in_noise_alone_are_not_distilled() {
    let of = |keys: &str| {
        let config = euler(&format!(r#""timestep_spacing": "trailing"{keys}"#));
        (config.default_steps(), config.distilled())
    };
    assert_eq!(of(""), (1, true));
    assert_eq!(of(r#", "rescale_betas_zero_snr": false"#), (1, true));
    assert_eq!(of(r#", "rescale_betas_zero_snr": true"#), (20, false));
}

#[test]
fn a_key_that_a_class_has_not_is_told() {
    let keys = r#""rescale_betas_zero_snr": true, "skip_prk_steps": true"#;
    for class in ["PNDMScheduler", "HeunDiscreteScheduler"] {
        let warning = config(class, keys).unused().unwrap();
        let wanted = format!(
            "scheduler_config.json, rescale_betas_zero_snr: true is not used, since {class} has no zero terminal \
             signal-to-noise ratio"
        );
        assert_eq!((warning.code.as_str(), warning.message), ("unused", wanted));
        assert!(config(class, &keys.replace("true, ", "false, ")).unused().is_none());
    }
    assert!(config("EulerDiscreteScheduler", keys).unused().is_none());
}

#[test]
fn defaults_of_the_old_class_are_not_kept() {
    let keys = r#""beta_end": 0.012, "_use_default_values": ["beta_end", "timestep_spacing"], "timestep_spacing": "leading""#;
    let plain = config("EulerDiscreteScheduler", "\"steps_offset\": 0");
    let old = config("DPMSolverMultistepScheduler", keys);
    let table = |config: &Config| Schedule::new(config, 3, 0).unwrap();
    assert_eq!(table(&old.with_class("euler").unwrap()), table(&plain));
}

/// What somebody sets is no default any more.
#[test]
fn a_key_that_is_set_stays_with_another_class() {
    let keys = r#""prediction_type": "epsilon", "_use_default_values": ["prediction_type"]"#;
    let set = config("DDIMScheduler", keys).with_key("prediction_type", "v_prediction");
    assert_eq!(set.with_class("euler").unwrap().predicts(), "v_prediction");
}

#[test]
fn a_model_of_zero_snr_gets_a_scheduler_that_has_it() {
    let zero_snr = |class: &str, value: bool| {
        let keys = format!(r#""_use_default_values": ["{0}"], "{0}": {value}"#, "rescale_betas_zero_snr");
        let (config, changed) = config(class, &keys).with_zero_snr().unwrap();
        assert!(config.unused().is_none() && config.keys().flag("rescale_betas_zero_snr", false).unwrap());
        (config.class().unwrap().to_owned(), changed)
    };
    for class in ["PNDMScheduler", "HeunDiscreteScheduler"] {
        for value in [false, true] {
            let changed = Some(format!("{class} has none: DDIMScheduler is taken"));
            assert_eq!(zero_snr(class, value), ("DDIMScheduler".to_owned(), changed));
        }
    }
    let euler = "EulerDiscreteScheduler".to_owned();
    assert_eq!(zero_snr(&euler, true), (euler.clone(), None));
    let changed = "rescale_betas_zero_snr is false: the file's is taken".to_owned();
    assert_eq!(zero_snr(&euler, false), (euler, Some(changed)));
}

#[test]
fn words_of_sister_classes_are_mapped_and_others_refused() {
    let dpm = |keys: &str| config("DPMSolverMultistepScheduler", &format!("{LATENT}, {keys}"));
    let plain = Schedule::new(&dpm(r#""steps_offset": 0"#), 5, 0).unwrap();
    for (key, word) in [
        ("algorithm_type", "deis"),
        ("solver_type", "logrho"),
        ("solver_type", "bh1"),
        ("solver_type", "bh2"),
    ] {
        let mapped = dpm(&format!(r#""{key}": "{word}""#));
        assert_eq!(Schedule::new(&mapped, 5, 0).unwrap(), plain, "{word}");
    }
    for (key, word) in
        [("algorithm_type", "dpmsolver"), ("solver_type", "bh3"), ("variance_type", "learned_range")]
    {
        let words = format!(r#"{key}: "{word}" is not supported"#);
        assert_refused(&dpm(&format!(r#""{key}": "{word}""#)), 5, Code::Unsupported, &words);
    }
    assert!(Schedule::new(&dpm(r#""variance_type": "fixed_small""#), 5, 0).is_ok());
}
