//! What JavaScript sees (www/service.ts): one generator class, single networks, the table of kernels, and where panics go.
//! Files come from www/source.ts. Errors cross as `Error` objects with a `code`.

mod bench;
mod device;
mod ladder;
mod network;
mod request;
mod source;
mod threads;
mod tokenizer;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::{Array, Error as JsError, Function, Object, Reflect, Uint8ClampedArray};
use wasm_bindgen::prelude::*;

use crate::device::Device;
use crate::error::{Code, Error, Result, shown};
use crate::host::Cancel;
use crate::kernels::VARIANTS;
use crate::model::config::ModelIndex;
use crate::pipeline::shares::{COMPILING_OF_LOAD, MERGING_OF_CALL};
use crate::pipeline::{
    Budget, Image, LoadOptions, Pipeline, Preview, Report, Savings, Stage, Survey, Watch, read_json,
};
use crate::plan::Target;
use crate::quant::Format;
use crate::shape::Elem;
use crate::warning::{Topic, Warning};
use crate::weights::{Folder, Hooks, INDEX, Keeping, Manifest};
use request::Options;
pub use source::Source;
use source::{Keeper, Place, Sources};

/// A loaded model on a device. It serves one `generate` at a time; `cancel` may come in between.
#[wasm_bindgen]
pub struct Generator {
    pipeline: Pipeline,
    sources: Sources,
    /// Of the pack that was kept of the model, or why there is none.
    kept: Option<Result<String>>,
    /// What the last merge of LoRAs warned of, until the report of an image says it.
    merging: RefCell<Vec<Warning>>,
    /// Of the run that goes on, or of the last one.
    cancel: RefCell<Cancel>,
}

#[wasm_bindgen]
impl Generator {
    /// Loads a model. `options` has these fields:
    ///
    /// - `single`: path of the single file that is the model; `vocabulary`: its CLIP merges; `given`: components of the folder
    /// - `device`, `weights`, `decoderWeights`, `activations`, `imageInput`
    /// - `controls`, `adapters`, `ipAdapter`, `safetyChecker`: sources; `singleFile`, `loras`, `embeddings`: `{ source, path, scale }`
    /// - `adapter`, `software`: name of the GPU and whether it is a software adapter, as the browser reports them
    /// - `lean`: take the fallbacks that save memory beyond smaller weights
    /// - `gather`: starts threads; `cancelled`: polled at least once per MiB, ends the load with code "cancelled"
    ///
    /// `progress` is called with a stage, the fraction of the whole load (0 to 1, never decreasing, 1 at the end) and two
    /// numbers: for "download" bytes read and bytes expected over all files, for "compile" (GPU only) kernels compiled and
    /// their number.
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
        self.pipeline.device().name()
    }

    /// "gpu" or "cpu".
    pub fn device(&self) -> String {
        self.pipeline.device().kind().to_owned()
    }

    /// Which table chooses its kernels; a CPU has none.
    pub fn tuning(&self) -> Option<String> {
        self.pipeline.device().tuning().map(str::to_owned)
    }

    /// What of the loading differs from what was asked for, as `{ code, message }`.
    pub fn warnings(&self) -> Array {
        warnings(self.pipeline.warnings())
    }

    /// The manifest of the pack that was kept, if one was.
    pub fn manifest(&self) -> Option<String> {
        self.kept.as_ref()?.as_ref().ok().cloned()
    }

    /// Why the model was not kept, where it should have been.
    #[wasm_bindgen(js_name = notKept)]
    pub fn not_kept(&self) -> Option<String> {
        self.kept.as_ref()?.as_ref().err().map(|e| shown(&e.message))
    }

    /// Ends the run that goes on, between two submits.
    pub fn cancel(&self) {
        self.cancel.borrow().cancel();
    }

    /// `request` as www/types.ts has it, and `preview`: a function that gets rgba, width, height, the step and their number
    /// after each step but the last. `progress` gets a stage, the fraction of the whole call as for `create`, and two
    /// numbers: of "step" the step, from 1, and how many there are, of "compile" as for `create`. The stages are "merge",
    /// where scales of LoRAs changed, "compile", where there is anything to compile, "text", "step" and "decode". Resolves to `{ width, height, rgba, seed, steps, warnings, unsafe, timings }`.
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
        if options.flag("lean")? {
            load.savings = Savings::ALL;
        }
        let keeper: Option<Keeper> = options.get("keeper").map(JsCast::unchecked_into);
        let folder = keeper.as_ref().map(Keeper::folder);
        let keeping = keeper.map(|keeper| Rc::new(Keeping::new(keeper)));
        let model = source::model(source, options).await?;
        let sources = Sources::new(Place::new(model, keeping.clone()), options)?;
        let device = device::open(options, &load).await?;
        let cancelled: Option<Function> = options.get("cancelled").map(JsCast::unchecked_into);
        // What asking throws is for its owner to see, as with progress.
        let cancelled = || {
            cancelled.as_ref().is_some_and(|f| f.call0(&JsValue::NULL).is_ok_and(|answer| answer.is_truthy()))
        };
        let progress = Progress::new(progress);
        let download = if matches!(device, Device::Gpu(_)) { 1.0 - COMPILING_OF_LOAD } else { 1.0 };
        let hooks = Hooks {
            progress: &|read, total| {
                let total = total.unwrap_or(read);
                let share = read as f64 / total.max(1) as f64;
                progress.tell("download", download * share, [read as f64, total as f64]);
            },
            cancelled: &cancelled,
            keeping: keeping.as_deref(),
            warn: &|_| {},
        };
        let pipeline =
            Pipeline::load_with(&device, &sources.model, &sources.additions(), &load, hooks).await?;
        let kept = match keeping.zip(folder) {
            Some((keeping, folder)) => {
                let manifest = Manifest {
                    source: sources.model.describe(),
                    revision: options.text("revision")?,
                    license: options.text("license")?,
                    weights: pipeline.formats[0],
                    decoder: pipeline.formats[1],
                    files: BTreeMap::new(),
                };
                Some(keeping.finish(&folder, manifest).await.map(|manifest| manifest.to_json()))
            }
            None => None,
        };
        let compiled = |done: usize, count: usize| {
            let share = done as f64 / count as f64;
            progress.tell("compile", download + (1.0 - download) * share, [done as f64, count as f64]);
        };
        pipeline.compile(&compiled, &cancelled).await?;
        if progress.last.get() < 1.0 {
            progress.tell("compile", 1.0, [0.0; 2]);
        }
        let (merging, cancel) = Default::default();
        Ok(Generator { pipeline, sources, kept, merging, cancel })
    }

    async fn draw(&self, options: &Options, progress: &Function) -> Result<JsValue> {
        let progress = Progress::new(progress);
        let merged = Cell::new(0.0);
        let told = RefCell::new(vec![]);
        let cancel = Cancel::default();
        self.cancel.replace(cancel.clone());
        let (seed, request) = request::request(&self.pipeline, options)?;
        if let Some(scales) = options.numbers("loraScales")? {
            let hooks = Hooks {
                progress: &|read, total| {
                    let share = read as f64 / total.unwrap_or(read).max(1) as f64;
                    merged.set(MERGING_OF_CALL);
                    progress.tell("merge", MERGING_OF_CALL * share, [0.0; 2]);
                },
                cancelled: &|| cancel.is_cancelled(),
                keeping: None,
                warn: &|warning| told.borrow_mut().push(warning),
            };
            let Sources { model, .. } = &self.sources;
            let additions = self.sources.additions();
            self.pipeline.set_lora_scales(model, &additions, &scales, hooks).await?;
            // Scales as they were are not merged again.
            if merged.get() > 0.0 {
                self.merging.replace(told.take());
            }
        }
        let tell = |stage: &str, fraction: f64, numbers: [usize; 2]| {
            let before = merged.get();
            progress.tell(stage, before + (1.0 - before) * fraction, numbers.map(|n| n as f64));
        };
        let progress = |stage, fraction| match stage {
            Stage::Compile { done, count } => tell("compile", fraction, [done, count]),
            Stage::Text => tell("text", fraction, [0; 2]),
            Stage::Step { step, steps } => tell("step", fraction, [step + 1, steps]),
            Stage::Decode => tell("decode", fraction, [0; 2]),
        };
        let preview: Option<Function> = options.get("preview").map(JsCast::unchecked_into);
        let show = |image: &Image, step, steps| {
            if let Some(preview) = &preview {
                let rgba = Uint8ClampedArray::from(image.rgba.as_slice());
                let numbers = [image.width, image.height, step, steps].map(|n| JsValue::from(n as f64));
                let arguments = [rgba.into()].into_iter().chain(numbers).collect::<Array>();
                // As with progress.
                let _ = preview.apply(&JsValue::NULL, &arguments);
            }
        };
        let preview: Option<&Preview<'_>> = if preview.is_some() { Some(&show) } else { None };
        let watch = Watch { cancel, progress: &progress, preview, dump: None };
        let report = self.pipeline.generate(&request, &watch).await;
        let mut report = report.map_err(|error| self.explained(error))?;
        report.warnings.splice(..0, self.merging.take());
        Ok(answer(&report, seed))
    }

    /// An error about values, with what is wrong with those of the LoRAs that were merged: nothing else would say it.
    fn explained(&self, error: Error) -> Error {
        let merging = self.merging.borrow();
        let flaws = merging.iter().filter(|w| (w.code, error.code) == (Topic::NotFinite, Code::NotFinite));
        let message = flaws.fold(error.message, |message, flaw| format!("{message}; {}", flaw.message));
        Error { message, ..error }
    }
}

/// What a model needs, before its weights are read: for each of "f32", "f16", "q8" and "q4" an object of bytes
/// `{ weights, activations, rows }`; `fitting`, the one that "auto" takes; and `savings`, what else is given up for
/// `memory`: "text", "tiles" and "halves". Rows of tokens are not on the device.
#[wasm_bindgen]
pub async fn estimate(source: Source, options: JsValue) -> std::result::Result<JsValue, JsValue> {
    needs(source, &Options(options)).await.map_err(to_js)
}

async fn needs(source: Source, options: &Options) -> Result<JsValue> {
    let source = &Place::new(source::model(source, options).await?, None);
    let index = ModelIndex::from_json(&read_json(source, INDEX).await?, INDEX)?;
    let survey = Survey::read(source, &index).await?;
    let mut load = LoadOptions::parse("auto", "auto")?;
    load.decoder = LoadOptions::decoder(options.text("decoderWeights")?.as_deref())?;
    load.encoder = options.flag("imageInput")?;
    load.budget = budget(options)?;
    load.size = options.size()?;
    // What a GPU does best has two bytes, and a CPU has four.
    let half = options.text("device")?.as_deref() != Some("cpu");
    let target = Target::new(if half { Elem::F16 } else { Elem::F32 });
    let fitting = survey.fit(&load, half, &target)?;
    let (format, savings) =
        fitting.map_or((load.weights, load.savings), |needs| (needs.format, needs.savings));
    let savings = [("text", savings.text), ("tiles", savings.tiles), ("halves", savings.halves)]
        .into_iter()
        .filter(|(_, given_up)| *given_up);
    let savings: Array = savings.map(|(name, _)| JsValue::from(name)).collect();
    let mut fields = vec![("fitting", format.as_str().into()), ("savings", savings.into())];
    for format in Format::ALL {
        let decoder = load.decoder.unwrap_or(format.of_autoencoder());
        let needs =
            survey.needs(format, decoder, load.encoder, Savings::default(), (half, &target), load.size)?;
        let bytes = [needs.weights, needs.activations, needs.beside].map(|bytes| JsValue::from(bytes as f64));
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

/// What a caller is told of a call.
struct Progress<'a> {
    callback: &'a Function,
    last: Cell<f64>,
}

impl Progress<'_> {
    fn new(callback: &Function) -> Progress<'_> {
        Progress { callback, last: Cell::new(0.0) }
    }

    /// The fraction never goes back, though estimates do.
    fn tell(&self, stage: &str, fraction: f64, [a, b]: [f64; 2]) {
        let fraction = fraction.clamp(self.last.get(), 1.0);
        self.last.set(fraction);
        // What the callback throws is for its owner to see, not for the run to end with.
        let _ = self.callback.call4(&JsValue::NULL, &stage.into(), &fraction.into(), &a.into(), &b.into());
    }
}

fn answer(report: &Report, seed: u64) -> JsValue {
    let image = &report.images[0];
    let timings = &report.timings;
    let milliseconds = object(&[
        ("text", (timings.text * 1e3).into()),
        ("denoise", (timings.denoise * 1e3).into()),
        ("decode", (timings.decode * 1e3).into()),
    ]);
    object(&[
        ("width", (image.width as f64).into()),
        ("height", (image.height as f64).into()),
        ("rgba", Uint8ClampedArray::from(image.rgba.as_slice()).into()),
        ("seed", (seed as f64).into()),
        ("steps", (report.steps as f64).into()),
        ("warnings", warnings(&report.warnings).into()),
        ("unsafe", report.unsafe_images.first().copied().unwrap_or(false).into()),
        ("timings", milliseconds),
    ])
}

fn warnings(warnings: &[Warning]) -> Array {
    let each =
        |w: &Warning| object(&[("code", w.code.as_str().into()), ("message", shown(&w.message).into())]);
    warnings.iter().map(each).collect()
}

fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (key, value) in fields {
        Reflect::set(&object, &(*key).into(), value).expect("a new object takes any field");
    }
    object.into()
}

fn to_js(error: Error) -> JsValue {
    let object = JsError::new(&shown(&error.message));
    Reflect::set(&object, &"code".into(), &error.code.as_str().into()).expect("an error takes any field");
    object.into()
}
