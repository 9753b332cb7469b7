//! Transformers: outputs, and every module output that this runtime also has.

use serde_json::Value;
use tintype::device::Session;
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::model::denoiser::{Conditions, Input, Job};
use tintype::pipeline::DenoiserPart;
use tintype::shape::nhwc;
use tintype::weights::{DiskFolder, Hooks};

use super::reference::{Reference, unpacked};
use super::unet::activations;
use super::{Bench, Check};

/// What guidance scales are multiplied by in front of a transformer (`guidance_embeds_scale`).
const GUIDANCE: f32 = 0.1;

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?.with_lists_joined()?;
    let (folder, component) = bench.component(case)?;
    // Those of FLUX are told the level of the noise, and multiply it themselves.
    let config = std::fs::read_to_string(folder.join(component).join("config.json")).unwrap_or_default();
    let scale = if config.contains("\"Flux") { 1000.0 } else { 1.0 };
    let scaled = |times: &[f32]| times.iter().map(|time| time * scale).collect::<Vec<f32>>();
    let (device, folder) = (&bench.device, DiskFolder::new(&folder));
    let part = DenoiserPart::load(device, &folder, component, bench.load.weights, Hooks::NONE).await?;
    let mut checks = vec![];
    // "" in a file of blocks; "B.", "C." in a file of more.
    let inputs: Vec<&str> = reference.names().filter_map(|n| n.strip_suffix("in.hidden_states")).collect();
    for prefix in inputs {
        let session = prepared(bench, &part, &reference, prefix).await?;
        let name = format!("{prefix}out.sample");
        let times = reference.f32(&format!("{prefix}in.timestep"))?;
        checks.push(predicted(&part, &session, &scaled(&times), &reference, &name).await?);
        if prefix.is_empty() {
            checks.extend(activations(&reference, &session, "act.").await?);
        }
    }
    // Other timesteps on the inputs of the file of blocks.
    let sweep: Vec<&str> = reference.names().filter(|name| name.starts_with("D.out.t")).collect();
    if let Some(times) = case["sweep"].as_array().filter(|_| !sweep.is_empty()) {
        let file = case["file"].as_str().unwrap_or_default().replace(".more.", ".blocks.");
        let blocks = Reference::open(&bench.root.join(file))?.with_lists_joined()?;
        let session = prepared(bench, &part, &blocks, "").await?;
        for time in times.iter().filter_map(Value::as_f64) {
            // A name has six digits of its time.
            let near = |name: &&&str| {
                let told: Option<f64> = name.trim_start_matches("D.out.t").parse().ok();
                told.is_some_and(|told| (told - time).abs() <= 1e-5 * time.abs())
            };
            let name = sweep.iter().find(near).ok_or_else(|| {
                Error::model(format!("manifest.json: the sweep has {time}, the reference no D.out.t{time}"))
            })?;
            checks.push(predicted(&part, &session, &scaled(&[time as f32]), &reference, name).await?);
        }
    }
    Ok(checks)
}

/// A session with the inputs under a prefix.
async fn prepared(
    bench: &Bench,
    part: &DenoiserPart,
    reference: &Reference,
    prefix: &str,
) -> Result<Session> {
    let named = |name: &str| format!("{prefix}in.{name}");
    // What is packed is there as it was before, too; FLUX.2 takes it packed.
    let latents = named("latents");
    let mut sample = if reference.has(&latents) { latents } else { named("hidden_states") };
    let &[n, channels, mut h, mut w] = reference.shape(&sample)? else {
        return Err(Error::unsupported(format!("{sample} is not [N, C, h, w]")));
    };
    if part.network.sizes().in_channels == 4 * channels {
        (sample, h, w) = (named("hidden_states"), h / 2, w / 2);
    }
    let text = named("encoder_hidden_states");
    let tokens = if reference.has(&text) { reference.shape(&text)?[1] as u32 } else { 0 };
    let job = Job { images: n as u32, guided: false, size: [h as u32, w as u32], tokens, ..Job::default() };
    let session = part.session(&bench.tapped(), job).await?;
    part.write_sample(&session, &reference.nhwc(&sample)?);
    let given = |name: &str| {
        let name = named(name);
        if reference.has(&name) { reference.f32(&name) } else { Ok(vec![]) }
    };
    let labels: Vec<usize> = given("class_labels")?.into_iter().map(|label| label as usize).collect();
    let text = if labels.is_empty() { reference.f32(&text)? } else { part.label_rows(&labels) };
    let pooled = given("pooled_projections")?;
    let (mask, guidance) = (given("encoder_attention_mask")?, given("guidance")?);
    let resolution = given("resolution")?;
    let of = |i: usize, count: usize| {
        let mut job = job;
        job.images = count as u32;
        let own = |values: &[f32]| values[i * values.len() / n..][..count * values.len() / n].to_vec();
        part.network.conditions(
            &Conditions {
                text: own(&text),
                pooled: own(&pooled),
                sizes: match own(&resolution)[..] {
                    [height, width, ..] => [height, width, 0.0, 0.0, height, width],
                    _ => [0.0; 6],
                },
                // The reference has it as the network gets it.
                guidance: guidance.get(i).map_or(1.0, |told| told / GUIDANCE),
                mask: own(&mask),
            },
            job,
        )
    };
    // Each row may have a guidance and a size of its own.
    let alike = guidance.is_empty() && resolution.is_empty();
    let inputs = if alike { of(0, n) } else { rows(n, |i| of(i, 1)) };
    write(&session, inputs);
    session.run("context", &Cancel::default(), &|_| {}).await?;
    Ok(session)
}

/// Inputs of several rows, which may differ.
fn rows(count: usize, row: impl Fn(usize) -> Vec<Input>) -> Vec<Input> {
    let mut inputs = row(0);
    for more in (1..count).map(row) {
        inputs.iter_mut().zip(more).for_each(|((_, values), (_, more))| values.extend(more));
    }
    inputs
}

fn write(session: &Session, inputs: Vec<Input>) {
    inputs.iter().for_each(|(name, values)| session.write(name, values));
}

/// What it makes of timesteps, one for each row.
async fn predicted(
    part: &DenoiserPart,
    session: &Session,
    times: &[f32],
    reference: &Reference,
    name: &str,
) -> Result<Check> {
    write(session, rows(times.len(), |i| part.network.timestep(times[i], 1)));
    for section in ["time", "unet"] {
        session.run(section, &Cancel::default(), &|_| {}).await?;
    }
    let output = session.plan().outputs["model_output"].shape;
    let mut want = reference.nhwc(name)?;
    let [n, c, h, w] = [output.n, output.c, output.h, output.w].map(|n| n as usize);
    match *reference.shape(name)? {
        [_, _, width] => want = nhwc(&unpacked(&want, width, [n, c, h, w]), c, h * w),
        // A variance that nothing uses is behind the noise.
        [_, all, ..] if all > c => {
            want = want.chunks_exact(all).flat_map(|pixel| &pixel[..c]).copied().collect()
        }
        _ => {}
    }
    Ok(Check::new(name, &session.read("model_output").await?, &want))
}
