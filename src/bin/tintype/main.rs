//! The native command: draw, verify against reference results, print plans.

mod bench;
mod building;
mod builtin;
mod fidelity;
mod generate;
mod inputs;
mod inspect;
mod model;
mod output;
mod pack;
mod picture;
mod plan;
mod verify;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tintype::device::Device;
use tintype::error::{Error, Result, plain, shown};
use tintype::pipeline::{Budget, LoadOptions};
use tintype::warning::Warning;

/// Images from words, on your own GPU.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Draw an image of a prompt
    Generate(Box<generate::Options>),
    /// Compare with a set of reference results
    Verify(verify::Options),
    /// Store a model's weights as they are computed with, for any static host
    Pack(pack::Options),
    /// Print what a model costs, from its configuration or its header alone
    Plan(plan::Options),
    /// Say what a .safetensors file is, and what of it would not be used
    Inspect(inspect::Options),
    /// Measure what weights of fewer bits cost, in images and layer by layer
    Fidelity(fidelity::Options),
    /// Measure a device: its peaks, and every kernel at the shapes of models
    Bench(bench::Options),
}

/// What commands that use a GPU share.
#[derive(Args, Clone)]
struct DeviceOptions {
    /// How weights are stored: f32, f16, q8 or q4, or auto, the first of f16, q8 and q4 that --memory allows; by default
    /// f16, and f32 to verify
    #[arg(long)]
    weights: Option<String>,
    /// What weights and activations may take on the device, in MB: where the smallest weights need more, text encoders run
    /// on the CPU, then images are decoded in tiles, then an autoencoder that asks for f32 computes in 16-bit floats;
    /// what needs more still is refused
    #[arg(long, value_name = "MB")]
    memory: Option<u64>,
    /// How the autoencoder's weights are stored; by default as --weights, or q8 for q4
    #[arg(long, value_name = "WEIGHTS")]
    decoder_weights: Option<String>,
    /// How activations are stored: auto, f32, f16 or pack16
    #[arg(long, default_value = "auto")]
    activations: String,
    /// Where it runs: gpu; cpu, which needs no GPU and computes in f32; or auto, the CPU if there is no real
    /// GPU, unless --adapter or --activations f16 or pack16 ask for one
    #[arg(long, default_value = "auto")]
    device: String,
    /// Take the adapter that has this in its name
    #[arg(long, value_name = "SUBSTRING")]
    adapter: Option<String>,
    /// Which kernels a GPU runs, by the name of a table: auto, for a large model the fastest by a trial on a real GPU; measured,
    /// by a trial on any; base, what every GPU runs well; lanes, for adapters that load lane by lane; wide, thin or narrow,
    /// tiles that threads share, for GPUs with many registers or with few; winograd, thin with Winograd at every size
    #[arg(long, default_value = "auto")]
    tuning: String,
}

impl DeviceOptions {
    async fn open(&self, weights: &str) -> Result<(Device, LoadOptions)> {
        let weights = self.weights.as_deref().unwrap_or(weights);
        let mut options = LoadOptions::parse(weights, &self.activations)?;
        options.budget = self.memory.map(|mega| Budget { bytes: mega.saturating_mul(1_000_000), firm: true });
        options.decoder = LoadOptions::decoder(self.decoder_weights.as_deref())?;
        let device = Device::open(&self.device, &self.activations, self.adapter.as_deref(), None).await?;
        device.elem(&options.activations)?;
        device.tune(&self.tuning, &self.device)?;
        // "auto" waits for a model.
        device.try_tables(&device.target(&options.activations)?, || Ok(0), &|| false).await?;
        Ok((device, options))
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match cli.command {
        Command::Generate(options) => pollster::block_on(generate::run(&options)),
        Command::Verify(options) => pollster::block_on(verify::run(&options)),
        Command::Pack(options) => pollster::block_on(pack::run(&options)),
        Command::Plan(options) => pollster::block_on(plan::run(&options)),
        Command::Inspect(options) => pollster::block_on(inspect::run(&options)),
        Command::Fidelity(options) => pollster::block_on(fidelity::run(&options)),
        Command::Bench(options) => pollster::block_on(bench::run(&options)),
    };
    match (result, LOST.get()) {
        (Err(error), _) => fail(&error),
        (_, Some(error)) => fail(&Error::network(format!("cannot write stdout: {error}"))),
        (Ok(true), None) => ExitCode::SUCCESS,
        (Ok(false), None) => ExitCode::FAILURE,
    }
}

/// The arguments, with each negative number tied to the option before it, which judges it: by itself it looks like an
/// option.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![];
    let mut options = true;
    for argument in std::env::args_os() {
        let negative = argument.to_str().and_then(|text| text.strip_prefix('-')?.parse::<f64>().ok());
        let before = arguments.last_mut().filter(|before| {
            before.to_str().is_some_and(|text| text.starts_with("--") && !text.contains('='))
        });
        options &= argument != "--";
        match (negative, before) {
            (Some(_), Some(before)) if options => {
                before.push("=");
                before.push(argument);
            }
            _ => arguments.push(argument),
        }
    }
    arguments
}

/// Tells what went wrong, to programs too where they asked for JSON.
fn fail(error: &Error) -> ExitCode {
    tell(format_args!("tintype: {error}"));
    if wants_json() {
        say(json!({"error": {"code": error.code.as_str(), "message": shown(&error.message)}}));
    }
    ExitCode::FAILURE
}

/// Whether results are to be JSON on stdout, told by the arguments alone, which may be wrong. To measure, `--json` names
/// a file.
fn wants_json() -> bool {
    let mut arguments = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    arguments.next().is_some_and(|command| command != "bench")
        && arguments.any(|argument| argument == "--json")
}

/// Help goes out as it is; a mistake is told in one sentence and exits with 1, as every other error does.
fn refuse(error: &clap::Error) -> ExitCode {
    let help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if help || !error.use_stderr() {
        // Nothing is lost when help cannot be printed.
        let _ = error.print();
        return if help { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    // Hints about the usage follow behind an empty line.
    let sentence = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    // Which is all that the parsers of numbers say.
    let sentence = sentence.replace("invalid digit found in string", "wanted a whole number from 0");
    fail(&Error::option(sentence.replace("invalid float literal", "wanted a number")))
}

/// What became of stdout, if not all was written to it.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Lines on stdout. That nobody reads them any more (`tintype plan | head -1`) is no error.
fn say(lines: impl Display) {
    let lines: Vec<String> = lines.to_string().split('\n').map(plain).collect();
    if let Err(e) = writeln!(io::stdout(), "{}", lines.join("\n"))
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = LOST.set(e);
    }
}

/// A line on stderr. Where that is closed or full there is nobody to tell.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain(&line.to_string()));
}

/// Warnings, each a line on stderr.
fn warn<'a>(warnings: impl IntoIterator<Item = &'a Warning>) {
    warnings.into_iter().for_each(|warning| tell(format_args!("tintype: {warning}")));
}

/// "512x256" to width and height.
fn parse_size(text: &str) -> std::result::Result<[usize; 2], String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
    sides.ok_or_else(|| format!("wanted WIDTHxHEIGHT in pixels, such as 512x512, found {text:?}"))
}
