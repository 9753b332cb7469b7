//! A LoRA in both namings, at every scale of the reference: merged while loading, and again while a session
//! goes on.

use serde_json::Value;
use tintype::device::{Session, Weights};
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::model::config::UnetConfig;
use tintype::model::denoiser::{Job, denoise_plan};
use tintype::model::unet::{Networks, Unet};
use tintype::pipeline::read_json;
use tintype::weights::{Adapter, Checkpoint, Declarations, DiskFolder, Hooks, Lora};

use super::reference::Reference;
use super::{Bench, Check};

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (Some(rank), Some(alpha), Some(models)) =
        (case["rank"].as_f64(), case["alpha"].as_f64(), case["model"].as_str())
    else {
        return Err(Error::model("manifest.json: a LoRA without a model, its rank and its alpha"));
    };
    // "sd15-like/unet + extras/lora/file"
    let (unet, file) = models.split_once(" + ").unwrap_or((models, ""));
    let (model, component) = unet.rsplit_once('/').unwrap_or(("", unet));
    let models = bench.root.join("models");
    let folder = DiskFolder::new(models.join(model));
    let lora_folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let loras = DiskFolder::new(models.join(lora_folder));
    let named = file.rsplit('/').next().unwrap_or(file);
    let kohya = Lora::read(&loras, named, Hooks::NONE).await?;
    let peft = Lora::read(&loras, "peft_names.safetensors", Hooks::NONE).await?;

    let path = format!("{component}/config.json");
    let config = UnetConfig::from_json(&read_json(&folder, &path).await?, &path)?;
    let mut d = Declarations::new(bench.load.weights);
    let networks = Networks::of(Unet::declare(&mut d, &config), config);
    let checkpoint = || Checkpoint::new(&folder, component, "diffusion_pytorch_model");
    let job = job(&reference)?;
    let plan = || denoise_plan(&networks, &bench.target, job);

    let weights = Weights::load(&bench.device, &d, &[checkpoint()], Hooks::NONE).await?;
    let kept = Session::new(plan(), &weights).await?;
    let mut checks = vec![compare(&reference, &networks.unet, &kept, "out.no_lora", "no LoRA").await?];
    // The second file has no alpha, which says that its matrices are to be taken as they are.
    for (names, lora, unit) in [("kohya", &kohya, 1.0), ("peft", &peft, (alpha / rank) as f32)] {
        for (name, scale) in [("out.merged_scale1", 1.0), ("out.merged_scale0.5", 0.5)] {
            let adapters = [Adapter { lora, scale: scale * unit }];
            let merged = || checkpoint().with_loras(&adapters);
            let loaded = Weights::load(&bench.device, &d, &[merged()], Hooks::NONE).await?;
            let session = Session::new(plan(), &loaded).await?;
            let what = format!("{name}, {names}, loaded");
            checks.push(compare(&reference, &networks.unet, &session, name, &what).await?);

            let handles = merged().touched(&d, 0)?;
            weights.reload(&d, &[merged()], &handles, Hooks::NONE).await?;
            let what = format!("{name}, {names}, reloaded");
            checks.push(compare(&reference, &networks.unet, &kept, name, &what).await?);
        }
    }
    // And back: what was touched is read without the LoRA.
    let adapters = [Adapter { lora: &peft, scale: 1.0 }];
    let handles = checkpoint().with_loras(&adapters).touched(&d, 0)?;
    weights.reload(&d, &[checkpoint()], &handles, Hooks::NONE).await?;
    checks.push(compare(&reference, &networks.unet, &kept, "out.no_lora", "out.no_lora, reloaded").await?);
    Ok(checks)
}

fn job(reference: &Reference) -> Result<Job> {
    let &[images, _, h, w] = reference.shape("in.sample")? else {
        return Err(Error::model("in.sample is not [N, C, h, w]"));
    };
    let tokens = reference.shape("in.encoder_hidden_states")?[1] as u32;
    Ok(Job { images: images as u32, guided: false, size: [h as u32, w as u32], tokens, ..Job::default() })
}

async fn compare(
    reference: &Reference,
    unet: &Unet,
    session: &Session,
    name: &str,
    what: &str,
) -> Result<Check> {
    let rows = reference.shape("in.sample")?[0];
    let features = unet.time_embedding().features(reference.f32("in.timestep")?[0]).repeat(rows);
    session.write("latents", &reference.nhwc("in.sample")?);
    session.write("input_coefficients", &[1.0, 0.0, 0.0, 0.0]);
    session.write("text", &reference.f32("in.encoder_hidden_states")?);
    session.write("time_features", &features);
    for section in ["context", "time", "unet"] {
        session.run(section, &Cancel::default(), &|_| {}).await?;
    }
    Ok(Check::new(what, &session.read("model_output").await?, &reference.nhwc(name)?))
}
