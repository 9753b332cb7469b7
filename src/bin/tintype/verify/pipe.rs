//! Whole pipelines: latents after every step, the image as floats and as levels.

use std::cell::RefCell;

use async_trait::async_trait;
use serde_json::{Value, json};
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::image::{Filter, Picture};
use tintype::pipeline::{Additions, ControlInput, FileIn, Pipeline, Request, Seeds, Sizes, Watch};
use tintype::schedule::Config;
use tintype::shape::Elem;
use tintype::weights::{DiskFolder, Folder, Hooks, MemoryFile, OpenFile};

use super::reference::unpacked;
use super::{Bench, Check};
use crate::picture::read_image;

/// The arguments that a request can express, and two that only repeat what `image_inputs` says.
const KNOWN: [&str; 32] = [
    "prompt",
    "class_labels",
    "prompt_2",
    "prompt_3",
    "negative_prompt",
    "negative_prompt_2",
    "num_inference_steps",
    "num_images_per_prompt",
    "guidance_scale",
    "max_sequence_length",
    "complex_human_instruction",
    "intermediate_timesteps",
    "use_resolution_binning",
    "guidance_rescale",
    "height",
    "width",
    "eta",
    "clip_skip",
    "original_size",
    "crops_coords_top_left",
    "target_size",
    "strength",
    "image",
    "mask_image",
    "controlnet_conditioning_scale",
    "control_guidance_start",
    "control_guidance_end",
    "guess_mode",
    "adapter_conditioning_scale",
    "ip_adapter_image",
    "generator",
    "output_type",
];

/// A model of the set, with one of its components taken from elsewhere.
struct Mixed {
    model: DiskFolder,
    /// Of the denoiser.
    other: Option<DiskFolder>,
    /// Changes of its index: a component that it has not, and the class of its pipeline.
    index: Vec<(String, Value)>,
}

impl Mixed {
    fn place<'a>(&'a self, path: &'a str) -> (&'a DiskFolder, &'a str) {
        let below = ["unet/", "transformer/"].into_iter().find_map(|folder| path.strip_prefix(folder));
        match (&self.other, below) {
            (Some(other), Some(path)) => (other, path),
            _ => (&self.model, path),
        }
    }
}

#[async_trait(?Send)]
impl Folder for Mixed {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        let (folder, place) = self.place(path);
        if self.index.is_empty() || path != "model_index.json" {
            return folder.open(place).await;
        }
        let json = folder.read(place).await?.unwrap_or_default();
        let index: std::result::Result<Value, _> = tintype::json::parse(&json);
        let mut index = index.map_err(|e| Error::model(format!("{path}: {e}")))?;
        self.index.iter().for_each(|(key, value)| index[key] = value.clone());
        let file = MemoryFile::new(index.to_string().into_bytes());
        Ok(Some(Box::new(file)))
    }

    fn describe(&self) -> String {
        self.model.describe()
    }
}

/// What a case's `model` says: "sd15-like + extras/ip-adapter (scale 0.6)", "sd15-like with extras/unet-x". What is
/// added is a folder or a file.
struct Model {
    folder: Mixed,
    addition: Option<Addition>,
}

struct Addition {
    name: String,
    folder: Mixed,
    /// In the folder, or the folder itself.
    path: String,
    scale: f32,
}

fn model(bench: &Bench, case: &Value) -> Result<Model> {
    let text = case["model"].as_str().ok_or_else(|| Error::model("manifest.json: a case without a model"))?;
    let disk = |path: &str| DiskFolder::new(bench.root.join("models").join(path.trim()));
    let (text, addition) = match text.split_once(" + ") {
        None => (text, None),
        Some((text, extra)) => {
            let (name, scale) = extra.split_once(" (scale ").unwrap_or((extra, "1)"));
            let scale = scale.trim_end_matches(')').parse().unwrap_or(1.0);
            let (place, path) = match name.rsplit_once('/').filter(|(_, file)| file.contains('.')) {
                Some((place, file)) => (place, file.to_owned()),
                None => (name, String::new()),
            };
            let folder = Mixed { model: disk(place), other: None, index: vec![] };
            (text, Some(Addition { name: name.to_owned(), folder, path, scale }))
        }
    };
    let (text, without) = match text.split_once(" without ") {
        None => (text, None),
        Some((text, without)) => (text, Some((without.to_owned(), json!([null, null])))),
    };
    let class = case.get("pipeline_class").map(|class| ("_class_name".to_owned(), class.clone()));
    let index = without.into_iter().chain(class).collect();
    let (base, other) = match text.split_once(" with ") {
        None => (text, None),
        // A note may follow.
        Some((base, other)) => (base, Some(disk(other.split(" (").next().unwrap_or(other)))),
    };
    Ok(Model { folder: Mixed { model: disk(base), other, index }, addition })
}

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let Model { folder, addition } = model(bench, case)?;
    let mut request = request(bench, case)?;
    let mut additions = Additions::default();
    if let Some(Addition { name, folder, path, scale }) = &addition {
        match name.as_str() {
            name if name.contains("controlnet") => {
                additions.controls.push(FileIn { folder, path });
                request.controls.push(control(bench, case)?);
                request.image = None;
            }
            name if name.contains("t2i-adapter") => {
                additions.adapters.push(FileIn { folder, path });
                let scale = case["args"]["adapter_conditioning_scale"].as_f64().unwrap_or(1.0) as f32;
                request.adapters.push((picture(bench, &case["image_input"])?, scale));
            }
            name if name.contains("ip-adapter") => {
                additions.ip_adapter = Some(FileIn { folder, path });
                request.image_prompt =
                    Some((picture(bench, &case["image_inputs"]["ip_adapter_image"])?, *scale));
            }
            name if name.contains("lora") => {
                let path = "pytorch_lora_weights.safetensors";
                additions.loras.push((FileIn { folder, path }, *scale));
            }
            other => return Err(Error::unsupported(format!("{other} is not built yet"))),
        }
    }
    let mut load = bench.load.clone();
    load.activations = bench.target.elem.as_str().to_owned();
    load.encoder = request.image.is_some() || !request.references.is_empty();
    let mut scheduler = case["scheduler_config"].clone();
    scheduler["_class_name"] = case["scheduler_class"].clone();
    if let Some(angle) = case["args"]["intermediate_timesteps"].as_f64() {
        scheduler["intermediate_timesteps"] = json!(angle);
    }
    let scheduler = Config::from_json(scheduler.to_string().as_bytes(), "scheduler_config")?;
    scheduler.check()?;
    let mut pipeline = Pipeline::load_with(&bench.device, &folder, &additions, &load, Hooks::NONE).await?;
    pipeline.set_scheduler(scheduler);

    let checks = RefCell::new(vec![]);
    let compare = |name: &str, shape: [usize; 4], values: Vec<f32>| {
        if let Ok(mut want) = reference.f32(name) {
            if let Ok(&[_, _, width]) = reference.shape(name) {
                want = unpacked(&want, width, shape);
            }
            checks.borrow_mut().push(Check::new(name, &values, &want));
        }
    };
    let watch =
        Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: Some(&compare) };
    let report = pipeline.generate(&request, &watch).await?;
    let mut checks = checks.into_inner();
    let wanted = reference.names().filter(|n| n.starts_with("latents.") || *n == "image").count();
    if checks.len() != wanted {
        return Err(Error::model(format!("{} tensors to compare, {} were made", wanted, checks.len())));
    }
    let share = case["limits"]["image_levels"]["f32"].as_f64().filter(|_| bench.target.elem == Elem::F32);
    // One case has its image as floats alone.
    if let (Some(share), Some(pngs)) = (share, case["png"].as_array()) {
        if pngs.len() != report.images.len() {
            return Err(Error::model(format!("{} images, {} to compare", report.images.len(), pngs.len())));
        }
        for (image, png) in report.images.iter().zip(pngs) {
            let path = bench.root.join(png.as_str().unwrap_or_default());
            let rgb = image.rgba.chunks_exact(4).flat_map(|p| &p[..3]);
            let off = rgb.zip(&read_image(&path)?.rgb).filter(|(a, b)| a.abs_diff(**b) > 1).count();
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

/// An image of the set, cut to the size that a note may ask for.
fn picture(bench: &Bench, path: &Value) -> Result<Picture> {
    let path = path.as_str().ok_or_else(|| Error::model("manifest.json: a case without an image"))?;
    super::vision::picture(bench, path)
}

fn control(bench: &Bench, case: &Value) -> Result<ControlInput> {
    let number = |key: &str, default: f64| case["args"][key].as_f64().unwrap_or(default);
    Ok(ControlInput {
        picture: picture(bench, &case["image_inputs"]["image"])?,
        scale: number("controlnet_conditioning_scale", 1.0) as f32,
        start: number("control_guidance_start", 0.0),
        end: number("control_guidance_end", 1.0),
    })
}

/// The image of a case of image to image. One case names it in its note alone, with the size that it was resized to:
/// "input ref/inputs/init_80x100.png resized with PIL Lanczos to width 64, height 96 first".
fn image(bench: &Bench, case: &Value) -> Result<Picture> {
    let named = &case["image_inputs"]["image"];
    let note = case["note"].as_str().unwrap_or_default();
    if named.is_string() || !note.contains("resized") {
        return picture(bench, named);
    }
    let words: Vec<&str> = note.split([' ', ',']).collect();
    let after = |word: &str| -> Result<&str> {
        let at = words.iter().position(|w| *w == word);
        let found = at.and_then(|at| words.get(at + 1)).copied();
        found.ok_or_else(|| Error::model(format!("manifest.json: no {word} in {note:?}")))
    };
    let side = |word: &str| -> Result<usize> {
        after(word)?.parse().map_err(|_| Error::model(format!("manifest.json: no {word} in {note:?}")))
    };
    let picture = super::vision::picture(bench, after("input")?)?;
    Ok(picture.resized(side("width")?, side("height")?, Filter::Lanczos))
}

fn request(bench: &Bench, case: &Value) -> Result<Request> {
    let args = case["args"].as_object().ok_or_else(|| Error::model("manifest.json: a case without args"))?;
    if let Some(key) = args.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(Error::unsupported(format!("the argument {key} is not built yet")));
    }
    let strings = |key: &str| -> Vec<String> {
        match &args.get(key) {
            Some(Value::String(one)) => vec![one.clone()],
            // Labels are numbers.
            Some(Value::Array(many)) => {
                many.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect()
            }
            _ => vec![],
        }
    };
    let one = |key: &str| strings(key).into_iter().next();
    let float = |key: &str| args.get(key).and_then(Value::as_f64);
    let number = |key: &str| args.get(key).and_then(Value::as_u64).map(|v| v as usize);
    let pair = |key: &str| -> Option<[u32; 2]> {
        let list = args.get(key)?.as_array()?;
        Some([list.first()?.as_u64()? as u32, list.get(1)?.as_u64()? as u32])
    };
    let seeds = match &case["seed"] {
        Value::Array(many) => Seeds::Each(many.iter().filter_map(Value::as_u64).collect()),
        one => Seeds::One(one.as_u64().ok_or_else(|| Error::unsupported(format!("the seed {one}")))?),
    };
    let each = number("num_images_per_prompt").unwrap_or(1);
    let edited = case["image_inputs"]["image"].as_array();
    let mask = &case["image_inputs"]["mask_image"];
    Ok(Request {
        prompts: [strings("prompt"), strings("class_labels")]
            .concat()
            .into_iter()
            .flat_map(|p| vec![p; each])
            .collect(),
        negative_prompt: one("negative_prompt").unwrap_or_default(),
        prompt_2: one("prompt_2"),
        negative_prompt_2: one("negative_prompt_2"),
        prompt_3: one("prompt_3"),
        seeds,
        steps: number("num_inference_steps"),
        size: number("width").zip(number("height")).map(|(w, h)| [w, h]),
        guidance: float("guidance_scale"),
        guidance_rescale: float("guidance_rescale"),
        max_sequence_length: number("max_sequence_length"),
        resolution_binning: args.get("use_resolution_binning").and_then(Value::as_bool),
        instruction: args
            .get("complex_human_instruction")
            .map(|_| one("complex_human_instruction").unwrap_or_default()),
        eta: float("eta"),
        clip_skip: number("clip_skip").unwrap_or(0),
        sizes: Sizes {
            original: pair("original_size"),
            crop: pair("crops_coords_top_left").unwrap_or_default(),
            target: pair("target_size"),
        },
        references: edited.into_iter().flatten().map(|path| picture(bench, path)).collect::<Result<_>>()?,
        image: (args.contains_key("image")
            || case["image_inputs"]["image"].is_string() && args.contains_key("strength"))
        .then(|| image(bench, case))
        .transpose()?,
        mask: mask.is_string().then(|| picture(bench, mask)).transpose()?,
        strength: float("strength"),
        guess_mode: args.get("guess_mode").and_then(Value::as_bool).unwrap_or(false),
        ..Request::default()
    })
}
