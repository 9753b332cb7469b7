//! `tintype bench`: peaks of a device, every distinct step of a model beside them, two settings in turns.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use tintype::bench::{self, Claim, Effort, MODELS, Run, Setting};
use tintype::error::{Error, Result};
use tintype::pipeline::plans;

use crate::model::Components;

use crate::output::Output;

#[derive(Args)]
pub struct Options {
    /// sd-turbo, sd15, sdxl, taesd, or a folder in the diffusers layout, of which only configurations are read;
    /// may be given again; by default all that have names
    #[arg(long, value_name = "NAME|DIR")]
    model: Vec<String>,
    /// Of the image, in pixels
    #[arg(long, default_value = "512x512", value_parser = crate::parse_size, allow_hyphen_values = true)]
    size: [usize; 2],
    /// Only rows whose name matches, such as "sd-turbo/unet/conv*"; * stands for anything
    #[arg(long, value_name = "GLOB", default_value = "*")]
    filter: String,
    #[command(flatten)]
    device: crate::DeviceOptions,
    /// Measure a second setting in turns with the first, such as weights=q8 or device=cpu,activations=f32
    #[arg(long, value_name = "KEY=VALUE,...")]
    versus: Option<String>,
    /// Measurements of each figure
    #[arg(long, default_value_t = Effort::default().rounds)]
    rounds: usize,
    /// Seconds after which a step is not measured again
    #[arg(long, default_value_t = Effort::default().limit)]
    limit: f64,
    /// Write all figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when a figure is below its claim: a JSON list of {"row": GLOB, "figure": "ratio" | "share" |
    /// "gflops", "at_least": NUMBER}
    #[arg(long, value_name = "FILE")]
    assert: Option<PathBuf>,
}

pub async fn run(options: &Options) -> Result<bool> {
    let claims = options.assert.as_deref().map(claims).transpose()?;
    let json = options.json.as_deref().map(|path| Output::new("--json", path)).transpose()?;
    let mut settings = vec![open(&options.device, "given").await?];
    if let Some(versus) = &options.versus {
        settings.push(open(&changed(&options.device, versus)?, versus).await?);
    }
    let models = match &options.model[..] {
        [] => MODELS.map(str::to_owned).to_vec(),
        named => named.to_vec(),
    };
    let run = Run {
        settings: &settings,
        models: &models,
        filter: &options.filter,
        effort: Effort { rounds: options.rounds.max(1), limit: options.limit, ..Effort::default() },
        tell: &|line| crate::say(line),
    };
    let report = run
        .run(async |model, setting| match bench::plans(model, setting, options.size).await? {
            Some(plans) => Ok(plans),
            None => {
                let target = setting.device.target(&setting.load.activations)?;
                let files = Components::default().model(Path::new(model)).await?;
                plans(&files, setting.load.weights, &target, options.size).await
            }
        })
        .await?;
    if let Some(json) = json {
        json.write(serde_json::to_string_pretty(&report).expect("figures are JSON").as_bytes())?;
    }
    let broken = claims.map_or(Ok(vec![]), |claims| report.broken(&claims))?;
    broken.iter().for_each(|sentence| crate::say(format_args!("broken: {sentence}")));
    Ok(broken.is_empty())
}

async fn open(options: &crate::DeviceOptions, name: &str) -> Result<Setting> {
    let (device, load) = options.open("f16").await?;
    Ok(Setting { name: name.to_owned(), device, load })
}

fn claims(path: &std::path::Path) -> Result<Vec<Claim>> {
    let text =
        fs::read(path).map_err(|e| Error::option(format!("could not read {}: {e}", path.display())))?;
    serde_json::from_slice(&text).map_err(|e| Error::option(format!("{}: {e}", path.display())))
}

/// The options with `key=value,key=value` laid over them.
fn changed(options: &crate::DeviceOptions, versus: &str) -> Result<crate::DeviceOptions> {
    let mut options = options.clone();
    for pair in versus.split(',') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "weights" => options.weights = Some(value.to_owned()),
            "activations" => options.activations = value.to_owned(),
            "device" => options.device = value.to_owned(),
            "adapter" => options.adapter = Some(value.to_owned()),
            "tuning" => options.tuning = value.to_owned(),
            _ => {
                return Err(Error::option(format!(
                    "versus: wanted weights=, activations=, device=, adapter= or tuning=, found {pair:?}"
                )));
            }
        }
    }
    Ok(options)
}
