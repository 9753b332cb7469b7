//! `tintype bench`: peaks of a device, every distinct step of a model beside them, two settings in turns.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use tintype::bench::{self, Claim, Effort, MODELS, Report, Row, Subject, Wanted};
use tintype::device::Device;
use tintype::error::{Error, Result};
use tintype::pipeline::{LoadOptions, Planned, plans};
use tintype::weights::DiskFolder;

use crate::verify::matches;

#[derive(Args)]
pub struct Options {
    /// sd-turbo, sd15, taesd, or a folder in the diffusers layout, of which only config.json files are read;
    /// may be given again; by default all that have names
    #[arg(long, value_name = "NAME|DIR")]
    model: Vec<String>,
    /// Of the picture, in pixels
    #[arg(long, default_value = "512x512", value_parser = crate::parse_size)]
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

/// A device and how a model is loaded on it.
struct Setting {
    name: String,
    device: Device,
    load: LoadOptions,
}

pub async fn run(options: &Options) -> Result<bool> {
    let claims = options.assert.as_deref().map(claims).transpose()?;
    let mut settings = vec![Setting::open(&options.device, "given".to_owned()).await?];
    if let Some(versus) = &options.versus {
        settings.push(Setting::open(&changed(&options.device, versus)?, versus.clone()).await?);
    }
    let effort = Effort { rounds: options.rounds.max(1), limit: options.limit, ..Effort::default() };
    let mut report = Report {
        settings: settings.iter().map(|s| s.name.clone()).collect(),
        devices: settings.iter().map(|s| s.device.name().to_owned()).collect(),
        peaks: vec![],
        rows: vec![],
    };
    for Setting { name, device, load } in &settings {
        let peaks = bench::peaks(device, &effort).await?;
        let f16 = peaks.f16_flops.map_or(String::new(), |f| format!(", {:.1} in f16", f / 1e9));
        crate::say(format_args!(
            "{name}: {}, weights {}, activations {}; peaks: {:.1} GFLOP/s in f32{f16}, {:.1} GB/s",
            device.name(),
            load.weights.as_str(),
            device.elem(&load.activations)?.as_str(),
            peaks.f32_flops / 1e9,
            peaks.bytes / 1e9,
        ));
        report.peaks.push(peaks);
    }
    let models: Vec<&str> = match &options.model[..] {
        [] => MODELS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    for model in models {
        measure(options, model, &settings, &effort, &mut report).await?;
    }
    if report.rows.is_empty() {
        return Err(Error::option(format!("--filter {}: no row has such a name", options.filter)));
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).expect("figures are JSON");
        fs::write(path, text)
            .map_err(|e| Error::option(format!("could not write {}: {e}", path.display())))?;
    }
    let broken = match claims {
        Some(claims) => report.broken(&claims, &matches)?,
        None => vec![],
    };
    broken.iter().for_each(|sentence| crate::say(format_args!("broken: {sentence}")));
    Ok(broken.is_empty())
}

/// Appends the rows of a model, network by network: two of them rarely fit at once.
async fn measure(
    options: &Options,
    model: &str,
    settings: &[Setting],
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let mut planned: Vec<Vec<Planned>> = vec![];
    for setting in settings {
        planned.push(setting.plans(model, options.size).await?);
    }
    for at in (0..planned[0].len()).rev() {
        let name = format!("{model}/{}", planned[0][at].name);
        // What could be wanted of this network begins with its name.
        if !could_match(&options.filter, &name) {
            planned.iter_mut().for_each(|p| drop(p.pop()));
            continue;
        }
        let mut subjects = vec![];
        for ((setting, planned), peaks) in settings.iter().zip(&mut planned).zip(&report.peaks) {
            let network = planned.pop().expect("as many networks under each setting");
            subjects.push(Subject::new(&setting.device, *peaks, network).await?);
        }
        let wanted = Wanted {
            step: &|name| matches(&options.filter, name),
            effort: *effort,
            tell: &|row: &Row| crate::say(row),
        };
        report.rows.extend(bench::network(&name, &subjects, &wanted).await?);
    }
    Ok(())
}

/// Whether the glob could match something that begins with `name`.
fn could_match(glob: &str, name: &str) -> bool {
    let fixed = glob.split('*').next().unwrap_or_default();
    fixed.starts_with(name) || name.starts_with(fixed)
}

impl Setting {
    async fn open(options: &crate::DeviceOptions, name: String) -> Result<Setting> {
        let (device, load) = options.open("f16").await?;
        Ok(Setting { name, device, load })
    }

    async fn plans(&self, model: &str, size: [usize; 2]) -> Result<Vec<Planned>> {
        let target = self.device.target(&self.load.activations)?;
        match bench::folder(model) {
            Some(folder) => plans(&folder, self.load.weights, &target, size).await,
            None => plans(&DiskFolder::new(model), self.load.weights, &target, size).await,
        }
    }
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
            _ => {
                return Err(Error::option(format!(
                    "versus: wanted weights=, activations=, device= or adapter=, found {pair:?}"
                )));
            }
        }
    }
    Ok(options)
}
