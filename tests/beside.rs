//! Networks beside a U-Net that are one file: under the names of the original code, written here as its constructors
//! count, or under diffusers' own, they draw what their folders draw.

use std::fs;
use std::path::Path;

use pollster::block_on;
use serde_json::Value;
use tintype::device::Device;
use tintype::error::{Code, Result};
use tintype::host::Cancel;
use tintype::image::Picture;
use tintype::model::config::{ControlNetConfig, T2iAdapterConfig, UnetConfig};
use tintype::model::controlnet::ControlNet;
use tintype::model::t2i_adapter::T2iAdapter;
use tintype::pipeline::{Additions, ControlInput, FileIn, LoadOptions, Pipeline, Request, Watch};
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{Declarations, DiskFolder, Hooks};

use crate::cli::failure;
use crate::harness::Bench;
use crate::models::folder::{Temp, golden};
use crate::models::single::{tensors, unet_blocks, unet_name};
use crate::models::tensors::{Tensor, Tensors};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const FILE: &str = "net.safetensors";

#[derive(Clone, Copy)]
enum Kind {
    Control,
    T2i,
    Ip,
}

/// The image that a model draws with this network, which sees an image.
fn drawn(kind: Kind, model: &str, file: FileIn<'_>) -> Result<Vec<u8>> {
    let rgb: Vec<u8> = (0..64 * 64 * 3).map(|i| (i * 37 % 251) as u8).collect();
    let picture = Picture::new(64, 64, 3, &rgb)?;
    let mut additions = Additions::default();
    let mut request = Request { steps: Some(1), size: Some([64, 64]), ..Request::new("a red fox", 7) };
    match kind {
        Kind::Control => {
            additions.controls.push(file);
            request.controls.push(ControlInput { picture, scale: 1.0, start: 0.0, end: 1.0 });
        }
        Kind::T2i => {
            additions.adapters.push(file);
            request.adapters.push((picture, 1.0));
        }
        Kind::Ip => {
            additions.ip_adapter = Some(file);
            request.image_prompt = Some((picture, 1.0));
        }
    }
    let folder = DiskFolder::new(golden(model));
    let options = LoadOptions::parse("f32", "f32")?;
    let pipeline = block_on(Pipeline::load_with(&Device::Cpu, &folder, &additions, &options, Hooks::NONE))?;
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
    Ok(block_on(pipeline.generate(&request, &watch))?.images.remove(0).rgba)
}

fn drawn_of_folder(kind: Kind, model: &str, folder: &Path) -> Vec<u8> {
    drawn(kind, model, FileIn::whole(&DiskFolder::new(folder))).unwrap()
}

fn drawn_of_file(kind: Kind, model: &str, tensors: Vec<Tensor>) -> Result<Vec<u8>> {
    let temp = Temp::new();
    temp.write(FILE, Tensors(tensors).bytes());
    drawn(kind, model, FileIn { folder: &DiskFolder::new(&temp.0), path: FILE })
}

/// Refused with this code and these words, and the name of the file.
fn refused(kind: Kind, model: &str, tensors: Vec<Tensor>, code: Code, words: &[&str]) {
    let e = drawn_of_file(kind, model, tensors).unwrap_err();
    assert_eq!(e.code, code, "{e}");
    assert!(words.iter().chain(&[FILE]).all(|word| e.message.contains(word)), "{words:?}: {e}");
}

fn renamed(tensors: &[Tensor], name: impl Fn(&str) -> String) -> Vec<Tensor> {
    tensors.iter().map(|t| Tensor { name: name(&t.name), ..t.clone() }).collect()
}

/// The original ControlNet numbers the image's convolutions with the activations between them.
fn control_name(config: &ControlNetConfig, name: &str) -> String {
    let last = 4 * config.conditioning_embedding_out_channels.len() - 2;
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["controlnet_cond_embedding", "conv_in", end] => format!("input_hint_block.0.{end}"),
        ["controlnet_cond_embedding", "blocks", i, end] => {
            format!("input_hint_block.{}.{end}", 2 * (i.parse::<usize>().unwrap() + 1))
        }
        ["controlnet_cond_embedding", "conv_out", end] => format!("input_hint_block.{last}.{end}"),
        ["controlnet_down_blocks", i, end] => format!("zero_convs.{i}.0.{end}"),
        ["controlnet_mid_block", end] => format!("middle_block_out.0.{end}"),
        ["add_embedding", "linear_1", end] => format!("label_emb.0.0.{end}"),
        ["add_embedding", "linear_2", end] => format!("label_emb.0.2.{end}"),
        _ => unet_name(&unet_blocks(&config.encoder), name),
    }
}

fn control_config(folder: &Path) -> ControlNetConfig {
    ControlNetConfig::from_json(&fs::read(folder.join("config.json")).unwrap(), "config.json").unwrap()
}

/// A folder with a network that is declared here, whose weights are random.
fn made(config: &Value, declare: impl Fn(&mut Declarations)) -> (Temp, Vec<Tensor>) {
    let mut d = Declarations::new(Format::F32);
    declare(&mut d);
    let mut random = Bench::new(Elem::F32, Format::F32).random;
    let tensor = |(name, shape): (&String, &Vec<usize>)| {
        let share = 0.5 / (shape[1..].iter().product::<usize>() as f32).sqrt();
        let values = random.values(shape.iter().product());
        Tensor::f32(name, shape, &values.iter().map(|v| v * share).collect::<Vec<f32>>())
    };
    let parts = d.specs.iter().flat_map(|spec| &spec.parts);
    let all: Vec<Tensor> = parts.map(|part| (&part.names[0], &part.shape)).map(tensor).collect();
    let folder = Temp::new();
    folder.write("config.json", config.to_string());
    folder.write(WEIGHTS, Tensors(all.clone()).bytes());
    (folder, all)
}

/// A ControlNet for sdxl-like, which knows of sizes and has transformers of two blocks.
fn control_xl() -> (Temp, Vec<Tensor>) {
    let json = fs::read(golden("sdxl-like/unet/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&json).unwrap();
    config["_class_name"] = "ControlNetModel".into();
    config["conditioning_embedding_out_channels"] = vec![4, 6, 8, 12].into();
    let read = ControlNetConfig::from_json(config.to_string().as_bytes(), "config.json").unwrap();
    made(&config, |d| drop(ControlNet::declare(d, &read)))
}

#[test]
fn a_controlnet_under_the_original_names_is_its_folder() {
    let folder = golden("extras/controlnet");
    let config = control_config(&folder);
    let ours = tensors(&folder, "");
    let wanted = drawn_of_folder(Kind::Control, "sd15-like", &folder);
    for prefix in ["control_model.", ""] {
        let file = renamed(&ours, |name| format!("{prefix}{}", control_name(&config, name)));
        assert!(drawn_of_file(Kind::Control, "sd15-like", file).unwrap() == wanted, "{prefix:?}");
    }
    assert!(drawn_of_file(Kind::Control, "sd15-like", ours.clone()).unwrap() == wanted, "diffusers' names");
    // What else a checkpoint has is left alone.
    let mut whole = renamed(&ours, |name| format!("control_model.{}", control_name(&config, name)));
    whole.push(Tensor::f32("model.diffusion_model.out.2.bias", &[4], &[9.0; 4]));
    assert!(drawn_of_file(Kind::Control, "sd15-like", whole).unwrap() == wanted);
}

#[test]
fn a_controlnet_for_sdxl_is_its_folder() {
    let (folder, ours) = control_xl();
    let config = control_config(&folder.0);
    let wanted = drawn_of_folder(Kind::Control, "sdxl-like", &folder.0);
    let file = renamed(&ours, |name| control_name(&config, name));
    assert!(file.iter().any(|t| t.name == "label_emb.0.2.bias"));
    assert!(drawn_of_file(Kind::Control, "sdxl-like", file).unwrap() == wanted);
    // That it counts at all.
    let none = ours.iter().map(|t| Tensor::f32(&t.name, &t.shape, &vec![0.0; t.values().len()])).collect();
    assert!(drawn_of_file(Kind::Control, "sdxl-like", none).unwrap() != wanted);
}

#[test]
fn what_is_no_controlnet_for_the_model_is_named() {
    let folder = golden("extras/controlnet");
    let config = control_config(&folder);
    let file =
        renamed(&tensors(&folder, ""), |name| format!("control_model.{}", control_name(&config, name)));
    let refused = |change: &dyn Fn(&mut Vec<Tensor>), code, words: &[&str]| {
        let mut file = file.clone();
        change(&mut file);
        refused(Kind::Control, "sd15-like", file, code, words);
    };
    let one = |name: &str| Tensor::f32(name, &[1], &[1.0]);
    let union = "control_model.task_embedding";
    refused(&|file| file.push(one(union)), Code::Unsupported, &[union, "ControlNet"]);
    refused(&|file| file.push(one("difference")), Code::Unsupported, &["difference"]);
    let lost = "control_model.zero_convs.3.0.weight";
    refused(&|file| file.retain(|t| t.name != lost), Code::InvalidModel, &["lacks 1 of", lost]);
    let wide = "control_model.input_blocks.4.0.in_layers.2.weight";
    let widen = |file: &mut Vec<Tensor>| {
        let t = file.iter_mut().find(|t| t.name == wide).unwrap();
        t.shape = vec![t.shape[0] / 2, t.shape[1] * 2, 3, 3];
    };
    refused(&widen, Code::InvalidModel, &[wide, "[10, 24, 3, 3]"]);
    let keys = |file: &mut Vec<Tensor>| {
        for t in file.iter_mut().filter(|t| t.name.ends_with("attn2.to_k.weight")) {
            t.shape = vec![t.shape[0] * 2, t.shape[1] / 2];
        }
    };
    refused(&keys, Code::InvalidModel, &["cross_attention_dim wanted 28, found 14"]);
    let four = |file: &mut Vec<Tensor>| {
        let t = file.iter_mut().find(|t| t.name.ends_with("input_hint_block.0.weight")).unwrap();
        *t = Tensor::f32(&t.name, &[6, 4, 3, 3], &[0.1; 6 * 36]);
    };
    refused(&four, Code::Unsupported, &["conditioning_channels", "found 4"]);
    let (_, sdxl) = control_xl();
    refused(&|file| *file = sdxl.clone(), Code::InvalidModel, &["is not for this U-Net"]);
    let lora = fs::read(golden("extras/lora/pytorch_lora_weights.safetensors")).unwrap();
    refused(&|file| *file = Tensors::parse(&lora).0, Code::InvalidModel, &["a ControlNet", "lora_unet_"]);
}

/// Its image would be half as large.
#[test]
fn a_controlnet_for_another_autoencoder_is_refused() {
    let json = fs::read(golden("extras/controlnet/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&json).unwrap();
    config["conditioning_embedding_out_channels"] = vec![4, 6, 8].into();
    let read = ControlNetConfig::from_json(config.to_string().as_bytes(), "config.json").unwrap();
    let (folder, ours) = made(&config, |d| drop(ControlNet::declare(d, &read)));
    let words = "pixels for each latent wanted 8, found 4";
    for e in [
        drawn_of_file(Kind::Control, "sd15-like", ours).unwrap_err(),
        drawn(Kind::Control, "sd15-like", FileIn::whole(&DiskFolder::new(&folder.0))).unwrap_err(),
    ] {
        assert!(e.code == Code::InvalidModel && e.message.contains(words), "{e}");
    }
}

/// It pools what it adds, which only its name says.
#[test]
fn the_controlnet_for_shuffled_pictures_is_refused() {
    let temp = Temp::new();
    let path = "control_v11e_sd15_shuffle_fp16.safetensors";
    temp.write(path, Tensors(tensors(&golden("extras/controlnet"), "")).bytes());
    let e =
        drawn(Kind::Control, "sd15-like", FileIn { folder: &DiskFolder::new(&temp.0), path }).unwrap_err();
    assert!(e.code == Code::Unsupported && e.message.contains(path) && e.message.contains("pools"), "{e}");
}

#[test]
fn a_t2i_adapter_under_the_original_names_is_its_folder() {
    let folder = golden("extras/t2i-adapter");
    let ours = tensors(&folder, "");
    let wanted = drawn_of_folder(Kind::T2i, "sd15-like", &folder);
    let name = |name: &str| {
        let parts: Vec<&str> = name.strip_prefix("adapter.").unwrap().split('.').collect();
        match parts[..] {
            ["body", i, "in_conv", end] => format!("body.{}.in_conv.{end}", 2 * i.parse::<usize>().unwrap()),
            ["body", i, "resnets", j, block, end] => {
                let [i, j] = [i, j].map(|n| n.parse::<usize>().unwrap());
                format!("body.{}.{block}.{end}", 2 * i + j)
            }
            _ => parts.join("."),
        }
    };
    let file = renamed(&ours, name);
    assert!(drawn_of_file(Kind::T2i, "sd15-like", file.clone()).unwrap() == wanted);
    assert!(drawn_of_file(Kind::T2i, "sd15-like", ours.clone()).unwrap() == wanted, "diffusers' names");
    let more = [file.clone(), vec![Tensor::f32("body.1.skep.weight", &[1], &[1.0])]].concat();
    refused(Kind::T2i, "sd15-like", more, Code::Unsupported, &["body.1.skep.weight", "T2I-Adapter"]);
    let less = file.iter().filter(|t| t.name != "body.5.block2.bias").cloned().collect();
    refused(Kind::T2i, "sd15-like", less, Code::InvalidModel, &["lacks 1 of", "body.5.block2.bias"]);
    refused(Kind::T2i, "sdxl-like", file, Code::InvalidModel, &["is not for this U-Net"]);
}

#[test]
fn a_light_t2i_adapter_is_its_folder() {
    let config = serde_json::json!({"adapter_type": "light_adapter", "in_channels": 3, "channels": [12, 20, 28],
        "num_res_blocks": 4, "downscale_factor": 8});
    let json = fs::read(golden("sd15-like/unet/config.json")).unwrap();
    let unet = UnetConfig::from_json(&json, "config.json").unwrap();
    assert_eq!(unet.block_out_channels, [12, 20, 20, 28]);
    let config =
        Value::from_iter(config.as_object().unwrap().clone().into_iter().map(|(key, value)| match &*key {
            "channels" => (key, unet.block_out_channels.clone().into()),
            _ => (key, value),
        }));
    let read = T2iAdapterConfig::from_json(config.to_string().as_bytes(), "config.json").unwrap();
    let (folder, ours) = made(&config, |d| drop(T2iAdapter::declare(d, &read)));
    let wanted = drawn_of_folder(Kind::T2i, "sd15-like", &folder.0);
    let file = renamed(&ours, |name| name.replace("adapter.", "").replace("resnets", "body"));
    assert!(drawn_of_file(Kind::T2i, "sd15-like", file).unwrap() == wanted);
}

const IMAGE: &str = "extras/ip-adapter";
const PLUS: &str = "ip-adapter-plus_sd15.safetensors";

/// The tensors of an IP-Adapter of tests/golden, changed, beside its image encoder.
fn adapter(file: &str, change: impl FnOnce(&mut Vec<Tensor>)) -> Temp {
    let temp = Temp::model(IMAGE);
    temp.rename(file, FILE);
    temp.tensors(FILE, |all| change(&mut all.0));
    temp
}

#[test]
fn an_ip_adapter_that_is_not_for_the_model_is_named() {
    let refused = |model: &str, file: &str, change: &dyn Fn(&mut Vec<Tensor>), code, words: &[&str]| {
        let temp = adapter(file, change);
        let e = drawn(Kind::Ip, model, FileIn { folder: &DiskFolder::new(&temp.0), path: FILE }).unwrap_err();
        assert_eq!(e.code, code, "{e}");
        assert!(words.iter().chain(&[FILE]).all(|word| e.message.contains(word)), "{words:?}: {e}");
    };
    let plus = "ip-adapter-plus_sdxl.safetensors";
    let width = ["image_proj.norm_out.weight is for 60", "cross_attention_dim is 28"];
    refused("sd15-like", plus, &|_| {}, Code::InvalidModel, &width);
    let states = |all: &mut Vec<Tensor>| {
        let t = all.iter_mut().find(|t| t.name == "image_proj.proj_in.weight").unwrap();
        t.shape = vec![t.shape[0] / 2, t.shape[1] * 2];
    };
    let encoder = ["image_proj.proj_in.weight is for 40", "image_encoder/config.json: hidden_size is 20"];
    refused("sd15-like", PLUS, &states, Code::InvalidModel, &encoder);
    let one = |all: &mut Vec<Tensor>| all.push(Tensor::f32("ip_adapter.99.to_k_ip.weight", &[1], &[1.0]));
    refused("sd15-like", PLUS, &one, Code::Unsupported, &["ip_adapter.99.to_k_ip.weight", "IP-Adapter"]);
    let lost = "image_proj.layers.2.0.norm2.bias";
    let lose = |all: &mut Vec<Tensor>| all.retain(|t| t.name != lost);
    refused("sd15-like", PLUS, &lose, Code::InvalidModel, &["lacks 1 of", lost]);
    let face = "image_proj.perceiver_resampler.latents";
    let add = |all: &mut Vec<Tensor>| all.push(Tensor::f32(face, &[1, 4, 8], &[1.0; 32]));
    refused("sd15-like", PLUS, &add, Code::Unsupported, &[face, "FaceID"]);
}

/// A folder may have any kind under its one name.
#[test]
fn a_folder_with_a_resampler_is_its_file() {
    let place = DiskFolder::new(golden(IMAGE));
    let wanted = drawn(Kind::Ip, "sd15-like", FileIn { folder: &place, path: PLUS }).unwrap();
    let plain = drawn(Kind::Ip, "sd15-like", FileIn::whole(&place)).unwrap();
    assert!(wanted != plain);
    let temp = Temp::model(IMAGE);
    temp.rename(PLUS, "ip-adapter.safetensors");
    assert!(drawn_of_folder(Kind::Ip, "sd15-like", &temp.0) == wanted);
}

#[test]
fn the_command_takes_files() {
    let [model, image, lora] =
        ["sd15-like", "extras/ip-adapter/ip-adapter.safetensors", "extras/lora"].map(golden);
    let (out, lora) = (Temp::new(), lora.join("pytorch_lora_weights.safetensors"));
    let (png, picture) = (out.path("a.png"), golden("../ref/inputs/cond_40x48.png"));
    let [model, image, lora, png, picture] =
        [&model, &image, &lora, &png, &picture].map(|p| p.to_str().unwrap());
    let generate = |more: &[&str]| {
        failure(&[&["generate", "a fox", "--model", model, "--out", png, "--device", "cpu"], more].concat())
    };
    for (option, of, what) in
        [("--control", "--control-image", "a ControlNet"), ("--t2i-adapter", "--t2i-image", "a T2I-Adapter")]
    {
        let said = generate(&[option, lora, of, picture]);
        assert!(said.contains("pytorch_lora_weights.safetensors: wanted") && said.contains(what), "{said}");
    }
    let said = generate(&["--ip-adapter", lora, "--image-prompt", picture]);
    assert!(said.contains("image_encoder"), "{said}");
    let said = generate(&["--ip-adapter", image, "--image-prompt", picture, "--steps", "0"]);
    assert!(said.contains("steps"), "{said}");
}
