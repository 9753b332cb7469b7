//! Autoencoders both ways.

use serde_json::Value;
use tintype::device::Session;
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::model::vae::Posterior;
use tintype::pipeline::{Half, Origin, VaePart};
use tintype::rng::Generator;
use tintype::shape::nhwc;
use tintype::weights::{DiskFolder, Hooks};

use super::reference::Reference;
use super::{Bench, Check, unet};

/// The file that a folder of TAEF2 has, and what is compared there beside it: the limits are those of other small
/// autoencoders, and four times what torch's halves do.
pub const ALONE: &str = "taef2_decoder.safetensors";
pub const ALONE_CASES: &str = r#"{"cases": {"vae/taef2": {
    "file": "reference.safetensors", "model": "", "limits": {"f32": 2e-5, "half": 8.4e-3}}}}"#;

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (folder, component) = bench.component(case)?;
    let folder = DiskFolder::new(&folder);
    let (device, format) = (&bench.device, bench.load.weights);
    let halves = [Half::Decoder, Half::Encoder];
    let part = VaePart::load(device, &Origin::of(&folder), component, format, Hooks::NONE, &halves).await?;
    let mut checks = vec![];
    for name in reference.names() {
        // "in.z", "decode0.in", "encode0.in", "encode_blocks.in"
        let input = |prefix: &str| name.starts_with(prefix) && name.ends_with(".in");
        if name == "in.z" || input("decode") {
            let session = run_part(bench, &reference, name, &part, Half::Decoder).await?;
            let out = name.replace("in.z", "out.sample").replace(".in", ".out");
            checks.push(Check::new(&out, &session.read("sample").await?, &reference.nhwc(&out)?));
            if name == "in.z" {
                checks.extend(unet::activations(&reference, &session, "act.").await?);
            }
        } else if input("encode") {
            let session = run_part(bench, &reference, name, &part, Half::Encoder).await?;
            let prefix = name.trim_end_matches(".in");
            checks.extend(encoded(&reference, prefix, part.draws(), &session).await?);
        } else if name == "in.image" {
            // An image as such, and what becomes of it on the way back, from 0 to 1.
            let session = run_part(bench, &reference, name, &part, Half::Encoder).await?;
            let latents = session.read("sample").await?;
            checks.push(Check::new("out.latents", &latents, &reference.nhwc("out.latents")?));
            let session = run_part(bench, &reference, "out.latents", &part, Half::Decoder).await?;
            let image = session.read("sample").await?;
            let image: Vec<f32> = image.iter().map(|v| (v / 2.0 + 0.5).clamp(0.0, 1.0)).collect();
            checks.push(Check::new("out.image", &image, &reference.nhwc("out.image")?));
        }
    }
    Ok(checks)
}

async fn run_part(
    bench: &Bench,
    reference: &Reference,
    name: &str,
    part: &VaePart,
    half: Half,
) -> Result<Session> {
    let &[n, _, h, w] = reference.shape(name)? else {
        return Err(Error::model(format!("{name} is not [N, C, h, w]")));
    };
    let session = part.session(&bench.tapped(), half, n as u32, [h as u32, w as u32]).await?;
    session.write("input", &reference.nhwc(name)?);
    if half == Half::Encoder && name == "in.image" {
        session.write("coefficients", &[1.0, 0.0, 0.0, 0.0]);
    } else if !name.starts_with("encode") {
        // The reference calls the decoder itself, without the pipeline's scaling.
        session.write("coefficients", &[1.0, 0.0, 0.0, 0.0]);
    }
    session.run("vae", &Cancel::default(), &|_| {}).await?;
    Ok(session)
}

/// `prefix.out` or `prefix.latent`, or the moments behind it where latents are drawn, and the modules on the way.
async fn encoded(reference: &Reference, prefix: &str, draws: bool, session: &Session) -> Result<Vec<Check>> {
    let got = session.read("sample").await?;
    let latent = format!("{prefix}.{}", if prefix == "encode_blocks" { "out" } else { "latent" });
    if !draws && reference.has(&latent) {
        let mut checks = vec![Check::new(&latent, &got, &reference.nhwc(&latent)?)];
        if prefix == "encode_blocks" {
            checks.extend(unet::activations(reference, session, "act.").await?);
        }
        return Ok(checks);
    }
    if prefix == "encode_blocks" {
        // The encoder without quant_conv.
        let blocks = session.read("encoder.conv_out").await?;
        let mut checks =
            vec![Check::new(format!("{prefix}.out"), &blocks, &reference.nhwc(&format!("{prefix}.out"))?)];
        checks.extend(unet::activations(reference, session, "act.").await?);
        return Ok(checks);
    }
    let out = format!("{prefix}.out");
    if reference.has(&out) {
        return Ok(vec![Check::new(&out, &got, &reference.nhwc(&out)?)]);
    }
    let shape = reference.shape(&format!("{prefix}.mean"))?;
    let (channels, pixels) = (shape[1], shape[2] * shape[3]);
    let posterior = Posterior::new(&got, channels);
    let mut checks = vec![];
    for (name, values) in [("mean", &posterior.mean), ("logvar", &posterior.logvar), ("std", &posterior.std)]
    {
        let name = format!("{prefix}.{name}");
        checks.push(Check::new(&name, values, &reference.nhwc(&name)?));
    }
    for name in reference.names() {
        let Some(seed) = name.strip_prefix(&format!("{prefix}.sample_seed")) else { continue };
        let seed = seed.parse().map_err(|_| Error::unsupported(format!("the name {name}")))?;
        let noise = nhwc(&Generator::new(seed).randn(posterior.mean.len()), channels, pixels);
        checks.push(Check::new(name, &posterior.sample(&noise), &reference.nhwc(name)?));
    }
    Ok(checks)
}
