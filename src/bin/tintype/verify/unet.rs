//! U-Nets: outputs, and every module output that this runtime also has.

use serde_json::Value;
use tintype::device::Session;
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::model::unet::timestep_embedding as embed;
use tintype::pipeline::{Job, UnetPart};
use tintype::weights::{DiskFolder, Hooks};

use super::reference::Reference;
use super::{Bench, Check};

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (folder, component) = bench.component(case)?;
    let part =
        UnetPart::load(&bench.device, &DiskFolder::new(&folder), component, bench.load.weights, Hooks::NONE)
            .await?;
    let mut checks = vec![];
    // "" in a file of blocks; "B.", "C.", "D." in a file of more.
    let mut prefixes: Vec<String> =
        reference.names().filter_map(|n| Some(n.strip_suffix("in.sample")?.to_owned())).collect();
    prefixes.dedup();
    for prefix in prefixes {
        let sample = format!("{prefix}in.sample");
        let &[n, _, h, w] = reference.shape(&sample)? else {
            return Err(Error::model(format!("{sample} is not [N, C, h, w]")));
        };
        let tokens = reference.shape(&format!("{prefix}in.encoder_hidden_states"))?[1] as u32;
        let job = Job { images: n as u32, guided: false, size: [h as u32, w as u32], tokens };
        let session = part.session(&bench.device, &bench.tapped(), job).await?;
        session.write(&bench.device, "latents", &reference.nhwc(&sample)?);
        session.write(&bench.device, "input_coefficients", &[1.0, 0.0, 0.0, 0.0]);
        session.write(&bench.device, "text", &reference.f32(&format!("{prefix}in.encoder_hidden_states"))?);
        session.run(&bench.device, "context", &Cancel::default(), &|_| {}).await?;
        for (name, timesteps) in runs(&reference, &prefix, n)? {
            let features: Vec<f32> = timesteps.iter().flat_map(|&t| part.unet.time_features(t)).collect();
            session.write(&bench.device, "time_features", &features);
            session.run(&bench.device, "time", &Cancel::default(), &|_| {}).await?;
            session.run(&bench.device, "unet", &Cancel::default(), &|_| {}).await?;
            let got = session.read(&bench.device, "model_output").await?;
            checks.push(Check::new(&name, &got, &reference.nhwc(&name)?));
        }
        if prefix.is_empty() {
            checks.extend(activations(bench, &reference, &session, "act.").await?);
        }
    }
    Ok(checks)
}

/// The outputs under a prefix, each with the timestep of every row.
fn runs(reference: &Reference, prefix: &str, rows: usize) -> Result<Vec<(String, Vec<f32>)>> {
    let mut runs = vec![];
    for name in reference.names() {
        let Some(rest) = name.strip_prefix(&format!("{prefix}out.")) else { continue };
        let timesteps = if rest == "sample" {
            reference.f32(&format!("{prefix}in.timestep"))?
        } else {
            // "t999", or "tf946.42" for one that is not whole
            let number = rest.trim_start_matches("tf").trim_start_matches('t');
            let t = number.parse().map_err(|_| Error::unsupported(format!("the output {name}")))?;
            vec![t]
        };
        let timesteps = if timesteps.len() == 1 { timesteps.repeat(rows) } else { timesteps };
        runs.push((name.to_owned(), timesteps));
    }
    Ok(runs)
}

/// Every module output that both sides have.
pub async fn activations(
    bench: &Bench,
    reference: &Reference,
    session: &Session,
    prefix: &str,
) -> Result<Vec<Check>> {
    let mut checks = vec![];
    for path in session.plan().outputs.keys() {
        let name = format!("{prefix}{path}");
        if reference.has(&name) {
            let got = session.read(&bench.device, path).await?;
            checks.push(Check::new(&name, &got, &reference.nhwc(&name)?));
        }
    }
    Ok(checks)
}

/// Names such as t946.42_dim320_flip1_shift0.
pub fn timestep_embedding(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let mut checks = vec![];
    for name in reference.names() {
        let number = |key: &str| {
            let word = name.split('_').find_map(|w| w.strip_prefix(key));
            word.and_then(|w| w.parse::<f32>().ok())
                .ok_or_else(|| Error::unsupported(format!("the name {name}")))
        };
        let got = embed(number("t")?, number("dim")? as usize, number("flip")? == 1.0, number("shift")?);
        checks.push(Check::new(name, &got, &reference.f32(name)?));
    }
    Ok(checks)
}
