//! What other networks add inside a U-Net, and where it arrives.

use std::collections::BTreeMap;
use std::fs;

use pollster::block_on;
use tintype::device::{Device, Session, Weights};
use tintype::host::Cancel;
use tintype::model::config::{ControlNetConfig, UnetConfig};
use tintype::model::controlnet::ControlNet;
use tintype::model::unet::{Adapter, Control, Extras, Kind, Unet};
use tintype::plan::{Recorder, Target, Tensor as Activation};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};
use tintype::weights::{Checkpoint, Declarations, DiskFolder, Hooks};

use crate::harness::Bench;
use crate::models::folder::Temp;
use crate::models::tensors::{Tensor, Tensors};

const FILE: &str = "unet/diffusion_pytorch_model.fp16.safetensors";
const LATENTS: Shape = Shape { n: 1, h: 8, w: 8, c: 4 };

/// A U-Net and a ControlNet that is its copy, which begins like the published ones before their training:
/// it makes nothing of the image. Its last convolutions pass on what they get.
struct Pair {
    config: UnetConfig,
    unet: Unet,
    control: ControlNet,
    weights: Weights,
}

/// One feature of a T2I-Adapter.
#[derive(Clone, Copy)]
enum Feature {
    /// The same number everywhere.
    Flat(f32),
    /// What the ControlNet makes for this skip connection.
    Residual(usize),
}

/// The factor of all features.
const SHARE: f32 = 0.5;

type Outputs = BTreeMap<String, Vec<f32>>;

fn kind(attention: bool) -> &'static Kind {
    if attention { Kind::cross_attention() } else { Kind::plain() }
}

impl Pair {
    /// `attention` is that of the down blocks.
    fn new(attention: [bool; 3]) -> Pair {
        let folder = Temp::model("sdxs-like");
        let json = fs::read(folder.path("unet/config.json")).unwrap();
        let config = UnetConfig::from_json(&json, "unet").unwrap();
        let config = UnetConfig { down_blocks: attention.map(kind).to_vec(), ..config };
        let mut d = Declarations::new(Format::F32);
        let unet = Unet::declare(&mut d, &config);
        d.next_source();
        let control_config = ControlNetConfig {
            encoder: config.clone(),
            conditioning_channels: 3,
            conditioning_embedding_out_channels: vec![4],
        };
        let control = ControlNet::declare(&mut d, &control_config);
        let mut tensors = Tensors::parse(&fs::read(folder.path(FILE)).unwrap());
        let parts = d.specs.iter().flat_map(|s| &s.parts);
        for part in parts.filter(|p| p.names[0].starts_with("controlnet_")) {
            let passes = !part.names[0].contains("cond_embedding") && part.shape.len() == 4;
            let one = |i: usize| if passes && i.is_multiple_of(part.shape[1] + 1) { 1.0 } else { 0.0 };
            let values: Vec<f32> = (0..part.shape.iter().product()).map(one).collect();
            tensors.0.push(Tensor::f32(&part.names[0], &part.shape, &values));
        }
        folder.write("control/diffusion_pytorch_model.safetensors", tensors.bytes());
        let disk = DiskFolder::new(&folder.0);
        let checkpoints =
            ["unet", "control"].map(|component| Checkpoint::new(&disk, component, "diffusion_pytorch_model"));
        let weights = block_on(Weights::load(&Device::Cpu, &d, &checkpoints, Hooks::NONE)).unwrap();
        Pair { config, unet, control, weights }
    }

    /// All modules' outputs of the U-Net, and "residual.i", with these factors of the ControlNet's residuals
    /// and these features of an adapter.
    fn run(&self, factors: &[f32], features: &[Feature]) -> Outputs {
        let mut r = Recorder::new(&Target::new(Elem::F32));
        let mut values = Bench::new(Elem::F32, Format::F32).random;
        let mut written: Vec<(String, Vec<f32>)> = vec![];
        let mut input = |r: &mut Recorder, name: &str, shape: Shape| {
            written.push((name.to_owned(), values.values((shape.rows() * shape.c) as usize)));
            r.input(name, shape, Elem::F32)
        };
        r.section("all");
        let sample = input(&mut r, "sample", LATENTS);
        let text = input(&mut r, "text", Shape::tokens(1, 5, self.config.cross_attention_dim as u32));
        let time_features = input(&mut r, "time", self.unet.time_embedding().shape(1));
        let image = input(&mut r, "image", LATENTS.with_c(3));
        let scales = input(&mut r, "scales", Shape::new(1, 1, factors.len() as u32, 4));
        let share = input(&mut r, "share", Shape::new(1, 1, 1, 4));
        let image = self.control.record_image(&mut r, image);
        let time = self.control.record_time(&mut r, time_features, None);
        let context = self.control.record_context(&mut r, text);
        let residuals = self.control.record(&mut r, sample, image, time, &context);
        for (i, &residual) in residuals.down.iter().chain([&residuals.mid]).enumerate() {
            r.output(&format!("residual.{i}"), residual);
        }
        let mut flat = vec![];
        let features: Vec<Activation> = features
            .iter()
            .zip(self.feature_shapes())
            .enumerate()
            .map(|(i, (&feature, shape))| match feature {
                Feature::Residual(i) => residuals.down[i],
                Feature::Flat(value) => {
                    let name = format!("feature.{i}");
                    let tensor = r.input(&name, shape, Elem::F32);
                    flat.push((name, vec![value; (shape.rows() * shape.c) as usize]));
                    tensor
                }
            })
            .collect();
        let mut extras = Extras::default();
        if !factors.is_empty() {
            extras.controls.push(Control { residuals, scales, slot: 0 });
        }
        if !features.is_empty() {
            extras.adapters.push(Adapter { features, scales: share, slot: 0 });
        }
        r.target.taps = true;
        let time = self.unet.record_time(&mut r, time_features, None, None);
        let context = self.unet.record_context(&mut r, text);
        self.unet.record(&mut r, sample, time, &context, &extras);

        let session = block_on(Session::new(r.finish(), &self.weights)).unwrap();
        let write = |name: &str, values: &[f32]| session.write(name, values);
        written.iter().chain(&flat).for_each(|(name, values)| write(name, values));
        write("scales", &factors.iter().flat_map(|&k| [k; 4]).collect::<Vec<f32>>());
        write("share", &[SHARE; 4]);
        block_on(session.run("all", &Cancel::default(), &|_| {})).unwrap();
        let names = session.plan().outputs.keys();
        let read = |name: &String| block_on(session.read(name)).unwrap();
        names.map(|name| (name.clone(), read(name))).collect()
    }

    /// Of a T2I-Adapter for this U-Net: before the downsampler of a block with attention, else behind it.
    fn feature_shapes(&self) -> Vec<Shape> {
        let widths = self.config.block_out_channels.iter().zip(&self.config.down_blocks).enumerate();
        let shape = |(i, (&width, kind)): (usize, (&usize, &&Kind))| {
            let halved = if kind.attends_text() { i } else { (i + 1).min(2) };
            Shape::new(1, 8 >> halved, 8 >> halved, width as u32)
        };
        widths.map(shape).collect()
    }

    /// The modules of the U-Net whose outputs are the skip connections, in order.
    fn skips(&self) -> Vec<String> {
        let mut names = vec!["conv_in".to_owned()];
        for (i, kind) in self.config.down_blocks.iter().enumerate() {
            let layer = if kind.attends_text() { "attentions" } else { "resnets" };
            names.push(format!("down_blocks.{i}.{layer}.0"));
            if i < 2 {
                names.push(format!("down_blocks.{i}.downsamplers.0"));
            }
        }
        names
    }
}

/// Every module in the order in which they run, of those that this U-Net has outputs of.
fn order(outputs: &Outputs) -> Vec<&str> {
    let mut names = vec!["conv_in".to_owned()];
    for i in 0..3 {
        let block = |path: &str| format!("down_blocks.{i}.{path}");
        names.extend(["resnets.0", "attentions.0", "downsamplers.0"].map(block));
    }
    for i in 0..3 {
        let block = |path: &str| format!("up_blocks.{i}.{path}");
        let layers = ["resnets.0", "attentions.0", "resnets.1", "attentions.1", "upsamplers.0"];
        names.extend(layers.map(block));
    }
    names.push("conv_out".to_owned());
    names.iter().filter_map(|name| Some(outputs.get_key_value(name)?.0.as_str())).collect()
}

/// The first module whose output differs.
fn first_change<'a>(plain: &'a Outputs, changed: &Outputs) -> Option<&'a str> {
    let order = order(plain);
    order.into_iter().find(|name| plain[*name] != changed[*name])
}

#[test]
fn a_copy_of_the_unet_passes_on_its_skip_connections() {
    for attention in [[true; 3], [false, true, true]] {
        let pair = Pair::new(attention);
        let outputs = pair.run(&[], &[]);
        let skips = pair.skips();
        assert_eq!(pair.control.residuals(), skips.len() + 1);
        // Without a mid block, the last residual is of the last down block once more.
        for (i, name) in skips.iter().chain(skips.last()).enumerate() {
            assert!(outputs[&format!("residual.{i}")] == outputs[name], "residual {i} is not {name}");
        }
    }
}

#[test]
fn residuals_arrive_where_their_skip_connections_do() {
    let pair = Pair::new([true; 3]);
    let count = pair.control.residuals();
    let plain = pair.run(&[], &[]);
    assert!(pair.run(&vec![0.0; count], &[]) == plain, "a factor of zero changes something");
    for i in 0..count {
        let mut factors = vec![0.0; count];
        factors[i] = 0.5;
        // The last skip connection comes first; the mid block's residual is what the first up block gets.
        let layer = if i + 1 == count { 0 } else { count - 2 - i };
        let wanted = format!("up_blocks.{}.resnets.{}", layer / 2, layer % 2);
        let changed = pair.run(&factors, &[]);
        assert_eq!(first_change(&plain, &changed), Some(wanted.as_str()), "residual {i}");
    }
}

#[test]
fn features_arrive_behind_their_blocks() {
    // A block without attention takes its feature behind its downsampler, one with attention before.
    for (attention, wanted) in [
        (
            [true; 3],
            ["down_blocks.0.downsamplers.0", "down_blocks.1.downsamplers.0", "up_blocks.0.resnets.0"],
        ),
        (
            [false, true, true],
            ["down_blocks.1.resnets.0", "down_blocks.1.downsamplers.0", "up_blocks.0.resnets.0"],
        ),
    ] {
        let pair = Pair::new(attention);
        let plain = pair.run(&[], &[]);
        assert!(pair.run(&[], &[Feature::Flat(0.0); 3]) == plain, "features of zero change something");
        for (i, wanted) in wanted.iter().enumerate() {
            let mut features = [Feature::Flat(0.0); 3];
            features[i] = Feature::Flat(0.25);
            let changed = pair.run(&[], &features);
            assert_eq!(first_change(&plain, &changed), Some(*wanted), "feature {i} of {attention:?}");
        }
    }
}

#[test]
fn a_feature_is_in_the_skip_connection_as_well() {
    let pair = Pair::new([true; 3]);
    let last = pair.skips().len() - 1;
    let adapted = pair.run(&[], &[Feature::Flat(0.0), Feature::Flat(0.0), Feature::Residual(last)]);
    // The same share of the same tensor for the last skip connection and for what the up path begins with.
    let mut factors = vec![0.0; last];
    factors.extend([SHARE; 2]);
    assert!(adapted == pair.run(&factors, &[]));
    assert!(adapted != pair.run(&[], &[]));
}

#[test]
fn guess_mode_weakens_what_lies_higher_up() {
    let pair = Pair::new([true; 3]);
    assert_eq!(pair.control.factors(0.75, false), [0.75; 7]);
    let factors = pair.control.factors(2.0, true);
    let wanted = [0.2, 0.29356, 0.430887, 0.632456, 0.928318, 1.362584, 2.0];
    for (got, want) in factors.iter().zip(wanted) {
        assert!((got - want).abs() < 1e-6, "{factors:?}");
    }
}
