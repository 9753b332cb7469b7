//! `tintype plan`: what a model costs, from its configuration alone.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tintype::error::{Error, Result};
use tintype::pipeline::{LoadOptions, Planned, plans};
use tintype::plan::Target;
use tintype::shape::Elem;
use tintype::weights::DiskFolder;

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
    let format = LoadOptions::parse(&options.weights, &options.activations)?.weights;
    let elem = match options.activations.as_str() {
        "f32" => Elem::F32,
        "f16" => Elem::F16,
        "pack16" => Elem::Pack16,
        // "auto" depends on a GPU, and none is asked here.
        other => {
            return Err(Error::option(format!("activations: wanted f32, f16 or pack16, found {other:?}")));
        }
    };
    let target = Target::new(elem);
    let plans = plans(&DiskFolder::new(&options.model), format, &target, options.size).await?;
    if options.json {
        let all: serde_json::Map<String, serde_json::Value> =
            plans.iter().map(|p| (p.name.to_owned(), json!(p.plan.summary()))).collect();
        crate::say(serde_json::Value::Object(all));
        return Ok(true);
    }
    crate::say(format_args!(
        "{:<14}{:>12}{:>12}{:>11}{:>11}{:>10}{:>11}",
        "", "model", "executed", "dispatches", "weights", "peak", "moved"
    ));
    for Planned { name, plan, .. } in &plans {
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
        for Planned { name, plan, .. } in &plans {
            crate::say(format_args!("\n{name}\n{plan}"));
        }
    }
    Ok(true)
}
