//! ControlNet and T2I-Adapter: what they make of an image, and what a U-Net makes of that. Both networks are
//! in one plan, which two checkpoints fill.

use serde_json::Value;
use tintype::device::{Session, Weights};
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::model::config::{ControlNetConfig, T2iAdapterConfig, UnetConfig};
use tintype::model::controlnet::ControlNet;
use tintype::model::t2i_adapter::{T2iAdapter, unshuffle};
use tintype::model::unet::{Adapter, Control, Extras, Unet};
use tintype::pipeline::read_json;
use tintype::plan::{Recorder, Tensor};
use tintype::shape::{Elem, Shape};
use tintype::weights::{Checkpoint, Declarations, DiskFolder, Hooks};

use super::reference::Reference;
use super::{Bench, Check};

/// The U-Net that both were made for.
const UNET: &str = "sd15-like/unet";
/// Slots in front of those that are used, with a factor that would show.
const UNUSED: u32 = 1;
const NONSENSE: f32 = 1e3;

pub async fn controlnet(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let scale = case["conditioning_scale"].as_f64().ok_or_else(|| Error::model("no conditioning_scale"))?;
    let net = component(case)?;
    let folder = models(bench);
    let (mut d, unet, config) = base(bench, &folder).await?;
    d.next_source();
    let file = format!("{net}/config.json");
    let control_config = ControlNetConfig::from_json(&read_json(&folder, &file).await?, &file)?;
    let control = ControlNet::declare(&mut d, &control_config);

    let mut r = Recorder::new(&bench.target);
    let elem = bench.target.elem;
    r.section("control");
    let inputs = Inputs::record(&mut r, &reference, &config, &unet)?;
    let image = r.input("image", reference_shape(&reference, "in.controlnet_cond")?, elem);
    let image = control.record_image(&mut r, image);
    r.output("cond_embedding", image);
    let context = control.record_context(&mut r, inputs.text);
    let time = control.record_time(&mut r, inputs.features, None);
    let residuals = control.record(&mut r, inputs.sample, image, time, &context);
    for (i, &residual) in residuals.down.iter().enumerate() {
        r.output(&format!("down.{i}"), residual);
    }
    r.output("mid", residuals.mid);
    let count = control.residuals() as u32;
    let scales = r.input("scales", Shape::new(1, 1, UNUSED + 2 * count, 4), Elem::F32);
    // As one network with the whole scale, and as two whose scales add up to it.
    for (section, name, slots) in [
        ("unet", "out.unet_with_controlnet", vec![UNUSED]),
        ("twice", "out.twice", vec![UNUSED + count, UNUSED + count]),
    ] {
        r.section(section);
        let controls = slots.into_iter().map(|slot| Control { residuals: residuals.clone(), scales, slot });
        let extras = Extras { controls: controls.collect(), ..Default::default() };
        inputs.unet(&mut r, &unet, name, &extras);
    }

    let session = session(bench, &folder, r, &d, net).await?;
    inputs.write(&session, &reference, &unet)?;
    session.write("image", &reference.nhwc("in.controlnet_cond")?);
    let scale = scale as f32;
    let factors = [control.factors(scale, false), control.factors(scale / 2.0, false)].concat();
    session.write("scales", &slots(&factors));
    for section in ["control", "unet", "twice"] {
        session.run(section, &Cancel::default(), &|_| {}).await?;
    }
    let mut checks = vec![];
    for name in reference.names().filter(|name| !name.starts_with("in.")) {
        let mut got = session.read(name).await?;
        if name == "mid" || name.starts_with("down.") {
            // The reference has them with the scale.
            got.iter_mut().for_each(|v| *v *= scale);
        }
        checks.push(Check::new(name, &got, &reference.nhwc(name)?));
    }
    let twice = session.read("out.twice").await?;
    checks.push(Check::new("out.twice", &twice, &reference.nhwc("out.unet_with_controlnet")?));
    Ok(checks)
}

pub async fn t2i_adapter(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let net = component(case)?;
    let folder = models(bench);
    let (mut d, unet, config) = base(bench, &folder).await?;
    d.next_source();
    let file = format!("{net}/config.json");
    let adapter_config = T2iAdapterConfig::from_json(&read_json(&folder, &file).await?, &file)?;
    let adapter = T2iAdapter::declare(&mut d, &adapter_config);

    let mut r = Recorder::new(&bench.target);
    r.section("adapter");
    let Shape { n, h, w, c } = reference_shape(&reference, "in.image")?;
    let factor = adapter_config.downscale_factor;
    let squares = [h, w].map(|side| side / factor as u32);
    let shape = Shape::new(n, squares[0], squares[1], adapter_config.unshuffled() as u32);
    let image = r.input("image", shape, bench.target.elem);
    let features = adapter.record(&mut r, image);
    for (i, &feature) in features.iter().enumerate() {
        r.output(&format!("feature.{i}"), feature);
    }
    r.section("unet");
    let inputs = Inputs::record(&mut r, &reference, &config, &unet)?;
    let scales = r.input("scales", Shape::new(1, 1, UNUSED + 1, 4), Elem::F32);
    let adapters = vec![Adapter { features, scales, slot: UNUSED }];
    inputs.unet(&mut r, &unet, "out.unet_with_adapter", &Extras { adapters, ..Default::default() });

    let session = session(bench, &folder, r, &d, net).await?;
    inputs.write(&session, &reference, &unet)?;
    let pixels = unshuffle(&reference.nhwc("in.image")?, [h as usize, w as usize], c as usize, factor);
    session.write("image", &pixels);
    session.write("scales", &slots(&[1.0]));
    for section in ["adapter", "unet"] {
        session.run(section, &Cancel::default(), &|_| {}).await?;
    }
    let mut checks = vec![];
    for name in reference.names().filter(|name| !name.starts_with("in.")) {
        checks.push(Check::new(name, &session.read(name).await?, &reference.nhwc(name)?));
    }
    Ok(checks)
}

/// What the U-Net and a ControlNet are given.
struct Inputs {
    sample: Tensor,
    text: Tensor,
    features: Tensor,
}

impl Inputs {
    fn record(r: &mut Recorder, reference: &Reference, config: &UnetConfig, unet: &Unet) -> Result<Inputs> {
        let elem = r.target.elem;
        let sample = reference_shape(reference, "in.sample")?;
        let tokens = reference.shape("in.encoder_hidden_states")?[1] as u32;
        let text = Shape::tokens(sample.n, tokens, config.cross_attention_dim as u32);
        Ok(Inputs {
            sample: r.input("sample", sample, elem),
            text: r.input("text", text, elem),
            features: r.input("features", unet.time_embedding().shape(sample.n), elem),
        })
    }

    /// The whole U-Net, whose output has this name.
    fn unet(&self, r: &mut Recorder, unet: &Unet, name: &str, extras: &Extras) {
        let context = unet.record_context(r, self.text);
        let time = unet.record_time(r, self.features, None, None);
        let output = unet.record(r, self.sample, time, &context, extras);
        r.output(name, output);
    }

    fn write(&self, session: &Session, reference: &Reference, unet: &Unet) -> Result<()> {
        let timestep = reference.f32("in.timestep")?[0];
        let features = unet.time_embedding().features(timestep).repeat(self.features.shape.n as usize);
        session.write("sample", &reference.nhwc("in.sample")?);
        session.write("text", &reference.f32("in.encoder_hidden_states")?);
        session.write("features", &features);
        Ok(())
    }
}

fn component(case: &Value) -> Result<&str> {
    case["model"].as_str().ok_or_else(|| Error::model("manifest.json: a case without a model"))
}

fn models(bench: &Bench) -> DiskFolder {
    DiskFolder::new(bench.root.join("models"))
}

/// The U-Net, declared first.
async fn base(bench: &Bench, folder: &DiskFolder) -> Result<(Declarations, Unet, UnetConfig)> {
    let file = format!("{UNET}/config.json");
    let config = UnetConfig::from_json(&read_json(folder, &file).await?, &file)?;
    let mut d = Declarations::new(bench.load.weights);
    let unet = Unet::declare(&mut d, &config);
    Ok((d, unet, config))
}

/// What was recorded, with the weights of the U-Net and then those of `net`.
async fn session(
    bench: &Bench,
    folder: &DiskFolder,
    r: Recorder,
    d: &Declarations,
    net: &str,
) -> Result<Session> {
    let stem = "diffusion_pytorch_model";
    let checkpoints = [UNET, net].map(|component| Checkpoint::new(folder, component, stem));
    let weights = Weights::load(&bench.device, d, &checkpoints, Hooks::NONE).await?;
    Session::new(r.finish(), &weights).await
}

/// The factors in their slots, behind the unused one; only the first of four numbers counts.
fn slots(factors: &[f32]) -> Vec<f32> {
    [NONSENSE].iter().chain(factors).flat_map(|&k| [k, NONSENSE, NONSENSE, NONSENSE]).collect()
}

/// Of [N, C, H, W] values.
fn reference_shape(reference: &Reference, name: &str) -> Result<Shape> {
    match *reference.shape(name)? {
        [n, c, h, w] => Ok(Shape::new(n as u32, h as u32, w as u32, c as u32)),
        _ => Err(Error::model(format!("{name} is not [N, C, H, W]"))),
    }
}
