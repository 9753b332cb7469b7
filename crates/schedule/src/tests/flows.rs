//! Schedules of diffusion transformers, beside what diffusers makes of them (tests/golden/flows.py).

use serde_json::Value;

use super::*;

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ref/sched/flows.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().map_or(vec![], |list| list.iter().map(|v| v.as_f64().unwrap() as f32).collect())
}

fn flow(keys: &str) -> Config {
    config("FlowMatchEulerDiscreteScheduler", keys)
}

fn scm(keys: &str) -> Config {
    config("SCMScheduler", keys)
}

/// The absolute error grows with the steps, while samples may come near 0.
#[track_caller]
fn assert_near(what: &str, got: &[f32], wanted: &[f32]) {
    let near = |(g, w): (&f32, &f32)| (g - w).abs() <= 2.0 * LIMIT * w.abs().max(1.0);
    assert!(got.len() == wanted.len() && got.iter().zip(wanted).all(near), "{what}: {got:?}, not {wanted:?}");
}

/// One number through all steps: what the network sees, and the samples.
fn run(file: &Value, schedule: &Schedule, first: f32) -> [Vec<f32>; 2] {
    let (model, noise) = (numbers(&file["model"]), numbers(&file["noise"]));
    let (mut seen, mut samples, mut x) = (vec![], vec![], first);
    for (i, step) in schedule.steps.iter().enumerate() {
        seen.push(step.input_scale * x);
        let noise = if step.draws_noise { noise[i] } else { 0.0 };
        x = step.prev(step.p(x, model[i]), x, model[i], [0.0; 3], noise);
        samples.push(x);
    }
    [seen, samples]
}

#[test]
fn flows_run_as_in_diffusers() {
    let file = file();
    let mut compared = 0;
    for (name, case) in file["flows"].as_object().unwrap() {
        let plain = Config::from_json(case["config"].to_string().as_bytes(), name).unwrap();
        plain.check().unwrap();
        for (steps, row) in case["rows"].as_object().unwrap() {
            let (what, steps) = (format!("{name}, {steps} steps"), steps.parse().unwrap());
            let even = case["even"].as_bool().unwrap();
            let mut config = if even { plain.with_even_sigmas(steps) } else { plain.clone() };
            if let Some(mu) = row["mu"].as_f64() {
                config = config.with_key("mu", mu);
            }
            let schedule = Schedule::new(&config, steps, 0).unwrap();
            let found: Vec<f32> = schedule.steps.iter().map(|step| step.timestep).collect();
            let (sigmas, times) = (numbers(&row["sigmas"]), numbers(&row["timesteps"]));
            if plain.keys().given("shift_terminal").unwrap().is_none() {
                assert_close(&schedule.sigmas, &sigmas);
                assert_close(&found, &times);
            } else {
                // Distances from 1, which diffusers stretches, are rounded there as 1 is.
                let shares = |times: &[f32]| times.iter().map(|t| t / 1000.0).collect::<Vec<f32>>();
                assert_near(&what, &schedule.sigmas, &sigmas);
                assert_near(&what, &shares(&found), &shares(&times));
            }
            if row["samples"].is_array() {
                let [_, samples] = run(&file, &schedule, 0.75);
                assert_near(&what, &samples, &numbers(&row["samples"]));
                compared += samples.len();
            }
        }
    }
    assert!(compared > 120, "{compared}");
}

#[test]
fn mu_is_that_of_diffusers() {
    let file = file();
    let near = |found: f64, wanted: &Value| {
        let wanted = wanted.as_f64().unwrap();
        assert!((found - wanted).abs() < 1e-12, "{found} instead of {wanted}");
    };
    let dynamic = flow(r#""use_dynamic_shifting": true"#);
    for (tokens, wanted) in file["linear mu"].as_object().unwrap() {
        let tokens = tokens.parse().unwrap();
        near(linear_mu(tokens, (256, 0.5), (4096, 1.15)), wanted);
        let said = dynamic.with_linear_mu(tokens).unwrap().keys().given("mu").unwrap().unwrap();
        near(said, wanted);
    }
    for (place, wanted) in file["empirical mu"].as_object().unwrap() {
        let (tokens, steps) = place.split_once('/').unwrap();
        let (tokens, steps) = (tokens.parse().unwrap(), steps.parse().unwrap());
        near(empirical_mu(tokens, steps), wanted);
        near(dynamic.with_empirical_mu(tokens, steps).keys().given("mu").unwrap().unwrap(), wanted);
    }
    // By the points of the file: halfway between them.
    let keys = r#""base_image_seq_len": 100, "max_image_seq_len": 300, "base_shift": 1, "max_shift": 2"#;
    near(flow(keys).with_linear_mu(200).unwrap().keys().given("mu").unwrap().unwrap(), &Value::from(1.5));
    let error = flow(r#""base_shift": "x""#).with_linear_mu(200).unwrap_err();
    assert!(error.message.contains(r#"base_shift: "x" found where a number is wanted"#), "{error}");
}

#[test]
fn angles_of_scm() {
    for (steps, wanted) in file()["scm"].as_object().unwrap() {
        let steps = steps.parse().unwrap();
        let mut wanted = numbers(wanted);
        assert_eq!(wanted.pop(), Some(0.0));
        let schedule = Schedule::new(&scm(r#""sigma_data": 0.5"#), steps, 0).unwrap();
        let found: Vec<f32> = schedule.steps.iter().map(|step| step.timestep).collect();
        assert_close(&found, &wanted);
        // The last noise has no weight: the sample is what is predicted.
        assert!(schedule.steps.iter().all(|step| step.draws_noise));
        let last = schedule.steps[steps - 1];
        assert_eq!(last.prev(0.3, 7.0, 7.0, [7.0; 3], 7.0), last.denoised(0.3, 7.0));
        assert_eq!(Schedule::new(&scm(r#""sigma_data": 2"#), steps, 0).unwrap(), schedule);
    }
    let asked = scm("\"max_timesteps\": 1.5").with_key("intermediate_timesteps", 1.0);
    assert_eq!(timesteps(&asked, 2), [1.5, 1.0]);
    assert_close(&timesteps(&asked, 3), &[1.5, 1.0, 0.5]);
    let later = Schedule::new(&scm("\"sigma_data\": 0.5"), 2, 1).unwrap();
    assert_eq!(later.steps.len(), 1);
    assert_close(&[later.steps[0].noised_picture, later.steps[0].noised_noise], &[0.267_498_83, 0.963_558_2]);
}

/// What diffusers' pipelines tell and show their networks, and the latents after each step.
#[test]
fn networks_that_mean_something_else() {
    let file = file();
    // The unit of SANA-Sprint's latents in diffusers.
    const SIGMA_DATA: f32 = 0.5;
    for (steps, row) in file["sana-sprint"].as_object().unwrap() {
        let steps: usize = steps.parse().unwrap();
        let schedule = Schedule::new(&scm(r#""sigma_data": 0.5"#), steps, 0).unwrap();
        let schedule = schedule.for_network(Parameterization::trigflow);
        let [seen, samples] = run(&file, &schedule, 0.75);
        let told: Vec<f32> = schedule.steps.iter().map(|step| step.timestep).collect();
        let latents: Vec<f32> = samples.iter().map(|x| x * SIGMA_DATA).collect();
        assert_near("told", &told, &numbers(&row["told"]));
        assert_near("seen", &seen, &numbers(&row["seen"]));
        assert_near("latents", &latents, &numbers(&row["latents"]));
        assert_near("last", &samples[steps - 1..], &[row["last"].as_f64().unwrap() as f32]);
        assert_eq!(row["draws"].as_u64().unwrap() as usize, steps);
    }
    for (steps, row) in file["z-image"].as_object().unwrap() {
        let steps = steps.parse().unwrap();
        let config = flow(r#""shift": 3"#).with_even_sigmas(steps);
        let schedule = Schedule::new(&config, steps, 0).unwrap().for_network(Parameterization::reversed);
        let [seen, samples] = run(&file, &schedule, 0.75);
        let told: Vec<f32> = schedule.steps.iter().map(|step| step.timestep).collect();
        assert_near("told", &told, &numbers(&row["told"]));
        assert_near("seen", &seen, &numbers(&row["seen"]));
        assert_near("latents", &samples, &numbers(&row["latents"]));
    }
}

/// Every factor of the scheduler's model output, and scales one over the other.
#[test]
fn a_step_takes_what_another_network_gives() {
    let [p_sample, p_model, prev_p, prev_sample, prev_model] = [0.5, -0.75, 0.25, 1.5, 0.375];
    let plain = Step { p_sample, p_model, prev_p, prev_sample, prev_model, ..Step::at(500.0, 0.0, 1.0) };
    let plain = Step { input_scale: 0.5, ..plain };
    let network = Parameterization { timestep: 0.25, input_scale: 3.0, sample: -0.5, output: 2.0 };
    let step = plain.for_network(&network);
    assert_eq!((step.timestep, step.input_scale), (0.25, 1.5));
    let (x, m) = (1.25, 0.625);
    let meant = network.sample as f32 * x + network.output as f32 * m;
    assert_eq!(step.p(x, m), plain.p(x, meant));
    assert_eq!(step.prev(0.3, x, m, [0.0; 3], 0.0), plain.prev(0.3, x, meant, [0.0; 3], 0.0));
}

#[test]
fn what_flows_want_is_named() {
    let dynamic = flow(r#""use_dynamic_shifting": true"#);
    let words = "scheduler_config.json, use_dynamic_shifting: true wants mu, which the pipeline";
    assert_refused(&dynamic, 4, Code::Unsupported, words);
    // It is not known while a model is loaded.
    assert!(dynamic.check().is_ok());
    let words = r#"mu: "x" found where a number is wanted"#;
    assert_refused(&dynamic.with_key("mu", "x"), 4, Code::InvalidModel, words);
    // The file's own shift needs none.
    assert!(Schedule::new(&flow("\"mu\": \"x\""), 4, 0).is_ok());
    for (key, value) in [
        ("invert_sigmas", "true"),
        ("use_karras_sigmas", "true"),
        ("use_exponential_sigmas", "true"),
        ("use_beta_sigmas", "true"),
        ("stochastic_sampling", "true"),
    ] {
        let config = flow(&format!(r#""{key}": {value}"#));
        assert_refused(&config, 4, Code::Unsupported, &format!("{key}: {value} is not supported"));
    }
    let cubic = dynamic.with_key("mu", 1.0).with_key("time_shift_type", "cubic");
    assert_refused(
        &cubic,
        4,
        Code::Unsupported,
        r#"time_shift_type: "cubic" is not supported, only "exponential""#,
    );
    let words = "shift_terminal: 1.5 found where a number from 0 to 1 is wanted";
    assert_refused(&flow(r#""shift_terminal": 1.5"#), 4, Code::InvalidModel, words);
    let few = flow("\"shift\": 3").with_even_sigmas(3);
    assert_refused(&few, 4, Code::InvalidModel, "a list of 4 numbers above 0");
    assert_refused(&scm(r#""prediction_type": "epsilon""#), 2, Code::Unsupported, r#"only "trigflow""#);
    assert_refused(&scm(r#""sigma_data": 1"#), 1001, Code::InvalidOption, "between 1 and 1000");
}

/// diffusers divides by 0 there.
#[test]
fn a_single_step_is_not_stretched() {
    let schedule = Schedule::new(&flow(r#""shift_terminal": 0.1"#), 1, 0).unwrap();
    assert_eq!(schedule.sigmas, [1.0, 0.0]);
}

#[test]
fn usual_steps() {
    let of = |config: &Config| (config.default_steps(), config.distilled());
    assert_eq!(of(&scm(r#""sigma_data": 0.5"#)), (2, true));
    assert_eq!(of(&lcm(r#""clip_sample": false"#)), (4, true));
    assert_eq!(of(&flow(r#""shift": 3"#)), (20, false));
    assert_eq!(scm("\"sigma_data\": 1").with_class("scm").unwrap().class().unwrap(), "SCMScheduler");
}
