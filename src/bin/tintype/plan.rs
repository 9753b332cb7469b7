//! `tintype plan`: what a model costs, from its configuration alone.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tintype::error::{Error, Result};
use tintype::model::clip::TextEncoder;
use tintype::model::config::{ClipTextConfig, UnetConfig, VaeConfig};
use tintype::model::unet::Unet;
use tintype::pipeline::{Job, Network, Request, denoise_plan, read_json, text_plan, vae_plan};
use tintype::plan::{Plan, Target};
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{Declarations, DiskFolder};

#[derive(Args)]
pub struct Options {
    /// A model folder in the diffusers layout; only its config.json files are read
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Of the picture, in pixels
    #[arg(long, default_value = "512x512", value_parser = crate::parse_size)]
    size: [usize; 2],
    /// How activations are stored: f32, f16 or pack16
    #[arg(long, default_value = "f16")]
    activations: String,
    /// How weights are stored: f32, f16 or q8
    #[arg(long, default_value = "f16")]
    weights: String,
    /// Print totals as JSON
    #[arg(long)]
    json: bool,
    /// Print every step
    #[arg(long)]
    steps: bool,
}

pub async fn run(options: &Options) -> Result<bool> {
    let format = tintype::pipeline::LoadOptions::parse(&options.weights, &options.activations)?.weights;
    let plans = plans(options, format).await?;
    if options.json {
        let all: serde_json::Map<String, serde_json::Value> =
            plans.iter().map(|(name, plan)| (name.to_string(), json!(plan.summary()))).collect();
        crate::say(serde_json::Value::Object(all));
        return Ok(true);
    }
    crate::say(format_args!(
        "{:<14}{:>12}{:>12}{:>11}{:>11}{:>10}{:>11}",
        "", "model", "executed", "dispatches", "weights", "peak", "moved"
    ));
    for (name, plan) in &plans {
        let s = plan.summary();
        let (giga, mega) = (|v: u64| v as f64 / 1e9, |v: u64| v as f64 / 1e6);
        crate::say(format_args!(
            "{name:<14}{:>8.1} GFL{:>8.1} GFL{:>11}{:>8.1} MB{:>7.1} MB{:>8.1} MB",
            giga(s.model_flops),
            giga(s.executed_flops),
            s.dispatches,
            mega(s.weight_bytes),
            mega(s.peak_bytes),
            mega(s.bytes_moved)
        ));
    }
    if options.steps {
        for (name, plan) in &plans {
            crate::say(format_args!("\n{name}\n{plan}"));
        }
    }
    Ok(true)
}

async fn plans(options: &Options, format: Format) -> Result<Vec<(&'static str, Plan)>> {
    let folder = DiskFolder::new(&options.model);
    let elem = match options.activations.as_str() {
        "f32" => Elem::F32,
        "f16" => Elem::F16,
        "pack16" => Elem::Pack16,
        // "auto" depends on a GPU, and none is asked here.
        other => {
            return Err(Error::option(format!("activations: wanted f32, f16 or pack16, found {other:?}")));
        }
    };
    let target = Target { elem, taps: false };
    let text = ClipTextConfig::from_json(
        &read_json(&folder, "text_encoder/config.json").await?,
        "text_encoder/config.json",
    )?;
    let unet = UnetConfig::from_json(&read_json(&folder, "unet/config.json").await?, "unet/config.json")?;
    let vae = VaeConfig::from_json(&read_json(&folder, "vae/config.json").await?, "vae/config.json")?;
    let request = Request { size: Some(options.size), ..Request::new("", 0) };
    let [width, height] = request.size(0, vae.spatial_factor())?;
    let latent = [height, width].map(|s| (s / vae.spatial_factor()) as u32);
    let tokens = text.max_position_embeddings as u32;
    let job = Job { images: 1, guided: false, size: latent, tokens };
    let encoder = TextEncoder::declare(&mut Declarations::new(format), &text);
    let network = Unet::declare(&mut Declarations::new(format), &unet);
    let decoder = Network::decoder(&mut Declarations::new(format), &vae);
    Ok(vec![
        ("text_encoder", text_plan(&encoder, &target, 1)),
        ("unet", denoise_plan(&network, &unet, &target, job)),
        ("decoder", vae_plan(&decoder, &vae, &target, 1, latent)),
    ])
}
