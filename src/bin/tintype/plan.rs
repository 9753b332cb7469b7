//! `tintype plan`: what a model costs, from its configuration alone.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use tintype::error::{Error, Result, shown};
use tintype::gpu::{Program, Tuning, lower};
use tintype::pipeline::{Described, LoadOptions, Planned, Plans, network_plans, plans};
use tintype::plan::{Plan, Target};
use tintype::shape::Elem;
use tintype::weights::DiskFolder;

use crate::model::{is_file, split};

#[derive(Args)]
pub struct Options {
    /// A model folder in the diffusers layout, or the folder or config.json of one network: only configurations are
    /// read; or a single .safetensors file under the original names: only its header is read
    #[arg(long, value_name = "DIR|FILE")]
    model: PathBuf,
    #[command(flatten)]
    components: crate::model::Components,
    /// Of the image, in pixels
    #[arg(long, default_value = "512x512", value_parser = crate::parse_size, allow_hyphen_values = true)]
    size: [usize; 2],
    /// How activations are stored: f32, f16 or pack16
    #[arg(long, default_value = "f16")]
    activations: String,
    /// How weights are stored: f32, f16, q8 or q4
    #[arg(long, default_value = "f16")]
    weights: String,
    /// Which kernels, by the name of a table, as --tuning of other commands
    #[arg(long, default_value = "base")]
    tuning: String,
    /// Print totals as JSON; with --steps also each dispatch
    #[arg(long)]
    json: bool,
    /// Print every step
    #[arg(long)]
    steps: bool,
}

impl Options {
    fn program(&self, plan: &Plan) -> Program {
        lower(plan.clone(), &Tuning::find(&self.tuning).unwrap_or(Tuning::BASE))
    }
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
    let tuning = &options.tuning;
    if Tuning::find(tuning).is_none() {
        let names = Tuning::names();
        return Err(Error::option(format!("tuning: wanted {names}, found {tuning:?}")));
    }
    let target = Target::new(elem);
    let model = &options.model;
    let network = !is_file(model)? && model.is_file();
    if network || model.join("config.json").is_file() {
        options.components.none(&model.display().to_string())?;
    }
    if network {
        let (folder, file) = split(model)?;
        let plans = network_plans(&DiskFolder::new(folder), file, format, &target, options.size).await?;
        return show(options, None, &plans);
    }
    let files = options.components.model(model).await?;
    let plans = plans(&files, format, &target, options.size).await?;
    show(options, files.described(), &plans)
}

fn show(
    options: &Options,
    described: Option<&Described>,
    Plans { networks, left_out }: &Plans,
) -> Result<bool> {
    for sentence in left_out {
        crate::tell(format_args!("tintype: left out: {}", shown(sentence)));
    }
    crate::warn(described.iter().flat_map(|described| &described.file.warnings));
    if options.json {
        let mut json = as_json(networks, options);
        if let Some(described) = described {
            json["model"] = model_json(described);
        }
        crate::say(json);
        return Ok(true);
    }
    if let Some(described) = described {
        crate::say(tell(described));
    }
    table(networks, options);
    if options.steps {
        for Planned { name, plan, .. } in networks {
            crate::say(format_args!("\n{name}\n{}", options.program(plan)));
        }
    }
    Ok(true)
}

/// What a single file is, in lines for people.
pub fn tell(described: &Described) -> String {
    let list =
        |components: &[&str]| if components.is_empty() { "none".to_owned() } else { components.join(", ") };
    let zero_snr = if described.prediction.zero_snr { ", zero terminal SNR" } else { "" };
    format!(
        "family: {}\nprediction: {}{zero_snr}\npresent: {}\nmissing: {}",
        described.name(),
        described.prediction.as_str(),
        list(&described.present),
        list(&described.missing)
    )
}

/// The description of a model as JSON.
pub fn model_json(described: &Described) -> Value {
    json!({
        "family": described.family.as_str(),
        "pruned": described.pruned,
        "inpainting": described.inpainting,
        "prediction": described.prediction.as_str(),
        "zero_terminal_snr": described.prediction.zero_snr,
        "present": described.present,
        "missing": described.missing,
        "warnings": described.file.warnings,
    })
}

/// Networks that are halves of a component of another name, and the parameters of the whole.
fn whole<'a>(networks: &'a [Planned], first: &'a Planned) -> Option<(&'static str, u64)> {
    let halves = || networks.iter().filter(|p| p.component == first.component);
    let begins = halves().next().is_some_and(|p| p.name == first.name);
    (begins && halves().count() > 1)
        .then(|| (first.component, halves().map(|p| p.declarations.parameters()).sum()))
}

/// An object for each line of the table.
fn as_json(networks: &[Planned], options: &Options) -> Value {
    let mut all = Map::new();
    for planned in networks {
        if let Some((component, parameters)) = whole(networks, planned) {
            all.insert(component.to_owned(), json!({"parameters": parameters}));
        }
        let program = options.program(&planned.plan);
        let mut figures = json!(program.summary());
        figures["parameters"] = json!(planned.declarations.parameters());
        if options.steps {
            figures["steps"] = steps_json(&program);
        }
        all.insert(planned.name.to_owned(), figures);
    }
    Value::Object(all)
}

/// Every dispatch: which kernel, and what it computes and moves.
fn steps_json(program: &Program) -> Value {
    let sections = program.plan.sections.iter();
    sections
        .flat_map(|section| {
            program.dispatches[program.of(section.steps.clone())].iter().map(|dispatch| {
                let variant = dispatch.variant.get();
                json!({
                    "section": section.name,
                    "kernel": variant.kernel,
                    "variant": variant.name,
                    "executed_flops": dispatch.cost.executed_flops,
                    "bytes_moved": dispatch.bytes_moved,
                })
            })
        })
        .collect()
}

/// A line for each network; an autoencoder has one for its parameters and one for each half.
fn table(networks: &[Planned], options: &Options) {
    crate::say(format_args!(
        "{:<15}{:>14}{:>13}{:>13}{:>12}{:>12}{:>12}{:>13}",
        "", "parameters", "model", "executed", "dispatches", "weights", "peak", "moved"
    ));
    for planned in networks {
        if let Some((component, parameters)) = whole(networks, planned) {
            crate::say(format_args!("{component:<15}{:>14}", grouped(parameters)));
        }
        let s = options.program(&planned.plan).summary();
        let (giga, mega) = (|v: u64| v as f64 / 1e9, |v: u64| v as f64 / 1e6);
        crate::say(format_args!(
            "{:<15}{:>14}{:>9.1} GFL{:>9.1} GFL{:>12}{:>9.1} MB{:>9.1} MB{:>10.1} MB",
            planned.name,
            grouped(planned.declarations.parameters()),
            giga(s.model_flops),
            giga(s.executed_flops),
            s.dispatches,
            mega(s.weight_bytes),
            mega(s.peak_bytes),
            mega(s.bytes_moved)
        ));
    }
}

/// 1234567 to "1,234,567".
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
