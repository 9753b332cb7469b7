//! Schedulers: timesteps, sigmas, and every step by the kernel.

use serde_json::Value;
use tintype::device::{Session, Weights};
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::pipeline::step_coefficients;
use tintype::plan::ops;
use tintype::plan::{Recorder, Target};
use tintype::quant::Format;
use tintype::schedule::{Config, Schedule, alphas_cumprod, scaled_linear};
use tintype::shape::{Elem, Shape};
use tintype::weights::Declarations;

use super::{Bench, Check};

/// The manifest does not say eta, but the name does: ddim_20_eta1.
pub async fn run(bench: &Bench, name: &str, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let steps = schedule(name, case, 0)?;
    let mut checks = vec![];
    // Samples are in units of SCM's sigma_data here: what is as large as they are is divided by it.
    let unit = case["config"]["sigma_data"].as_f64().unwrap_or(1.0) as f32;
    let read = |name: &str| -> Result<Vec<f32>> {
        Ok(reference.nhwc(name)?.into_iter().map(|value| value / unit).collect())
    };
    let numbers = |key: &str| -> Option<Vec<f32>> {
        Some(case[key].as_array()?.iter().filter_map(|v| Some(v.as_f64()? as f32)).collect())
    };
    if let Some(mut want) = numbers("timesteps") {
        let got: Vec<f32> = steps.steps.iter().map(|s| s.timestep).collect();
        // That of SCM has the angle at which the last step ends.
        if case["class"] == "SCMScheduler" && want.pop() != Some(0.0) {
            return Err(Error::model("manifest.json: wanted angles that end at 0"));
        }
        checks.push(Check::new("timesteps", &got, &want));
    }
    if let Some(want) = numbers("sigmas") {
        checks.push(Check::new("sigmas", &steps.sigmas, &want));
    }
    if let Some(want) = case["init_noise_sigma"].as_f64() {
        checks.push(Check::new("init_noise_sigma", &[steps.init_noise_sigma], &[want as f32]));
    }

    let shape = reference.shape("x0")?.to_vec();
    let session = session(bench, &shape).await?;
    let count = shape.iter().product();
    let mut sample = read("x0")?;
    session.write("sample", &sample);
    session.write("predictions", &vec![0.0; 4 * count]);
    session.write("noise", &vec![0.0; count]);
    // diffusers counts calls of the model, of which a step may be two.
    let calls = steps.steps.len() - case["begin_index"].as_u64().unwrap_or(0) as usize;
    let mut begin = 0;
    let mut steps = steps;
    while steps.steps.len() > calls {
        begin += 1;
        steps = schedule(name, case, begin)?;
    }
    for (i, step) in steps.steps.iter().enumerate() {
        let scaled: Vec<f32> = sample.iter().map(|v| v * step.input_scale).collect();
        let name = format!("scaled.{i}");
        // Flows have no such operation in diffusers.
        if reference.has(&name) {
            checks.push(Check::new(&name, &scaled, &read(&name)?));
        }
        session.write("model", &read(&format!("model_output.{i}"))?);
        if step.draws_noise {
            session.write("noise", &reference.nhwc(&format!("noise.{i}"))?);
        }
        session.write("coefficients", &step_coefficients(step, 1.0));
        session.run("step", &Cancel::default(), &|_| {}).await?;
        let predictions = session.read("predictions").await?;
        let denoised: Vec<f32> =
            predictions.iter().zip(&sample).map(|(&p, &x)| step.denoised(p, x)).collect();
        sample = session.read("sample").await?;
        let name = format!("prev_sample.{i}");
        checks.push(Check::new(&name, &sample, &read(&name)?));
        for name in [format!("pred_original_sample.{i}"), format!("denoised.{i}")] {
            if reference.has(&name) {
                checks.push(Check::new(&name, &denoised, &read(&name)?));
            }
        }
    }
    Ok(checks)
}

fn schedule(name: &str, case: &Value, begin: usize) -> Result<Schedule> {
    let mut config = case["config"].clone();
    config["_class_name"] = case["class"].clone();
    let config = Config::from_json(config.to_string().as_bytes(), "scheduler_config.json")?;
    let settings =
        case["set_timesteps"].as_object().ok_or_else(|| Error::model("a case without set_timesteps"))?;
    let mut steps = 0;
    let mut config = config;
    for (key, value) in settings {
        match key.as_str() {
            "num_inference_steps" => steps = value.as_u64().unwrap_or(0) as usize,
            "original_inference_steps" | "strength" | "mu" | "max_timesteps" | "intermediate_timesteps" => {
                config = config.with_key(key, value.clone())
            }
            "sigmas" => {
                steps = value.as_array().map_or(0, Vec::len);
                config = config.with_key(key, value.clone());
            }
            _ => return Err(Error::unsupported(format!("set_timesteps with {key} is not built yet"))),
        }
    }
    if let Some(eta) = name.split_once("_eta").and_then(|(_, eta)| eta.parse::<f64>().ok()) {
        config = config.with_key("eta", eta);
    }
    Schedule::new(&config, steps, begin)
}

/// The step kernel alone. Latents are f32 whatever the activations are.
async fn session(bench: &Bench, shape: &[usize]) -> Result<Session> {
    let [n, c, h, w] = [0, 1, 2, 3].map(|i| shape[i] as u32);
    let shape = Shape::new(n, h, w, c);
    let mut r = Recorder::new(&Target::new(Elem::F32));
    r.section("step");
    let mut input = |name: &str, shape| r.input(name, shape, Elem::F32);
    let coefficients = input("coefficients", Shape::new(1, 1, 3, 4));
    let [model, noise, sample] = ["model", "noise", "sample"].map(|name| input(name, shape));
    let predictions = input("predictions", Shape { n: 4 * shape.n, ..shape });
    ops::step(&mut r, coefficients, model, noise, sample, predictions);
    let none = Declarations::new(Format::F32);
    Session::new(r.finish(), &Weights::from_blobs(&bench.device, &none, vec![])).await
}

/// The tables of Stable Diffusion's schedule.
pub fn alphas(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let betas = scaled_linear(0.00085, 0.012, 1000);
    Ok(vec![
        Check::new("betas", &betas, &reference.f32("betas")?),
        Check::new("alphas_cumprod", &alphas_cumprod(&betas), &reference.f32("alphas_cumprod")?),
    ])
}
