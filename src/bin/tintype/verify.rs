//! `tintype verify`: every case of a reference set, against that case's own limits.

mod control;
mod dit;
mod lora;
mod ops;
mod ops_dit;
mod pipe;
mod reference;
mod rng;
mod sched;
mod text;
mod tokens;
mod unet;
mod vae;
mod vision;

use std::path::PathBuf;

use clap::Args;
use reference::Reference;
use serde_json::{Value, json};
use tintype::bench::matches;
use tintype::device::Device;
use tintype::error::{Code, Error, Result};
use tintype::host::now;
use tintype::pipeline::LoadOptions;
use tintype::plan::Target;
use tintype::shape::Elem;

#[derive(Args)]
pub struct Options {
    /// A folder with a manifest.json of reference results, or a tokenizer's with a golden.json
    golden: PathBuf,
    /// Only cases whose name matches; * stands for anything
    #[arg(long, value_name = "GLOB", default_value = "*")]
    filter: String,
    #[command(flatten)]
    device: crate::DeviceOptions,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Print every tensor that was compared
    #[arg(long)]
    all: bool,
}

/// What every case is run with.
pub struct Bench {
    pub device: Device,
    pub load: LoadOptions,
    pub root: PathBuf,
    pub target: Target,
    /// The version of torch that made the set; empty if the manifest does not say.
    pub torch: String,
}

impl Bench {
    /// With the output of every module kept.
    pub fn tapped(&self) -> Target {
        Target { taps: true, ..self.target.clone() }
    }

    pub fn reference(&self, case: &Value) -> Result<Reference> {
        let file =
            case["file"].as_str().ok_or_else(|| Error::model("manifest.json: a case without a file"))?;
        Reference::open(&self.root.join(file))
    }

    /// "sd-turbo-like/unet" to the model folder and the component.
    pub fn component<'a>(&self, case: &'a Value) -> Result<(PathBuf, &'a str)> {
        let model =
            case["model"].as_str().ok_or_else(|| Error::model("manifest.json: a case without a model"))?;
        if model.is_empty() {
            return Ok((self.root.clone(), ""));
        }
        let (folder, component) = model.rsplit_once('/').unwrap_or(("", model));
        Ok((self.root.join("models").join(folder), component))
    }
}

/// One comparison: relative L2 error, or another figure that must stay below its limit.
pub struct Check {
    pub what: String,
    pub error: f64,
    /// `None`: the case's own.
    pub limit: Option<f64>,
}

impl Check {
    pub fn new(what: impl Into<String>, got: &[f32], want: &[f32]) -> Check {
        Check { what: what.into(), error: reference::relative_l2(got, want), limit: None }
    }

    /// A figure with a limit of its own.
    pub fn below(what: impl Into<String>, error: f64, limit: f64) -> Check {
        Check { what: what.into(), error, limit: Some(limit) }
    }
}

pub async fn run(options: &Options) -> Result<bool> {
    let manifest = options.golden.join("manifest.json");
    // A network or a tokenizer with its own reference has none.
    let alone = [(tokens::ALONE, r#"{"cases": {}}"#), (vae::ALONE, vae::ALONE_CASES)];
    let alone = alone.into_iter().find(|(file, _)| options.golden.join(file).exists());
    let alone = alone.filter(|_| !manifest.exists());
    let text = match alone {
        Some((_, cases)) => Ok(cases.as_bytes().to_vec()),
        None => std::fs::read(&manifest),
    };
    let text = text.map_err(|e| Error::not_found(format!("{}: {e}", manifest.display())))?;
    let manifest: Value =
        tintype::json::parse(&text).map_err(|e| Error::model(format!("{}: {e}", manifest.display())))?;
    let (device, load) = options.device.open("f32").await?;
    let target = device.target(match load.activations.as_str() {
        "auto" => "f32",
        named => named,
    })?;
    if !options.json {
        crate::say(format_args!(
            "{}, activations {}, weights {}",
            device.name(),
            target.elem.as_str(),
            load.weights.as_str()
        ));
    }
    let torch = manifest["versions"]["torch"].as_str().unwrap_or_default().to_owned();
    let bench = Bench { device, load, root: options.golden.clone(), target, torch };
    let tokens = json!({"limits": {"f32": 0.0, "half": 0.0}});
    let cases = manifest["cases"].as_object().ok_or_else(|| Error::model("manifest.json has no cases"))?;
    let tokens =
        [("tokens", &tokens)].into_iter().filter(|_| alone.is_none_or(|(file, _)| file == tokens::ALONE));
    let cases = tokens.chain(cases.iter().map(|(n, c)| (n.as_str(), c)));

    let mut counts = [0; 3];
    let mut rows = vec![];
    for (name, case) in cases.filter(|(name, _)| matches(&options.filter, name)) {
        let begun = now();
        let row = judge(case, bench.target.elem, run_case(&bench, name, case).await);
        counts[row.outcome as usize] += 1;
        if options.json {
            rows.push(json!({"case": name, "outcome": row.outcome.as_str(), "detail": row.detail, "seconds": now() - begun}));
        } else {
            let (outcome, seconds) = (row.outcome.as_str(), now() - begun);
            crate::say(format_args!("{outcome:<8}{name:<42} {} ({seconds:.1} s)", row.detail));
            for line in row.lines.iter().filter(|_| options.all) {
                crate::say(format_args!("        {line}"));
            }
        }
    }
    let [passed, failed, skipped] = counts;
    if options.json {
        let adapter = bench.device.name();
        crate::say(
            json!({"adapter": adapter, "cases": rows, "passed": passed, "failed": failed, "skipped": skipped}),
        );
    } else {
        crate::say(format_args!("{passed} passed, {failed} failed, {skipped} skipped"));
    }
    Ok(failed == 0 && passed > 0)
}

#[derive(Clone, Copy)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        ["passed", "FAILED", "skipped"][self as usize]
    }
}

struct Row {
    outcome: Outcome,
    detail: String,
    lines: Vec<String>,
}

/// The checks against the limits of the case; what is not built yet is skipped with its reason.
fn judge(case: &Value, elem: Elem, checks: Result<Vec<Check>>) -> Row {
    let checks = match checks {
        Ok(checks) => checks,
        Err(e) if e.code == Code::Unsupported => {
            return Row { outcome: Outcome::Skipped, detail: e.message, lines: vec![] };
        }
        Err(e) => return Row { outcome: Outcome::Failed, detail: e.to_string(), lines: vec![] },
    };
    let key = if elem == Elem::F32 { "f32" } else { "half" };
    let Some(limit) = case["limits"][key].as_f64() else {
        return Row {
            outcome: Outcome::Failed,
            detail: format!("the case has no limit {key}"),
            lines: vec![],
        };
    };
    let lines = checks.iter().map(|c| format!("{:<70} {:.2e}", c.what, c.error)).collect();
    // NaN is worse than everything.
    let share = |c: &Check| {
        let limit = c.limit.unwrap_or(limit);
        if c.error.is_nan() {
            f64::INFINITY
        } else if c.error == 0.0 {
            0.0
        } else {
            c.error / limit
        }
    };
    let Some(worst) = checks.iter().max_by(|a, b| share(a).total_cmp(&share(b))) else {
        return Row { outcome: Outcome::Failed, detail: "nothing was compared".to_owned(), lines };
    };
    let outcome = if share(worst) <= 1.0 { Outcome::Passed } else { Outcome::Failed };
    let limit = worst.limit.unwrap_or(limit);
    let detail =
        format!("{} compared, worst {:.1e} of {limit:.1e} in {}", checks.len(), worst.error, worst.what);
    Row { outcome, detail, lines }
}

async fn run_case(bench: &Bench, name: &str, case: &Value) -> Result<Vec<Check>> {
    match name.split_once('/') {
        None if name == "tokens" => tokens::run(bench),
        None if name == "rng" => rng::run(bench, case),
        None if name == "ops" => ops::run(bench, case).await,
        None if name == "ops-dit" => ops_dit::run(bench, case).await,
        Some(("text", _)) => text::run(bench, case).await,
        Some(("dit", _)) => dit::run(bench, case).await,
        Some(("unet", "timestep_embedding")) => unet::timestep_embedding(bench, case),
        Some(("unet", "guidance_embedding")) => unet::guidance_embedding(bench, case),
        Some(("unet", _)) => unet::run(bench, case).await,
        Some(("extras", "lora")) => lora::run(bench, case).await,
        Some(("vae", _)) => vae::run(bench, case).await,
        Some(("sched", "alphas")) => sched::alphas(bench, case),
        Some(("sched", name)) => sched::run(bench, name, case).await,
        Some(("extras", "image_encoder")) => vision::image_encoder(bench, case).await,
        Some(("extras", "ip_adapter_embeds")) => vision::ip_adapter_embeds(bench, case).await,
        Some(("extras", "safety_checker")) => vision::safety_checker(bench, case).await,
        Some(("pipe", _)) => pipe::run(bench, case).await,
        Some(("extras", "controlnet")) => control::controlnet(bench, case).await,
        Some(("extras", "t2i_adapter")) => control::t2i_adapter(bench, case).await,
        _ => Err(Error::unsupported(format!("no case like {name} is known yet"))),
    }
}
