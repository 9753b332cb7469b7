//! What JavaScript sees (www/worker.js): one generator class, single networks, the table of kernels, and where panics go.
//! Files come from www/source.js. Errors cross as `Error` objects with a `code`.

mod bench;
mod network;
mod request;
mod source;
mod threads;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::{Array, Error as JsError, Function, Object, Reflect, Uint8ClampedArray};
use wasm_bindgen::prelude::*;

use crate::device::{Device, Known};
use crate::error::{Error, Result};
use crate::host::Cancel;
use crate::kernels::VARIANTS;
use crate::model::config::ModelIndex;
use crate::pipeline::{Budget, LoadOptions, Pipeline, Report, Stage, Survey, Watch, read_json};
use crate::plan::Target;
use crate::quant::Format;
use crate::shape::Elem;
use crate::weights::{Folder, Hooks, INDEX, Keeping, Manifest};
use request::Options;
pub use source::Source;
use source::{Keeper, Place, Sources};

/// A loaded model on a device. It serves one `generate` at a time; `cancel` may come in between.
#[wasm_bindgen]
pub struct Generator {
    device: Device,
    pipeline: Pipeline,
    sources: Sources,
    /// Of the pack that was kept of the model, or why there is none.
    kept: Option<Result<String>>,
    /// Of the run that goes on, or of the last one.
    cancel: RefCell<Cancel>,
}

#[wasm_bindgen]
impl Generator {
    /// `options`: device, weights, decoderWeights, activations, imageInput; controls, adapters, ipAdapter and safetyChecker, lists of
    /// sources; singleFile, loras and embeddings, lists of `{ source, path, scale }`; adapter and software, what the
    /// browser tells of the GPU; and gather, which starts threads. `progress` gets the stage "download", the fraction
    /// from 0 to 1 and the bytes so far.
    pub async fn create(
        source: Source,
        options: JsValue,
        progress: Function,
    ) -> std::result::Result<Generator, JsValue> {
        Self::load(source, &Options(options), &progress).await.map_err(to_js)
    }

    /// How the networks are stored: "f32", "f16", "q8" or "q4".
    pub fn weights(&self) -> String {
        self.pipeline.formats[0].as_str().to_owned()
    }

    pub fn adapter(&self) -> String {
        self.device.name()
    }

    /// "gpu" or "cpu".
    pub fn device(&self) -> String {
        self.device.kind().to_owned()
    }

    /// The manifest of the pack that was kept, if one was.
    pub fn manifest(&self) -> Option<String> {
        self.kept.as_ref()?.as_ref().ok().cloned()
    }

    /// Why the model was not kept, where it should have been.
    #[wasm_bindgen(js_name = notKept)]
    pub fn not_kept(&self) -> Option<String> {
        self.kept.as_ref()?.as_ref().err().map(|e| e.message.clone())
    }

    /// Ends the run that goes on, between two submits.
    pub fn cancel(&self) {
        self.cancel.borrow().cancel();
    }

    /// `request` as www/index.d.ts has it. `progress` gets the stage, the fraction of it and, of "denoise", the step and
    /// their number. Resolves to `{ width, height, rgba, seed, steps, warnings, unsafe, timings }`.
    pub async fn generate(
        &self,
        request: JsValue,
        progress: Function,
    ) -> std::result::Result<JsValue, JsValue> {
        self.draw(&Options(request), &progress).await.map_err(to_js)
    }

    async fn load(source: Source, options: &Options, progress: &Function) -> Result<Generator> {
        let weights = options.text("weights")?;
        let activations = options.text("activations")?;
        let mut load = LoadOptions::parse(
            weights.as_deref().unwrap_or("auto"),
            activations.as_deref().unwrap_or("auto"),
        )?;
        load.decoder = LoadOptions::decoder(options.text("decoderWeights")?.as_deref())?;
        load.encoder = options.flag("imageInput")?;
        load.budget = budget(options)?;
        load.size = options.size()?;
        let keeper: Option<Keeper> = options.get("keeper").map(JsCast::unchecked_into);
        let folder = keeper.as_ref().map(Keeper::folder);
        let keeping = keeper.map(|keeper| Rc::new(Keeping::new(keeper)));
        let sources = Sources::new(Place::new(source, keeping.clone()), options)?;
        let device = device(options, &load).await?;
        // A text encoder, the U-Net and the autoencoder at least.
        let meter = RefCell::new(Meter::new(3 + sources.beside()));
        let hooks = Hooks {
            progress: &|read, total| {
                let [fraction, bytes] = meter.borrow_mut().read(read, total);
                tell(progress, "download", [fraction, bytes, 0.0]);
            },
            // The page ends the whole worker.
            cancelled: &|| false,
            keeping: keeping.as_deref(),
        };
        let pipeline =
            Pipeline::load_with(&device, &sources.model, &sources.additions(), &load, hooks).await?;
        let kept = match keeping.zip(folder) {
            Some((keeping, folder)) => {
                let manifest = Manifest {
                    source: sources.model.describe(),
                    revision: options.text("revision")?,
                    license: None,
                    weights: pipeline.formats[0],
                    decoder: pipeline.formats[1],
                    files: BTreeMap::new(),
                };
                Some(keeping.finish(&folder, manifest).await.map(|manifest| manifest.to_json()))
            }
            None => None,
        };
        Ok(Generator { device, pipeline, sources, kept, cancel: RefCell::default() })
    }

    async fn draw(&self, options: &Options, progress: &Function) -> Result<JsValue> {
        let cancel = Cancel::default();
        self.cancel.replace(cancel.clone());
        let (seed, request) = request::request(&self.pipeline, options)?;
        if let Some(scales) = options.numbers("loraScales")? {
            // A text encoder and the U-Net.
            let meter = RefCell::new(Meter::new(2));
            let hooks = Hooks {
                progress: &|read, total| {
                    tell(progress, "merge", [meter.borrow_mut().read(read, total)[0], 0.0, 0.0]);
                },
                cancelled: &|| cancel.is_cancelled(),
                keeping: None,
            };
            let Sources { model, .. } = &self.sources;
            let additions = self.sources.additions();
            self.pipeline.set_lora_scales(&self.device, model, &additions, &scales, hooks).await?;
        }
        let progress = |stage, fraction| match stage {
            Stage::Text => tell(progress, "text", [fraction, 0.0, 0.0]),
            Stage::Step { step, steps } => {
                tell(progress, "denoise", [fraction, step as f64 + 1.0, steps as f64]);
            }
            Stage::Decode => tell(progress, "decode", [fraction, 0.0, 0.0]),
        };
        let watch = Watch { cancel, progress: &progress, dump: None };
        let report = self.pipeline.generate(&self.device, &request, &watch).await?;
        Ok(answer(&report, seed))
    }
}

/// What a model needs, before its weights are read: for each of "f32", "f16", "q8" and "q4" an object of bytes
/// `{ weights, activations, rows }`, and `fitting`, the one that "auto" takes. Rows of tokens are not on the device.
#[wasm_bindgen]
pub async fn estimate(source: Source, options: JsValue) -> std::result::Result<JsValue, JsValue> {
    needs(&source, &Options(options)).await.map_err(to_js)
}

async fn needs(source: &Source, options: &Options) -> Result<JsValue> {
    let index = ModelIndex::from_json(&read_json(source, INDEX).await?, INDEX)?;
    let survey = Survey::of(source, &index).await?;
    let mut load = LoadOptions::parse("auto", "auto")?;
    load.decoder = LoadOptions::decoder(options.text("decoderWeights")?.as_deref())?;
    load.encoder = options.flag("imageInput")?;
    load.budget = budget(options)?;
    load.size = options.size()?;
    // What a GPU does best has two bytes, and a CPU has four.
    let half = options.text("device")?.as_deref() != Some("cpu");
    let target = Target::new(if half { Elem::F16 } else { Elem::F32 });
    let mut fields = vec![("fitting", JsValue::from(survey.fit(&load, &target)?.format.map(|f| f.as_str())))];
    for format in Format::ALL {
        let decoder = load.decoder.unwrap_or(format.of_autoencoder());
        let needs = survey.needs(format, decoder, load.encoder, &target, load.size)?;
        let bytes = [needs.weights, needs.activations, needs.rows].map(|bytes| JsValue::from(bytes as f64));
        let [weights, activations, rows] = bytes;
        let entry = object(&[("weights", weights), ("activations", activations), ("rows", rows)]);
        fields.push((format.as_str(), entry));
    }
    Ok(object(&fields))
}

/// `memory`, which is firm, or `memoryGuess`, in bytes.
fn budget(options: &Options) -> Result<Option<Budget>> {
    if let Some(bytes) = options.whole("memory")? {
        return Ok(Some(Budget { bytes, firm: true }));
    }
    Ok(options.whole("memoryGuess")?.map(|bytes| Budget { bytes, firm: false }))
}

/// Every variant as { name, entryPoint, wgsl, needsF16 }, for the test that compiles them all.
#[wasm_bindgen]
pub fn kernels() -> Array {
    let all = VARIANTS.iter().map(|v| {
        object(&[
            ("name", format!("{} {}", v.kernel, v.name).into()),
            ("entryPoint", v.kernel.into()),
            ("wgsl", v.source().into()),
            ("needsF16", v.needs_f16.into()),
        ])
    });
    all.collect()
}

/// `callback` gets the message of a panic: a mistake of ours, after which the module cannot be used.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(callback: Function) {
    thread_local!(static CALLBACK: RefCell<Option<Function>> = const { RefCell::new(None) });
    CALLBACK.set(Some(callback));
    std::panic::set_hook(Box::new(|info| {
        CALLBACK.with_borrow(|callback| {
            if let Some(callback) = callback {
                // Nobody is left who could do something about a failing callback.
                let _ = callback.call1(&JsValue::NULL, &info.to_string().into());
            }
        });
    }));
}

/// The device that `options` ask for: device, adapter and software (what is known of it), gather (threads).
async fn device(options: &Options, load: &LoadOptions) -> Result<Device> {
    let choice = options.text("device")?;
    // wgpu knows only the adapter's description, which browsers leave empty.
    let software = options.get("software").is_some_and(|v| v.is_truthy());
    let known = options.text("adapter")?.map(|name| Known { name, software });
    let device = Device::open(choice.as_deref().unwrap_or("auto"), &load.activations, None, known).await?;
    // Before anything is loaded: a refusal should not wait for a download.
    device.elem(&load.activations)?;
    if let (Device::Cpu, Some(gather)) = (&device, options.get("gather")) {
        threads::start(&gather.unchecked_into()).await;
    }
    Ok(device)
}

/// Download progress over the components, which each count from 0: never backwards.
#[derive(Default)]
struct Meter {
    components: f64,
    component: f64,
    before: u64,
    last: u64,
}

impl Meter {
    fn new(components: usize) -> Meter {
        Meter { components: components as f64, ..Meter::default() }
    }

    /// The fraction of all, and the bytes of all so far.
    fn read(&mut self, read: u64, total: Option<u64>) -> [f64; 2] {
        if read < self.last {
            self.component += 1.0;
            self.before += self.last;
        }
        self.last = read;
        let part = total.map_or(0.0, |total| read as f64 / total.max(1) as f64);
        [((self.component + part) / self.components).min(1.0), (self.before + read) as f64]
    }
}

fn tell(progress: &Function, stage: &str, [fraction, a, b]: [f64; 3]) {
    // What the callback throws is for its owner to see, not for the run to end with.
    let _ = progress.call4(&JsValue::NULL, &stage.into(), &fraction.into(), &a.into(), &b.into());
}

fn answer(report: &Report, seed: u64) -> JsValue {
    let image = &report.images[0];
    let timings = &report.timings;
    let milliseconds = object(&[
        ("text", (timings.text * 1e3).into()),
        ("denoise", (timings.denoise * 1e3).into()),
        ("decode", (timings.decode * 1e3).into()),
    ]);
    let warnings: Array = report.warnings.iter().map(|w| JsValue::from(w.as_str())).collect();
    object(&[
        ("width", (image.width as f64).into()),
        ("height", (image.height as f64).into()),
        ("rgba", Uint8ClampedArray::from(image.rgba.as_slice()).into()),
        ("seed", (seed as f64).into()),
        ("steps", (report.steps as f64).into()),
        ("warnings", warnings.into()),
        ("unsafe", report.unsafe_images.first().copied().unwrap_or(false).into()),
        ("timings", milliseconds),
    ])
}

fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (key, value) in fields {
        Reflect::set(&object, &(*key).into(), value).expect("a new object takes any field");
    }
    object.into()
}

fn to_js(error: Error) -> JsValue {
    let object = JsError::new(&error.message);
    Reflect::set(&object, &"code".into(), &error.code.as_str().into()).expect("an error takes any field");
    object.into()
}
