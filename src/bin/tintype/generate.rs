//! `tintype generate`: a prompt to a PNG.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tintype::device::Device;
use tintype::error::{Error, Result};
use tintype::host::{Cancel, now};
use tintype::pipeline::{LoadOptions, Pipeline, Report, Request, Seeds, Stage, Watch};
use tintype::warning::Warning;
use tintype::weights::Hooks;

use crate::output::Output;
use crate::picture::write_png;

#[derive(Args)]
pub struct Options {
    prompt: String,
    /// A model folder in the diffusers layout, a single .safetensors file under the original names (SD 1.x, 2.x, SDXL),
    /// or "builtin"
    #[arg(long, value_name = "DIR|FILE", default_value = "builtin")]
    model: String,
    #[command(flatten)]
    components: crate::model::Components,
    /// The image's file
    #[arg(long, value_name = "FILE", default_value = "out.png")]
    out: PathBuf,
    /// Denoising steps; by default what the model's scheduler wants
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the noise, as torch's CPU generator takes it; random by default
    #[arg(long)]
    seed: Option<u64>,
    /// Of the image, in pixels; by default what the model was trained for
    #[arg(long, value_name = "WxH", value_parser = crate::parse_size, allow_hyphen_values = true)]
    size: Option<[usize; 2]>,
    #[arg(long, help = schedulers())]
    scheduler: Option<String>,
    /// Guidance scale; classifier-free guidance is on above 1 (Z-Image: above 0); by default off for distilled models
    #[arg(long)]
    guidance: Option<f64>,
    /// How much of the guided prediction is given the spread of the prompt's own: 0 to 1; by default what the model says,
    /// else 0
    #[arg(long, value_name = "SHARE")]
    guidance_rescale: Option<f64>,
    /// How much fresh noise DDIM and TCD add: 0 to 1; by default 0
    #[arg(long)]
    eta: Option<f64>,
    /// Tokens of a prompt for a text encoder that takes any number of them (T5); by default what suits the model
    #[arg(long, value_name = "TOKENS")]
    max_sequence_length: Option<usize>,
    /// What SANA's text encoder reads in front of the prompt; "" for nothing
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    /// Layers that are left out at the end of the text encoder
    #[arg(long, value_name = "LAYERS", default_value_t = 0)]
    clip_skip: usize,
    /// Read (word:1.2) and [word] as weights, and give long prompts several chunks
    #[arg(long)]
    weighted: bool,
    #[command(flatten)]
    inputs: crate::inputs::Inputs,
    /// What the image should not show (with guidance)
    #[arg(long, default_value = "")]
    negative: String,
    #[command(flatten)]
    device: crate::DeviceOptions,
    /// Also write the latents of every step and the image as floats
    #[arg(long, value_name = "FILE.safetensors")]
    dump: Option<PathBuf>,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub async fn run(options: &Options) -> Result<bool> {
    let (out, dump_to) = outputs(options)?;
    let seed = options.seed.unwrap_or_else(random_seed);
    let request = options.inputs.add_to(Request {
        negative_prompt: options.negative.clone(),
        seeds: Seeds::One(seed),
        steps: options.steps,
        size: options.size,
        guidance: options.guidance,
        guidance_rescale: options.guidance_rescale,
        scheduler: options.scheduler.clone(),
        eta: options.eta,
        max_sequence_length: options.max_sequence_length,
        instruction: options.instruction.clone(),
        clip_skip: options.clip_skip,
        weighted: options.weighted,
        ..Request::new(&options.prompt, seed)
    })?;
    let (device, mut load) = options.device.open("f16").await?;
    load.encoder = options.inputs.encodes();
    load.size = options.size;
    let bar = Bar::new();
    let begun = now();
    let pipeline = load_model(&device, options, &load, &bar).await;
    bar.clear();
    let pipeline = pipeline?;
    let loaded = now() - begun;
    // At once: what is wrong with a file may be why no image comes of it.
    crate::warn(pipeline.warnings());
    let dumped = RefCell::new(vec![]);
    let dump = |name: &str, shape: [usize; 4], values: Vec<f32>| {
        let mut dumped = dumped.borrow_mut();
        // What is computed again replaces what was there.
        dumped.retain(|(other, ..): &(String, _, _)| other != name);
        dumped.push((name.to_owned(), shape, values));
    };
    let watch = Watch {
        cancel: Cancel::default(),
        progress: &|stage, fraction| bar.show(&words(stage), fraction),
        preview: None,
        dump: dump_to.is_some().then_some(&dump),
    };
    let report = pipeline.generate(&request, &watch).await;
    bar.clear();
    let report = report?;
    write_png(&out, &report.images[0])?;
    if let Some(dump) = dump_to {
        dump.write(&safetensors(&dumped.borrow()))?;
    }
    crate::warn(&report.warnings);
    if report.unsafe_images.contains(&true) {
        crate::tell("tintype: the safety checker found the image unsafe");
    }
    let warnings: Vec<&Warning> = pipeline.warnings().iter().chain(&report.warnings).collect();
    tell(options, &device, &report, &warnings, seed, loaded);
    Ok(true)
}

/// Where the image and the dump go: two places that can be written.
fn outputs(options: &Options) -> Result<(Output, Option<Output>)> {
    let out = Output::new("--out", &options.out)?;
    let dump = options.dump.as_deref().map(|path| Output::new("--dump", path)).transpose()?;
    if let Some(dump) = dump.as_ref().filter(|dump| dump.is(&out)) {
        return Err(Error::option(format!("--dump: wanted another file than --out's, found {dump}")));
    }
    if let Some(taken) =
        [Some(&out), dump.as_ref()].into_iter().flatten().find(|o| options.json && o.is_stdout())
    {
        return Err(Error::option(format!("--json: wanted stdout for itself, found {taken} as an output")));
    }
    Ok((out, dump))
}

async fn load_model(device: &Device, options: &Options, load: &LoadOptions, bar: &Bar) -> Result<Pipeline> {
    let progress = |read: u64, total: Option<u64>| {
        bar.show("loading", total.map_or(0.0, |t| read as f64 / t.max(1) as f64));
    };
    let hooks = Hooks { progress: &progress, ..Hooks::NONE };
    if options.model == "builtin" {
        options.components.none("builtin")?;
        if options.inputs.adds() {
            return Err(Error::option(
                "--model: what comes beside a model wants one of its family, found builtin",
            ));
        }
        return Pipeline::load(device, &crate::builtin::folder()?, load, hooks).await;
    }
    let folders = options.inputs.folders()?;
    let model = options.components.model(Path::new(&options.model)).await?;
    Pipeline::load_with(device, &model, &folders.additions(), load, hooks).await
}

fn tell(options: &Options, device: &Device, report: &Report, warnings: &[&Warning], seed: u64, loaded: f64) {
    let (image, t) = (&report.images[0], report.timings);
    if options.json {
        let value = json!({
            "out": options.out.display().to_string(), "prompt": options.prompt, "seed": seed, "steps": report.steps,
            "width": image.width, "height": image.height,
            "device": device.kind(), "adapter": device.name(), "tuning": device.tuning(),
            "timings": {"load": loaded, "text": t.text, "denoise": t.denoise, "decode": t.decode},
            "warnings": warnings, "unsafe": report.unsafe_images,
        });
        crate::say(value);
        return;
    }
    crate::tell(format_args!(
        "{}: {}x{}, seed {seed}, {} steps on {}; load {loaded:.2} s, text {:.2} s, denoise {:.2} s, decode {:.2} s",
        options.out.display(),
        image.width,
        image.height,
        report.steps,
        device.name(),
        t.text,
        t.denoise,
        t.decode
    ));
}

fn words(stage: Stage) -> String {
    match stage {
        Stage::Compile { .. } => "compiling".to_owned(),
        Stage::Text => "reading the prompt".to_owned(),
        Stage::Step { step, steps } => format!("step {} of {steps}", step + 1),
        Stage::Decode => "decoding".to_owned(),
    }
}

/// From the clock: good enough to differ from run to run, and it is printed.
fn random_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::from(since.map_or(0, |d| d.subsec_nanos() ^ d.as_secs() as u32))
}

/// A progress bar on stderr, when that is a terminal.
pub struct Bar {
    on: bool,
}

impl Bar {
    pub fn new() -> Bar {
        Bar { on: std::io::stderr().is_terminal() }
    }

    pub fn show(&self, what: &str, fraction: f64) {
        if self.on {
            let filled = (fraction.clamp(0.0, 1.0) * 30.0) as usize;
            let mut stderr = std::io::stderr();
            let bar = "=".repeat(filled);
            // Nothing is lost when a progress bar cannot be written.
            let _ = write!(stderr, "\r\x1b[K{what:<20} [{bar:<30}] {:>3.0} %", fraction * 100.0);
            let _ = stderr.flush();
        }
    }

    pub fn clear(&self) {
        if self.on {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A safetensors file of f32 tensors.
fn safetensors(tensors: &[(String, [usize; 4], Vec<f32>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape, values) in tensors {
        let begin = end;
        end += values.len() * 4;
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    for (_, _, values) in tensors {
        bytes.extend_from_slice(bytemuck::cast_slice(values));
    }
    bytes
}

/// The help of `--scheduler`.
fn schedulers() -> String {
    let names: Vec<&str> = tintype::schedule::names().collect();
    format!("One of {}; by default the model's own", names.join(", "))
}
