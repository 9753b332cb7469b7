//! `tintype fidelity`: what storing weights in fewer bits costs, layer by layer and image by image.

mod layers;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use tintype::device::Device;
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::pipeline::{Image, LoadOptions, Pipeline, Request, Watch};
use tintype::quant::Format;
use tintype::weights::{Folder, Hooks};

use crate::model::Components;
use crate::output::Output;
use crate::picture::write_png;

#[derive(Args)]
pub struct Options {
    /// A model folder in the diffusers layout, or "builtin"
    #[arg(long, value_name = "DIR", default_value = "builtin")]
    model: String,
    /// A JSON list of objects with "prompt" and "seed", an image each
    #[arg(long, value_name = "FILE", default_value = "training/heldout.json")]
    captions: PathBuf,
    /// How many of the captions are drawn
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// Compare layers: the signal to noise of plain rounding beside that of the chosen scales
    #[arg(long)]
    layers: bool,
    /// Also write the images, in a folder for each setting
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
}

/// Settings by name: how the networks and the decoder are stored. Images are compared with those of the first.
const SETTINGS: [(&str, Format, Format); 5] = [
    ("f32", Format::F32, Format::F32),
    ("f16", Format::F16, Format::F16),
    ("q8", Format::Q8, Format::Q8),
    ("q4", Format::Q4, Format::Q8),
    ("decoder-q8", Format::F32, Format::Q8),
];

pub async fn run(options: &Options) -> Result<bool> {
    match options.model.as_str() {
        "builtin" => run_on(&crate::builtin::folder()?, options).await,
        path => run_on(&Components::default().model(Path::new(path)).await?, options).await,
    }
}

async fn run_on(folder: &dyn Folder, options: &Options) -> Result<bool> {
    if options.layers {
        layers::print(folder).await?;
        return Ok(true);
    }
    let requests = requests(options)?;
    let mut wanted: Vec<Image> = vec![];
    crate::say("setting      images    PSNR mean  worst (dB)");
    for (name, weights, decoder) in SETTINGS {
        let load = LoadOptions { weights, decoder: Some(decoder), ..LoadOptions::parse("f32", "auto")? };
        let pipeline = Pipeline::load(&Device::Cpu, folder, &load, Hooks::NONE).await?;
        let mut psnr = vec![];
        for (i, request) in requests.iter().enumerate() {
            let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
            let image = pipeline.generate(request, &watch).await?.images.remove(0);
            if let Some(pictures) = &options.pictures {
                let folder = pictures.join(name);
                fs::create_dir_all(&folder)
                    .map_err(|e| Error::option(format!("--pictures: {}: {e}", folder.display())))?;
                write_png(&Output::new("--pictures", &folder.join(format!("{i:03}.png")))?, &image)?;
            }
            match wanted.get(i) {
                Some(wanted) => psnr.push(decibels(&wanted.rgba, &image.rgba)),
                None => wanted.push(image),
            }
        }
        if !psnr.is_empty() {
            let mean = psnr.iter().sum::<f64>() / psnr.len() as f64;
            let worst = psnr.iter().copied().fold(f64::INFINITY, f64::min);
            crate::say(format_args!("{name:<12} {:>8} {mean:>10.1} {worst:>6.1}", psnr.len()));
        }
    }
    Ok(true)
}

fn requests(options: &Options) -> Result<Vec<Request>> {
    let path = options.captions.display();
    let text = fs::read(&options.captions).map_err(|e| Error::option(format!("--captions: {path}: {e}")))?;
    let rows: Vec<Value> = serde_json::from_slice(&text)
        .map_err(|e| Error::option(format!("--captions: {path}: wanted a JSON list, found {e}")))?;
    let request = |row: &Value| {
        let prompt = row.get("prompt").and_then(Value::as_str);
        let both = prompt.zip(row.get("seed").and_then(Value::as_u64));
        let (prompt, seed) = both.ok_or_else(|| {
            Error::option(format!("--captions: {path}: wanted \"prompt\" and \"seed\", found {row}"))
        })?;
        Ok(Request::new(prompt, seed))
    };
    rows.iter().take(options.count).map(request).collect()
}

/// The PSNR of colours from 0 to 255, over red, green and blue.
fn decibels(wanted: &[u8], found: &[u8]) -> f64 {
    let colours = |rgba: &[u8]| -> Vec<f64> {
        rgba.chunks_exact(4).flat_map(|p| p[..3].to_vec()).map(f64::from).collect()
    };
    let (a, b) = (colours(wanted), colours(found));
    let square = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / a.len() as f64;
    10.0 * (255.0 * 255.0 / square.max(1e-9)).log10()
}
