//! Every published configuration: parameters that must be exact, FLOPs that torch counts, and what a plan costs.

use std::fs;
use std::path::Path;

use pollster::block_on;
use serde_json::Value;
use tintype::bench::{self, Setting};
use tintype::device::Device;
use tintype::error::Code;
use tintype::model::config::{ClipVisionConfig, IpAdapterConfig, UnetConfig};
use tintype::model::ip_adapter::IpAdapter;
use tintype::model::unet::Unet;
use tintype::pipeline::{LoadOptions, Planned, network_plans, plans};
use tintype::plan::Target;
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{Declarations, DiskFolder, Layout, MemoryFolder};

use super::accept;
use crate::models::folder::here;

const CONFIGS: &str = "tests/plans/configs";

/// A network's folder, its parameters and tensors as the published checkpoint has them, and for plans by name and side
/// of the image the GFLOPs that torch counts for one image (a multiply-add is two).
type Network = (&'static str, u64, usize, &'static [(&'static str, usize, f64)]);

const KL: &[(&str, usize, f64)] = &[("decoder", 512, 2514.5), ("encoder", 512, 1116.7)];
const DC: &[(&str, usize, f64)] = &[("decoder", 512, 2092.2)];
const TINY: &[(&str, usize, f64)] = &[("decoder", 512, 141.4), ("encoder", 512, 122.3)];
/// A later autoencoder of 16 channels: torch's count is of 4.
const KL_16: &[(&str, usize, f64)] = &[];

const NETWORKS: &[Network] = &[
    ("bk-sdm-base/unet", 579_384_964, 442, &[("unet", 512, 523.0)]),
    ("bk-sdm-small/unet", 482_346_884, 396, &[("unet", 512, 510.9)]),
    ("bk-sdm-tiny/unet", 323_384_964, 358, &[("unet", 512, 485.5)]),
    ("bk-sdm-v2-base/unet", 583_480_964, 442, &[]),
    ("bk-sdm-v2-small/unet", 485_787_524, 396, &[]),
    ("bk-sdm-v2-tiny/unet", 326_825_604, 358, &[]),
    ("controlnet-sd15/controlnet", 361_279_120, 340, &[("controlnet", 512, 283.3)]),
    (
        "dit-xl-2-256/transformer",
        749_826_464,
        538,
        &[("transformer", 256, 237.3), ("transformer", 512, 1049.2)],
    ),
    ("flux1-schnell/transformer", 11_891_178_560, 1156, &[]),
    ("flux1-schnell/vae", 83_819_683, 244, KL_16),
    ("flux2-klein-4b/text_encoder", 4_022_468_096, 398, &[]),
    (
        "flux2-klein-4b/transformer",
        3_875_544_576,
        169,
        &[("transformer", 512, 10_173.0), ("transformer", 1024, 34_820.2)],
    ),
    ("flux2-klein-4b/vae", 84_046_115, 248, &[("decoder", 512, 2515.6)]),
    ("flux2-small-decoder/vae", 62_373_091, 248, &[("decoder", 512, 1422.0)]),
    ("ip-adapter-sd15/image_encoder", 632_076_800, 520, &[]),
    ("lcm-dreamshaper-v7/text_encoder", 123_060_480, 196, &[("text_encoder", 512, 13.1)]),
    ("lcm-dreamshaper-v7/unet", 859_602_884, 687, &[("unet", 768, 2148.1)]),
    ("lcm-dreamshaper-v7/vae", 83_653_863, 248, KL),
    ("lcm-sdxl/unet", 2_567_545_604, 1681, &[("unet", 512, 1588.8)]),
    ("pixart-lcm-xl-2-1024-ms/transformer", 611_349_152, 611, &[]),
    (
        "pixart-sigma-xl-2-1024-ms/transformer",
        610_856_096,
        603,
        &[("transformer", 512, 1288.7), ("transformer", 1024, 6633.6)],
    ),
    ("sana-sprint-0.6b/transformer", 593_501_216, 664, &[]),
    ("sana-sprint-0.6b/vae", 312_250_275, 375, DC),
    ("sana-sprint-1.6b/transformer", 1_610_237_472, 480, &[]),
    ("sd-turbo/text_encoder", 340_387_840, 372, &[("text_encoder", 512, 44.6)]),
    ("sd-turbo/unet", 865_910_724, 686, &[("unet", 512, 804.3)]),
    ("sd-turbo/vae", 83_653_863, 248, KL),
    ("sd15-inpainting/unet", 859_535_364, 686, &[]),
    ("sd15/safety_checker", 303_981_588, 396, &[]),
    ("sd15/text_encoder", 123_060_480, 196, &[("text_encoder", 512, 13.1)]),
    ("sd15/unet", 859_520_964, 686, &[("unet", 512, 803.3)]),
    ("sd15/vae", 83_653_863, 248, KL),
    ("sd21-base/unet", 865_910_724, 686, &[("unet", 512, 804.3)]),
    ("sd21-base/vae", 83_653_863, 248, KL),
    ("sd35-large-turbo/transformer", 8_146_280_768, 1227, &[("transformer", 512, 7977.8)]),
    ("sd35-medium/text_encoder_3", 4_762_310_656, 219, &[]),
    (
        "sd35-medium/transformer",
        2_469_663_936,
        909,
        &[("transformer", 512, 2442.6), ("transformer", 1024, 11_249.6)],
    ),
    ("sd35-medium/vae", 83_819_683, 244, KL_16),
    ("sdxl-lightning/unet", 2_567_463_684, 1680, &[("unet", 512, 1588.8), ("unet", 1024, 6761.2)]),
    ("sdxl-turbo/text_encoder", 123_060_480, 196, &[("text_encoder", 512, 13.1)]),
    ("sdxl-turbo/text_encoder_2", 694_659_840, 517, &[]),
    ("sdxl-turbo/unet", 2_567_463_684, 1680, &[("unet", 512, 1588.8), ("unet", 1024, 6761.2)]),
    ("sdxl-turbo/vae", 83_653_863, 248, KL),
    ("sdxs-512-0.9/unet", 328_177_284, 358, &[("unet", 512, 418.1)]),
    ("sdxs-512-0.9/vae", 2_445_063, 134, TINY),
    ("sdxs-512-dreamshaper/unet", 315_746_244, 280, &[("unet", 512, 369.3)]),
    ("sdxs-512-dreamshaper/vae", 2_445_063, 134, TINY),
    ("segmind-small-sd/unet", 579_384_964, 442, &[("unet", 512, 523.0)]),
    ("segmind-small-sd/vae", 83_653_863, 248, KL),
    ("segmind-tiny-sd/unet", 323_384_964, 358, &[("unet", 512, 485.5)]),
    ("segmind-tiny-sd/vae", 83_653_863, 248, KL),
    ("t2i-adapter-sd15-1ch/adapter", 77_000_640, 38, &[]),
    ("t2i-adapter-sd15/adapter", 77_369_280, 38, &[]),
    ("t2i-adapter-sdxl/adapter", 79_028_160, 38, &[]),
    ("taef1/vae", 2_458_899, 134, &[]),
    ("taesd/vae", 2_445_063, 134, TINY),
    ("taesd3/vae", 2_458_899, 134, &[]),
    ("taesdxl/vae", 2_445_063, 134, TINY),
    (
        "z-image-turbo/transformer",
        6_154_908_736,
        521,
        &[("transformer", 512, 13_297.3), ("transformer", 1024, 56_092.3)],
    ),
];

fn planned(path: &str, side: usize) -> Vec<Planned> {
    let folder = DiskFolder::new(here(CONFIGS).join(path));
    let all = block_on(plans(&folder, Format::F16, &Target::new(Elem::F16), [side; 2])).unwrap();
    assert!(all.left_out.is_empty(), "{path}: {:?}", all.left_out);
    all.networks
}

fn tensors(planned: &Planned) -> usize {
    let parts = planned.declarations.specs.iter().flat_map(|spec| &spec.parts);
    // Of one whose rows go to several matrices the first counts.
    parts.filter(|part| part.first_taken().unwrap_or(0) == 0).count()
}

#[test]
fn parameters_and_flops_are_those_of_the_published_networks() {
    let mut wrong = vec![];
    for &(path, wanted, wanted_tensors, flops) in NETWORKS {
        let networks = planned(path, 64);
        let parameters: u64 = networks.iter().map(|p| p.declarations.parameters()).sum();
        let count: usize = networks.iter().map(tensors).sum();
        if (parameters, count) != (wanted, wanted_tensors) {
            wrong.push(format!(
                "{path}: {parameters} parameters in {count} tensors, wanted {wanted} in {wanted_tensors}"
            ));
        }
        for &(name, side, giga) in flops {
            let networks = planned(path, side);
            let s = super::costs(&networks.iter().find(|p| p.name == name).expect(name).plan);
            // torch's count is rounded to a tenth, and does not see a text encoder's attention, which is 1.4 % of it.
            let limit = if name == "text_encoder" { 0.02 } else { 0.05 / giga + 1e-4 };
            let error = (s.model_flops as f64 / 1e9 / giga - 1.0).abs();
            if error > limit {
                wrong.push(format!("{path}, {name} at {side}: {} FLOPs, torch {giga} G", s.model_flops));
            }
            // Padding to fours costs little at such widths.
            if !(s.model_flops..=s.model_flops / 100 * 102).contains(&s.executed_flops) {
                wrong.push(format!("{path}, {name} at {side}: {s:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bytes of a network's weights on the device, where the rows of tokens are not.
fn weights(path: &str, name: &str, format: Format) -> usize {
    let folder = DiskFolder::new(here(CONFIGS).join(path));
    let all = block_on(plans(&folder, format, &Target::new(Elem::F16), [64; 2])).unwrap();
    let planned = all.networks.iter().find(|p| p.name == name).expect(name);
    let on_device = planned.declarations.specs.iter().filter(|s| !matches!(s.layout, Layout::Table { .. }));
    on_device.map(|spec| spec.layout.bytes()).sum()
}

#[test]
fn quantised_weights_of_sd_turbo_fit_their_budgets() {
    let [q8, q4] = [Format::Q8, Format::Q4].map(|format| weights("sd-turbo/unet", "unet", format));
    assert!(q8 <= 930_000_000 && q4 <= 560_000_000, "{q8} and {q4} bytes");
    let text = weights("sd-turbo/text_encoder", "text_encoder", Format::Q4);
    let decoder = weights("sd-turbo/vae", "decoder", Format::F16);
    assert!(q4 + text + decoder <= 820_000_000, "{q4} + {text} + {decoder} bytes");
}

#[test]
fn no_configuration_is_forgotten() {
    let mut found = vec![];
    for model in fs::read_dir(here(CONFIGS)).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        for component in fs::read_dir(&model).unwrap().map(|e| e.unwrap().path()) {
            let name = |p: &Path| p.file_name().unwrap().to_str().unwrap().to_owned();
            found.push(format!("{}/{}", name(&model), name(&component)));
        }
    }
    found.sort();
    assert_eq!(found, NETWORKS.iter().map(|n| n.0).collect::<Vec<_>>());
}

/// It has no configuration: its tensors follow from the U-Net's attentions.
#[test]
fn the_parameters_of_an_ip_adapter() {
    let json = fs::read(here(CONFIGS).join("sd15/unet/config.json")).unwrap();
    let config = UnetConfig::from_json(&json, "config.json").unwrap();
    let unet = Unet::declare(&mut Declarations::new(Format::F16), &config);
    let mut d = Declarations::new(Format::F16);
    let encoder = fs::read(here(CONFIGS).join("ip-adapter-sd15/image_encoder/config.json")).unwrap();
    let encoder = ClipVisionConfig::from_json(&encoder, "config.json").unwrap();
    let width = config.cross_attention_dim as u32;
    IpAdapter::declare(&mut d, &unet, width, IpAdapterConfig::Plain, &encoder);
    assert_eq!(d.parameters(), 22_319_616);
}

/// A line for each network, so that a change of what it costs shows in review.
#[test]
fn golden_costs() {
    let mut text = String::new();
    for &(path, _, _, flops) in NETWORKS {
        let side = flops.iter().map(|f| f.1).max().unwrap_or(512);
        let networks = planned(path, side);
        for Planned { name, plan, .. } in &networks {
            let s = super::costs(plan);
            let name = if networks.len() == 1 { path.to_owned() } else { format!("{path}/{name}") };
            text += &format!(
                "{name:<32} {side:>4} px, {:>4} dispatches, {:>7.1} GFLOP, weights {:>7.2} MB, peak {:>6.2} MB, moved \
                 {:>8.2} MB\n",
                s.dispatches,
                s.executed_flops as f64 / 1e9,
                s.weight_bytes as f64 / 1e6,
                s.peak_bytes as f64 / 1e6,
                s.bytes_moved as f64 / 1e6
            );
        }
    }
    let wrong = accept("published.txt", &text);
    assert!(wrong.is_none(), "costs changed (BLESS=1 accepts them):\n{}", wrong.unwrap());
}

fn names(networks: &[Planned]) -> Vec<(&str, &str)> {
    networks.iter().map(|p| (p.component, p.name)).collect()
}

#[test]
fn a_folder_has_whatever_it_has() {
    let whole = planned("sdxl-turbo", 512);
    let wanted = [
        ("text_encoder", "text_encoder"),
        ("text_encoder_2", "text_encoder_2"),
        ("unet", "unet"),
        ("vae", "decoder"),
        ("vae", "encoder"),
    ];
    assert_eq!(names(&whole), wanted);
    // A part alone costs what it costs in the model, but SDXL does not run the last layer of its first text encoder.
    for (i, part) in ["sdxl-turbo/text_encoder", "sdxl-turbo/unet"].into_iter().enumerate() {
        let [alone, within] = [&planned(part, 512)[0], &whole[2 * i]].map(|p| super::costs(&p.plan));
        assert_eq!(alone.model_flops > within.model_flops, i == 0, "{part}");
        assert!(alone.model_flops >= within.model_flops, "{part}");
    }
    assert_eq!(names(&planned("sd15", 512)).last(), Some(&("safety_checker", "safety_checker")));
    assert_eq!(names(&planned("t2i-adapter-sdxl", 512)), [("adapter", "adapter")]);
}

fn memory(files: &[(&str, &'static str)]) -> MemoryFolder {
    let mut folder = MemoryFolder::new();
    for (path, text) in files {
        folder.insert(*path, text.as_bytes());
    }
    folder
}

#[test]
fn what_is_not_built_is_named() {
    const T5: &str = r#"{"architectures": ["UMT5EncoderModel"], "model_type": "umt5"}"#;
    let of = |folder: &MemoryFolder| block_on(plans(folder, Format::F16, &Target::new(Elem::F16), [64; 2]));
    let folder = memory(&[("text_encoder/config.json", T5), ("unet/config.json", "{}")]);
    let all = of(&folder).unwrap();
    assert_eq!(names(&all.networks), [("unet", "unet")]);
    assert_eq!(all.left_out, ["text_encoder/config.json: the class is UMT5EncoderModel, which is not built"]);
    // One that is built, in a form that is not, is an error: a plan without it would mislead.
    let folder = memory(&[("unet/config.json", r#"{"act_fn": "mish"}"#), ("vae/config.json", "{}")]);
    assert_eq!(of(&folder).err().unwrap().code, Code::Unsupported);
    let error = of(&memory(&[("config.json", T5)])).err().unwrap();
    assert_eq!(error.code, Code::Unsupported);
    assert!(error.message.contains("config.json: the class is UMT5EncoderModel, supported are"), "{error}");
    let error = of(&memory(&[("config.json", "{}")])).err().unwrap();
    assert_eq!(error.code, Code::InvalidModel);
    assert!(error.message.contains("there is no _class_name"), "{error}");
    assert_eq!(of(&memory(&[])).err().unwrap().code, Code::NotFound);
}

#[test]
fn a_network_by_its_file() {
    let folder = DiskFolder::new(here(CONFIGS).join("taesd/vae"));
    let all = block_on(network_plans(&folder, "config.json", Format::Q8, &Target::new(Elem::F32), [64; 2]));
    assert_eq!(names(&all.unwrap().networks), [("vae", "decoder"), ("vae", "encoder")]);
}

/// `tintype bench` carries some of these files with it.
#[test]
fn bench_measures_published_shapes() {
    let value = |path: &str| -> Value { serde_json::from_slice(&fs::read(here(path)).unwrap()).unwrap() };
    let load = LoadOptions::parse("f16", "f32").unwrap();
    let setting = Setting { name: String::new(), device: Device::Cpu, load };
    for (name, model, components) in [
        ("sd-turbo", "sd-turbo", &["text_encoder", "unet", "vae"][..]),
        ("sd15", "sd15", &["text_encoder", "unet", "vae"]),
        ("sdxl", "sdxl-turbo", &["text_encoder_2", "unet"]),
        ("taesd", "taesd", &["vae"]),
    ] {
        assert!(bench::MODELS.contains(&name));
        let all = block_on(bench::plans(name, &setting, [64; 2])).unwrap().expect(name);
        let mut found: Vec<&str> = all.networks.iter().map(|p| p.component).collect();
        found.dedup();
        assert_eq!(found, components);
        for component in components {
            let file = format!("{component}/config.json");
            let [ours, published] =
                [format!("src/bench/models/{name}/{file}"), format!("{CONFIGS}/{model}/{file}")];
            assert_eq!(value(&ours), value(&published), "{name}/{component}");
        }
    }
}
