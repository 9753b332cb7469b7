//! The plans of a model, from its configurations alone: what `tintype plan` prints and bench measures.

use std::rc::Rc;

use super::component::Component;
use super::family::Family;
use super::text::encoder_target;
use super::vision::{safety_checker, vision_plan};
use super::{Network, Request, read_json, text_plan, vae_plan};
use crate::error::{Code, Error, Result};
use crate::model::clip_vision::ImageEncoder;
use crate::model::config::{ModelIndex, NetworkConfig, VaeConfig};
use crate::model::controlnet::ControlNet;
use crate::model::denoiser::{Denoiser, Job, denoise_plan};
use crate::model::t2i_adapter::T2iAdapter;
use crate::model::text::{HiddenState, TextConfig, TextEncoder, TextUse};
use crate::plan::{Plan, Recorder, Target};
use crate::quant::Format;
use crate::shape::{Elem, Shape};
use crate::weights::{Declarations, Folder, join};

/// Of a prompt, when no text encoder says otherwise.
const CLIP_TOKENS: usize = 77;
/// Of an encoder that reads any number of them, alone.
const T5_TOKENS: usize = 256;
/// Pixels for each latent along one side, when no autoencoder says otherwise.
const PIXELS: usize = 8;

/// What a folder has.
pub struct Plans {
    pub networks: Vec<Planned>,
    /// A sentence for each network that is not built.
    pub left_out: Vec<String>,
}

/// A network of a model, recorded for one image.
pub struct Planned {
    /// Its folder in the model. Both halves of an autoencoder have one.
    pub component: &'static str,
    pub name: &'static str,
    pub declarations: Declarations,
    pub plan: Plan,
}

/// The networks of a folder in the diffusers layout, as far as it has them, or the only one of a folder that has a
/// config.json itself, for one image of `size` (width, height) without guidance.
pub async fn plans(folder: &dyn Folder, format: Format, target: &Target, size: [usize; 2]) -> Result<Plans> {
    let (mut found, mut left_out) = (vec![], vec![]);
    for Component { folder: component, class: usual, .. } in Component::all() {
        let path = join(component, "config.json");
        let json = match folder.read(&path).await {
            // What a single file lacks is told by its description.
            Err(e) if e.code == Code::NotFound => None,
            other => other?,
        };
        let Some(json) = json else { continue };
        match read(&json, &path, Some(usual))? {
            Ok(config) => found.push((*component, config)),
            Err(class) => left_out.push(format!("{path}: the class is {class}, which is not built")),
        }
    }
    if found.is_empty() && left_out.is_empty() {
        return network_plans(folder, "config.json", format, target, size).await;
    }
    let index = folder.read("model_index.json").await?;
    let index = index.map(|json| ModelIndex::from_json(&json, "model_index.json")).transpose()?;
    let family = index.as_ref().and_then(|index| Some((Family::of(index).ok()?, &index.class_name)));
    let upcast = family.is_some_and(|(family, class)| upcasts(family, class, &found, target));
    // A folder without an index is of the family that has what it has.
    let family = family.map(|(family, _)| family).or_else(|| Family::with(&found));
    let family = family.unwrap_or(Family::plain());
    let networks = record(found, Recording { format, target, upcast, family, size })?;
    Ok(Plans { networks, left_out })
}

/// Whether a model's autoencoder computes in f32 where the rest is in halves: where its configuration wants it
/// (`force_upcast`) and diffusers' pipeline obeys, as those of SDXL do.
pub(super) fn upcasts(
    family: &Family,
    pipeline: &str,
    networks: &[(&str, NetworkConfig)],
    target: &Target,
) -> bool {
    let wants =
        |config: &NetworkConfig| matches!(config, NetworkConfig::Vae(VaeConfig::Kl(c)) if c.force_upcast);
    target.elem != Elem::F32 && (family.upcasts)(pipeline) && networks.iter().any(|(_, config)| wants(config))
}

/// The one network that a file describes.
pub async fn network_plans(
    folder: &dyn Folder,
    file: &str,
    format: Format,
    target: &Target,
    size: [usize; 2],
) -> Result<Plans> {
    let config = read(&read_json(folder, file).await?, file, None)?.map_err(|class| {
        Error::unsupported(format!(
            "{file}: the class is {class}, supported are {}",
            NetworkConfig::classes().join(", ")
        ))
    })?;
    let family = Family::with_denoiser(&config);
    let recording = Recording { format, target, upcast: false, family, size };
    let networks = record(vec![(config.folder(), config)], recording)?;
    Ok(Plans { networks, left_out: vec![] })
}

/// A network's configuration, or its class if that is not built.
pub(super) fn read(
    json: &[u8],
    file: &str,
    usual: Option<&str>,
) -> Result<std::result::Result<NetworkConfig, String>> {
    let class = NetworkConfig::class(json, file)?.or(usual.map(str::to_owned));
    let class = class.ok_or_else(|| {
        Error::model(format!(
            "{file}: there is no _class_name, wanted that of a network, such as AutoencoderKL"
        ))
    })?;
    Ok(NetworkConfig::of_class(&class, json, file)?.ok_or(class))
}

/// Values that a network's checkpoint has.
pub(super) fn parameters(config: &NetworkConfig) -> u64 {
    let mut d = Declarations::new(Format::F16);
    match config {
        NetworkConfig::Text(c) => drop(c.declare(&mut d, TextUse::ANY)),
        NetworkConfig::Denoiser(c) => drop(c.declare(&mut d)),
        NetworkConfig::Vae(c) => drop((Network::decoder(&mut d, c), Network::encoder(&mut d, c))),
        NetworkConfig::ControlNet(c) => drop(ControlNet::declare(&mut d, c)),
        NetworkConfig::T2iAdapter(c) => drop(T2iAdapter::declare(&mut d, c)),
        NetworkConfig::ImageEncoder(c) => drop(ImageEncoder::declare(&mut d, "vision_model", c)),
        NetworkConfig::SafetyChecker(c) => drop(safety_checker(&mut d, c)),
    }
    d.parameters()
}

/// What networks are recorded for.
#[derive(Clone, Copy)]
pub(super) struct Recording<'a> {
    pub format: Format,
    pub target: &'a Target,
    /// Whether an autoencoder computes in f32.
    pub upcast: bool,
    pub family: &'static Family,
    /// Width and height of the image.
    pub size: [usize; 2],
}

pub(super) fn record(
    found: Vec<(&'static str, NetworkConfig)>,
    Recording { format, target, upcast, family, size }: Recording,
) -> Result<Vec<Planned>> {
    let any_number = family.encoders.iter().map(|encoder| encoder.tokens).max().unwrap_or(0);
    let read_by = |c: &dyn TextConfig| {
        c.sizes().max_position_embeddings.unwrap_or(if any_number == 0 { T5_TOKENS } else { any_number })
    };
    let (mut factor, mut patch) = (PIXELS, 1);
    let mut tokens = vec![None; family.encoders.len()];
    for (component, config) in &found {
        match config {
            NetworkConfig::Text(c) => {
                let encoder = family.encoders.iter().position(|e| e.component.folder == *component);
                encoder.into_iter().for_each(|at| tokens[at] = Some(read_by(&**c)));
            }
            NetworkConfig::Denoiser(c) => (patch, factor) = (c.sizes().patch, c.sizes().pixels),
            NetworkConfig::Vae(c) => factor = c.spatial_factor(),
            _ => {}
        }
    }
    let request = Request { size: Some(size), ..Request::new("", 0) };
    let [width, height] = request.size(0, factor * patch)?.map(|side| side as u32);
    if tokens.iter().all(Option::is_none) {
        tokens.first_mut().into_iter().for_each(|first| *first = Some(CLIP_TOKENS));
    }
    let tokens = (family.reading.tokens)(&tokens, any_number) as u32;
    let job = Job {
        images: 1,
        guided: false,
        size: [height, width].map(|side| side / factor as u32),
        tokens,
        ..Job::default()
    };
    let mut all = vec![];
    for (component, config) in found {
        let format = match &config {
            NetworkConfig::Vae(_) => format.of_autoencoder(),
            _ => format,
        };
        match config {
            NetworkConfig::Text(c) => {
                let encoder = family.encoders.iter().find(|e| e.component.folder == component);
                let usage = encoder.map_or(TextUse::ANY, |encoder| family.text_use(encoder));
                // One that has fewer layers than are read is refused where it is loaded.
                let fits = |state: &HiddenState| state.depth(c.sizes().num_hidden_layers).is_some();
                let state = usage.state.filter(fits).unwrap_or(HiddenState::LAST);
                let usage = TextUse { state: Some(state), ..usage };
                let declare = |d: &mut Declarations| c.declare(d, usage);
                let tokens = read_by(&*c);
                let plan = |encoder: Rc<dyn TextEncoder>| {
                    let target = encoder_target(&*encoder, target);
                    text_plan(&*encoder, &target, [1, tokens], state)
                };
                all.push(planned(component, component, format, declare, plan)?);
            }
            NetworkConfig::Denoiser(c) => {
                let declare = |d: &mut Declarations| c.declare(d);
                let plan = |denoiser: Box<dyn Denoiser>| denoise_plan(&*denoiser, target, job);
                all.push(planned(component, component, format, declare, plan)?);
            }
            NetworkConfig::Vae(c) => {
                type Declare = fn(&mut Declarations, &VaeConfig) -> Network;
                let cells = job.size.map(|side| side * c.packing() as u32);
                let halves: [(_, Declare, _); 2] =
                    [("decoder", Network::decoder, cells), ("encoder", Network::encoder, [height, width])];
                for (name, declare, size) in halves {
                    let elem = if upcast { Elem::F32 } else { target.elem };
                    let target = Target { elem, ..target.clone() };
                    let plan = |network| vae_plan(&network, &c, &target, 1, size);
                    all.push(planned(component, name, format, |d| declare(d, &c), plan)?);
                }
            }
            NetworkConfig::ControlNet(c) => {
                let declare = |d: &mut Declarations| ControlNet::declare(d, &c);
                all.push(planned(component, component, format, declare, |n| control_plan(&n, target, job))?);
            }
            NetworkConfig::T2iAdapter(c) => {
                let declare = |d: &mut Declarations| T2iAdapter::declare(d, &c);
                all.push(planned(component, component, format, declare, |n| adapter_plan(&n, target, job))?);
            }
            NetworkConfig::ImageEncoder(c) => {
                let declare = |d: &mut Declarations| ImageEncoder::declare(d, "vision_model", &c);
                all.push(planned(component, component, format, declare, |e| vision_plan(&e, target, 1))?);
            }
            NetworkConfig::SafetyChecker(c) => {
                let declare = |d: &mut Declarations| safety_checker(d, &c).0;
                all.push(planned(component, component, format, declare, |e| vision_plan(&e, target, 1))?);
            }
        }
    }
    Ok(all)
}

/// Declares a network, and records it if what it asks for can be.
fn planned<T>(
    component: &'static str,
    name: &'static str,
    format: Format,
    declare: impl FnOnce(&mut Declarations) -> T,
    plan: impl FnOnce(T) -> Plan,
) -> Result<Planned> {
    let mut declarations = Declarations::new(format);
    let network = declare(&mut declarations);
    declarations.check(component)?;
    Ok(Planned { component, name, declarations, plan: plan(network) })
}

/// A ControlNet without the U-Net that it was made for, in the sections of [`denoise_plan`].
fn control_plan(control: &ControlNet, target: &Target, job: Job) -> Plan {
    let config = &control.config.encoder;
    let (rows, [h, w]) = (job.rows(), job.size);
    let mut r = Recorder::new(target);
    let vector = |c: usize| Shape::new(rows, 1, 1, c as u32);
    r.section("context");
    let text = Shape::tokens(rows, job.tokens, config.cross_attention_dim as u32);
    let text = r.input("text", text, target.elem);
    let context = control.record_context(&mut r, text);
    let added = config.text_time.map(|t| r.input("added_features", vector(t.inputs), target.elem));
    r.section("pictures");
    let image = r.input("control_image", control.image_shape(rows, job.size), target.elem);
    let image = control.record_image(&mut r, image);
    r.section("time");
    let features = r.input("time_features", vector(config.block_out_channels[0]), target.elem);
    let time = control.record_time(&mut r, features, added);
    r.section("control");
    let x = r.input("latents", Shape::new(rows, h, w, config.in_channels as u32), target.elem);
    let residuals = control.record(&mut r, x, image, time, &context);
    for (i, residual) in residuals.down.into_iter().enumerate() {
        r.output(&format!("down.{i}"), residual);
    }
    r.output("mid", residuals.mid);
    r.finish()
}

/// A T2I-Adapter without the U-Net that it was made for.
fn adapter_plan(adapter: &T2iAdapter, target: &Target, job: Job) -> Plan {
    let mut r = Recorder::new(target);
    r.section("pictures");
    let image = r.input("adapter_image", adapter.image_shape(job.size), target.elem);
    for (i, feature) in adapter.record(&mut r, image).into_iter().enumerate() {
        r.output(&format!("feature.{i}"), feature);
    }
    r.finish()
}
