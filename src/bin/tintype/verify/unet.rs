//! U-Nets: outputs, and every module output that this runtime also has.

use serde_json::Value;
use tintype::device::Session;
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::model::config::TextTime;
use tintype::model::denoiser::Job;
use tintype::model::unet::{Unet, guidance_embedding as guidance, timestep_embedding as embed};
use tintype::pipeline::DenoiserPart;
use tintype::weights::{DiskFolder, Hooks};

use super::reference::Reference;
use super::{Bench, Check};

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (folder, component) = bench.component(case)?;
    let part = DenoiserPart::load(
        &bench.device,
        &DiskFolder::new(&folder),
        component,
        bench.load.weights,
        Hooks::NONE,
    )
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
        let job =
            Job { images: n as u32, guided: false, size: [h as u32, w as u32], tokens, ..Job::default() };
        let session = part.session(&bench.tapped(), job).await?;
        part.write_sample(&session, &reference.nhwc(&sample)?);
        write_conditions(&reference, &session, &part, &prefix, n)?;
        session.write("text", &reference.f32(&format!("{prefix}in.encoder_hidden_states"))?);
        session.run("context", &Cancel::default(), &|_| {}).await?;
        for (name, timesteps) in runs(&reference, &prefix, n)? {
            let features: Vec<f32> =
                timesteps.iter().flat_map(|&t| unet(&part).time_embedding().features(t)).collect();
            session.write("time_features", &features);
            session.run("time", &Cancel::default(), &|_| {}).await?;
            session.run("unet", &Cancel::default(), &|_| {}).await?;
            let got = session.read("model_output").await?;
            checks.push(Check::new(&name, &got, &reference.nhwc(&name)?));
        }
        if prefix.is_empty() {
            checks.extend(activations(&reference, &session, "act.").await?);
        }
    }
    Ok(checks)
}

fn unet(part: &DenoiserPart) -> &Unet {
    &part.network.unet().expect("a U-Net").unet
}

/// What the U-Net is told beside the text: the guidance scale, sizes and pooled text. They lie under no prefix in a
/// file of more, for as many rows as any of its batches has.
fn write_conditions(
    reference: &Reference,
    session: &Session,
    part: &DenoiserPart,
    prefix: &str,
    rows: usize,
) -> Result<()> {
    let rows_of = |name: &str| -> Result<Option<Vec<f32>>> {
        let names = [format!("{prefix}in.{name}"), format!("in.{name}")];
        let Some(found) = names.iter().find(|n| reference.has(n)) else { return Ok(None) };
        let (values, all) = (reference.f32(found)?, reference.shape(found)?[0]);
        Ok(Some(values[..values.len() / all * rows].to_vec()))
    };
    if let Some(features) = rows_of("timestep_cond")? {
        session.write("guidance_features", &features);
    }
    if let (Some(pooled), Some(sizes)) = (rows_of("text_embeds")?, rows_of("time_ids")?) {
        let time = unet(part).time_embedding();
        let added = pooled.chunks_exact(pooled.len() / rows).zip(sizes.chunks_exact(TextTime::SIZES));
        let added = added.flat_map(|(p, s)| time.added_features(p, s.try_into().expect("six sizes")));
        session.write("added_features", &added.collect::<Vec<f32>>());
    }
    Ok(())
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
pub async fn activations(reference: &Reference, session: &Session, prefix: &str) -> Result<Vec<Check>> {
    let mut checks = vec![];
    for path in session.plan().outputs.keys() {
        let name = format!("{prefix}{path}");
        if reference.has(&name) {
            let got = session.read(path).await?;
            checks.push(Check::new(&name, &got, &reference.nhwc(&name)?));
        }
    }
    Ok(checks)
}

/// Names such as w7.5_dim256, of which w is the guidance scale less one.
pub fn guidance_embedding(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let mut checks = vec![];
    for name in reference.names() {
        let numbers = name.strip_prefix('w').and_then(|n| n.split_once("_dim"));
        let numbers = numbers.and_then(|(w, dim)| Some((w.parse::<f32>().ok()?, dim.parse().ok()?)));
        let (w, dim) = numbers.ok_or_else(|| Error::unsupported(format!("the name {name}")))?;
        checks.push(Check::new(name, &guidance(w + 1.0, dim), &reference.f32(name)?));
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
