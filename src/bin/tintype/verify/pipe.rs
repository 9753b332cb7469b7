//! Whole pipelines: latents after every step, the picture as floats and as levels.

use std::cell::RefCell;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde_json::Value;
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::pipeline::{Pipeline, Request, Seeds, Watch};
use tintype::schedule::Config;
use tintype::shape::Elem;
use tintype::weights::{DiskFolder, Hooks};

use super::{Bench, Check};

/// The arguments that a request can express.
const KNOWN: [&str; 7] = [
    "prompt",
    "negative_prompt",
    "num_inference_steps",
    "num_images_per_prompt",
    "guidance_scale",
    "height",
    "width",
];

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let request = request(case)?;
    let reference = bench.reference(case)?;
    let model =
        case["model"].as_str().ok_or_else(|| Error::model("manifest.json: a case without a model"))?;
    if let Some((_, extra)) = model.split_once(" + ") {
        return Err(Error::unsupported(format!("{extra} is not built yet")));
    }
    let folder = DiskFolder::new(bench.root.join("models").join(model));
    let mut load = bench.load.clone();
    load.activations = bench.target.elem.as_str().to_owned();
    let mut scheduler = case["scheduler_config"].clone();
    scheduler["_class_name"] = case["scheduler_class"].clone();
    let scheduler = Config::from_json(scheduler.to_string().as_bytes(), "scheduler_config")?;
    scheduler.check()?;
    let mut pipeline = Pipeline::load(&bench.device, &folder, &load, Hooks::NONE).await?;
    pipeline.set_scheduler(scheduler);

    let checks = RefCell::new(vec![]);
    let compare = |name: &str, _: [usize; 4], values: Vec<f32>| {
        if let Ok(want) = reference.f32(name) {
            checks.borrow_mut().push(Check::new(name, &values, &want));
        }
    };
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, dump: Some(&compare) };
    let report = pipeline.generate(&bench.device, &request, &watch).await?;
    let mut checks = checks.into_inner();
    let wanted = reference.names().filter(|n| n.starts_with("latents.") || *n == "image").count();
    if checks.len() != wanted {
        return Err(Error::model(format!("{} tensors to compare, {} were made", wanted, checks.len())));
    }
    let share = case["limits"]["image_levels"]["f32"].as_f64().filter(|_| bench.target.elem == Elem::F32);
    if let Some(share) = share {
        let pngs = case["png"].as_array().map(Vec::as_slice).unwrap_or_default();
        if pngs.len() != report.images.len() {
            return Err(Error::model(format!("{} pictures, {} to compare", report.images.len(), pngs.len())));
        }
        for (image, png) in report.images.iter().zip(pngs) {
            let path = bench.root.join(png.as_str().unwrap_or_default());
            let rgb = image.rgba.chunks_exact(4).flat_map(|p| &p[..3]);
            let off = rgb.zip(read_png(&path)?).filter(|(a, b)| a.abs_diff(*b) > 1).count();
            let total = image.width * image.height * 3;
            checks.push(Check::below(
                "pixels off by more than one level",
                off as f64 / total as f64,
                1.0 - share,
            ));
        }
    }
    Ok(checks)
}

fn request(case: &Value) -> Result<Request> {
    let args = case["args"].as_object().ok_or_else(|| Error::model("manifest.json: a case without args"))?;
    let images = case["image_inputs"].as_object().into_iter().flatten();
    if let Some(key) = args.keys().chain(images.map(|(k, _)| k)).find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(Error::unsupported(format!("the argument {key} is not built yet")));
    }
    let strings = |key: &str| -> Vec<String> {
        match &args.get(key) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(|v| Some(v.as_str()?.to_owned())).collect(),
            _ => vec![],
        }
    };
    let number = |key: &str| args.get(key).and_then(Value::as_u64).map(|v| v as usize);
    let seeds = match &case["seed"] {
        Value::Array(many) => Seeds::Each(many.iter().filter_map(Value::as_u64).collect()),
        one => Seeds::One(one.as_u64().ok_or_else(|| Error::unsupported(format!("the seed {one}")))?),
    };
    let each = number("num_images_per_prompt").unwrap_or(1);
    Ok(Request {
        prompts: strings("prompt").into_iter().flat_map(|p| vec![p; each]).collect(),
        negative_prompt: strings("negative_prompt").into_iter().next().unwrap_or_default(),
        seeds,
        steps: number("num_inference_steps"),
        size: number("width").zip(number("height")).map(|(w, h)| [w, h]),
        guidance: args.get("guidance_scale").and_then(Value::as_f64),
        scheduler: None,
    })
}

fn read_png(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| Error::model(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(|e| failed(&e))?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(|e| failed(&e))?;
    let mut bytes = vec![0; reader.output_buffer_size().ok_or_else(|| failed(&"too large"))?];
    let info = reader.next_frame(&mut bytes).map_err(|e| failed(&e))?;
    if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err(failed(&format!("wanted 8-bit RGB, found {:?}", info.color_type)));
    }
    bytes.truncate(info.buffer_size());
    Ok(bytes)
}
