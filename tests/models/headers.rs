//! What the header of a single file tells, at full width: its configurations, what it predicts, and what it is not.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use pollster::block_on;
use serde_json::{Map, Value, json};
use tintype::model::clip::ClipTextModel;
use tintype::model::config::{ClipTextConfig, UnetConfig, VaeConfig};
use tintype::model::unet::Unet;
use tintype::pipeline::{ModelFiles, Network};
use tintype::quant::Format;
use tintype::weights::{Declarations, DiskFolder, Folder};

use super::folder::{Temp, here};
use super::single::{Pairs, unet_blocks, unet_name, vae_name};
use super::tensors::Tensor;
use crate::cli::{failure, text, tintype};

/// Names and shapes.
pub type List = Vec<(String, Vec<usize>)>;

pub fn published(path: &str) -> Vec<u8> {
    std::fs::read(here("tests/plans/configs").join(path).join("config.json")).unwrap()
}

fn declared(declare: impl Fn(&mut Declarations)) -> List {
    let mut d = Declarations::new(Format::F32);
    declare(&mut d);
    let parts = d.specs.iter().flat_map(|spec| &spec.parts);
    parts.map(|part| (part.names[0].clone(), part.shape.clone())).collect()
}

pub fn unet_list(config: &UnetConfig) -> List {
    let list = declared(|d| drop(Unet::declare(d, config)));
    let square = |(name, mut shape): (String, Vec<usize>)| {
        // What is a convolution of one pixel in the original code shows in its shape.
        let projects = name.ends_with("proj_in.weight") || name.ends_with("proj_out.weight");
        if projects && shape.len() == 2 && !config.use_linear_projection {
            shape.extend([1, 1]);
        }
        (name, shape)
    };
    list.into_iter().map(square).collect()
}

pub fn text_list(config: &ClipTextConfig) -> List {
    declared(|d| drop(ClipTextModel::declare(d, config)))
}

pub fn vae_list(config: &VaeConfig) -> List {
    let mut all = declared(|d| drop(Network::decoder(d, config)));
    all.extend(declared(|d| drop(Network::encoder(d, config))));
    all
}

/// One tensor of zeros for each, of which only the shape counts.
pub fn empty(list: List) -> Vec<Tensor> {
    let tensor = |(name, shape)| Tensor { name, dtype: "F16".to_owned(), shape, bytes: vec![] };
    list.into_iter().map(tensor).collect()
}

/// A file of full width, with a hole where its data would be.
pub fn sparse(path: &Path, tensors: &[Tensor], metadata: &[(&str, &str)], steps: u64) {
    let mut header = Map::new();
    let strings: Map<String, Value> = metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    header.insert("__metadata__".to_owned(), Value::Object(strings));
    header.insert("global_step".to_owned(), json!({"dtype": "I64", "shape": [], "data_offsets": [0, 8]}));
    let mut end = 8;
    for t in tensors {
        let begin = end;
        end += 2 * t.shape.iter().product::<usize>() as u64;
        header.insert(
            t.name.clone(),
            json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, end]}),
        );
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&steps.to_le_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

fn prefixed(prefix: &str, list: List) -> List {
    list.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect()
}

/// A published U-Net under its original names.
pub fn original_unet(config: &UnetConfig) -> List {
    let blocks = unet_blocks(config);
    let name = |(name, shape): (String, Vec<usize>)| (unet_name(&blocks, &name), shape);
    prefixed("model.diffusion_model.", unet_list(config).into_iter().map(name).collect())
}

fn original_vae() -> List {
    let config = VaeConfig::from_json(&published("sd15/vae"), "vae").unwrap();
    let name = |(name, shape): (String, Vec<usize>)| {
        let name = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")]
            .iter()
            .fold(name, |name, (new, old)| name.replace(new, old));
        (vae_name(4, &name), shape)
    };
    prefixed("first_stage_model.", vae_list(&config).into_iter().map(name).collect())
}

/// OpenCLIP's encoder of a width.
fn original_open_clip(prefix: &str, width: usize, layers: usize) -> List {
    let mut all = vec![
        ("positional_embedding".to_owned(), vec![77, width]),
        ("token_embedding.weight".to_owned(), vec![49408, width]),
        ("text_projection".to_owned(), vec![width, width]),
        ("ln_final.weight".to_owned(), vec![width]),
    ];
    for i in 0..layers {
        let block = |name: &str| format!("transformer.resblocks.{i}.{name}.weight");
        all.extend([
            (block("mlp.c_fc"), vec![4 * width, width]),
            (block("mlp.c_proj"), vec![width, 4 * width]),
        ]);
        all.push((format!("transformer.resblocks.{i}.attn.in_proj_weight"), vec![3 * width, width]));
    }
    prefixed(prefix, all)
}

fn original_clip(prefix: &str) -> List {
    prefixed(prefix, text_list(&ClipTextConfig::from_json(&published("sd15/text_encoder"), "text").unwrap()))
}

/// A model's file, without its U-Net.
pub fn others(family: &str) -> List {
    let mut all = original_vae();
    match family {
        "SD 1.x" => all.extend(original_clip("cond_stage_model.transformer.")),
        "SD 2.x" => all.extend(original_open_clip("cond_stage_model.model.", 1024, 24)),
        _ => {
            all.extend(original_clip("conditioner.embedders.0.transformer."));
            all.extend(original_open_clip("conditioner.embedders.1.model.", 1280, 32));
        }
    }
    all
}

/// The small files that a header stands for.
fn derived(path: &Path) -> (ModelFiles<DiskFolder>, impl Fn(&ModelFiles<DiskFolder>, &str) -> Vec<u8>) {
    let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
    let files = block_on(ModelFiles::single(DiskFolder::new(folder), name, vec![], None)).unwrap();
    (files, |files, path| block_on(files.read(path)).unwrap().unwrap())
}

#[test]
pub fn published_models_have_their_configurations_back() {
    let temp = Temp::new();
    for (model, family, texts) in [
        ("sd15", "SD 1.x", vec!["sd15/text_encoder"]),
        ("sd15-inpainting", "SD 1.x", vec!["sd15/text_encoder"]),
        ("bk-sdm-base", "SD 1.x", vec!["sd15/text_encoder"]),
        ("bk-sdm-small", "SD 1.x", vec![]),
        ("bk-sdm-tiny", "SD 1.x", vec![]),
        ("sd21-base", "SD 2.x", vec!["sd-turbo/text_encoder"]),
        ("bk-sdm-v2-base", "SD 2.x", vec![]),
        ("bk-sdm-v2-small", "SD 2.x", vec![]),
        ("bk-sdm-v2-tiny", "SD 2.x", vec![]),
        ("sdxl-turbo", "SDXL", vec!["sdxl-turbo/text_encoder", "sdxl-turbo/text_encoder_2"]),
    ] {
        let wanted = UnetConfig::from_json(&published(&format!("{model}/unet")), model).unwrap();
        let path = temp.path("x.safetensors");
        let tensors = empty([original_unet(&wanted), others(family)].concat());
        sparse(&path, &tensors, &[("modelspec.resolution", "512x512")], 0);
        let (files, read) = derived(&path);
        assert_eq!(files.described().unwrap().family.as_str(), family, "{model}");
        let found = UnetConfig::from_json(&read(&files, "unet/config.json"), "unet/config.json").unwrap();
        assert_eq!(found.sample_size, Some(64));
        assert_eq!(UnetConfig { sample_size: wanted.sample_size, ..found }, wanted, "{model}");
        for text in texts {
            let component = text.split('/').next_back().unwrap();
            let found = read(&files, &format!("{component}/config.json"));
            let [found, wanted] =
                [found, published(text)].map(|json| ClipTextConfig::from_json(&json, text).unwrap());
            assert_eq!(found, wanted, "{text}");
        }
        let vae = if family == "SDXL" { "sdxl-turbo/vae" } else { "sd15/vae" };
        let [found, wanted] = [read(&files, "vae/config.json"), published(vae)]
            .map(|json| VaeConfig::from_json(&json, vae).unwrap());
        assert_eq!(found, wanted, "{model}");
    }
}

/// What `tintype plan` says of a file: the model, and its warnings.
fn planned(path: &Path) -> (Value, Value) {
    let output = tintype(&["plan", "--json", "--model", path.to_str().unwrap()]).output().unwrap();
    let mut json: Value =
        serde_json::from_str(&text(&output.stdout)).unwrap_or_else(|_| panic!("{output:?}"));
    let warnings = json["model"]["warnings"].take();
    (json["model"].take(), warnings)
}

#[test]
fn a_plan_tells_what_a_file_predicts() {
    let temp = Temp::new();
    let path = temp.path("x.safetensors");
    let unet = |model: &str| {
        original_unet(&UnetConfig::from_json(&published(&format!("{model}/unet")), model).unwrap())
    };
    let two = empty([unet("sd21-base"), others("SD 2.x")].concat());
    let xl = empty([unet("sdxl-turbo"), others("SDXL")].concat());
    let marked = |names: &[&str]| {
        let marks = names.iter().map(|name| ((*name).to_owned(), vec![0]));
        [xl.clone(), empty(marks.collect())].concat()
    };
    let (v, epsilon) = ("v_prediction", "epsilon");
    type Case<'a> = (Vec<Tensor>, &'a [(&'a str, &'a str)], u64, &'a str, bool, &'a str);
    let cases: [Case<'_>; 11] = [
        (two.clone(), &[], 0, v, false, "a guess"),
        (two.clone(), &[], 875_000, epsilon, false, ""),
        (two.clone(), &[("modelspec.prediction_type", "epsilon")], 0, epsilon, false, ""),
        (two.clone(), &[("modelspec.prediction_type", "v")], 875_000, v, false, ""),
        (two.clone(), &[("modelspec.architecture", "stable-diffusion-v2-768-v")], 0, v, false, ""),
        (two, &[("modelspec.architecture", "stable-diffusion-v2-512")], 0, epsilon, false, ""),
        (xl.clone(), &[], 0, epsilon, false, ""),
        (xl.clone(), &[("modelspec.prediction_type", "v_prediction")], 0, v, false, ""),
        (marked(&["v_pred"]), &[], 0, v, false, ""),
        (
            marked(&["v_pred", "ztsnr"]),
            &[("modelspec.prediction_type", "epsilon")],
            0,
            v,
            true,
            "the tensor v_pred",
        ),
        (marked(&["ztsnr"]), &[], 0, epsilon, false, "zero terminal SNR"),
    ];
    for (tensors, metadata, steps, prediction, zero_snr, warning) in cases {
        sparse(&path, &tensors, metadata, steps);
        let (model, warnings) = planned(&path);
        assert_eq!(
            [&model["prediction"], &model["zero_terminal_snr"]],
            [&json!(prediction), &json!(zero_snr)]
        );
        assert_eq!(warnings.as_array().unwrap().len(), usize::from(!warning.is_empty()), "{warnings}");
        assert!(warnings.to_string().contains(warning), "{warnings}");
        assert_eq!(model["missing"], json!([]));
        let (files, read) = derived(&path);
        let scheduler: Value =
            serde_json::from_slice(&read(&files, "scheduler/scheduler_config.json")).unwrap();
        assert_eq!(scheduler["prediction_type"], json!(prediction));
        assert_eq!(scheduler["rescale_betas_zero_snr"] == json!(true), zero_snr);
    }
}

#[test]
fn files_are_told_apart_by_their_headers() {
    let temp = Temp::new();
    let path = temp.path("x.safetensors");
    let named = path.to_str().unwrap();
    let unet = |model: &str| {
        original_unet(&UnetConfig::from_json(&published(&format!("{model}/unet")), model).unwrap())
    };
    let tells = |tensors: List, family: &str, pruned: Option<&str>, inpainting: bool| {
        sparse(&path, &empty(tensors), &[], 0);
        let (model, _) = planned(&path);
        let found = [&model["family"], &model["pruned"], &model["inpainting"]];
        assert_eq!(found, [&json!(family), &json!(pruned), &json!(inpainting)]);
        model
    };
    tells([unet("sd15"), others("SD 1.x")].concat(), "SD 1.x", None, false);
    tells([unet("sd15-inpainting"), others("SD 1.x")].concat(), "SD 1.x", None, true);
    tells([unet("bk-sdm-small"), others("SD 1.x")].concat(), "SD 1.x", Some("BK-SDM small"), false);
    let alone = tells(unet("sdxl-turbo"), "SDXL", None, false);
    assert_eq!(alone["missing"], json!(["vae", "text_encoder", "text_encoder_2"]));

    // Averages, under names without dots.
    let averages = unet("sd15").into_iter().map(|(name, shape)| {
        (
            format!("model_ema.diffusion_model{}", name["model.diffusion_model.".len()..].replace('.', "")),
            shape,
        )
    });
    sparse(&path, &empty([averages.collect(), others("SD 1.x")].concat()), &[], 0);
    let (model, warnings) = planned(&path);
    assert_eq!(model["family"], json!("SD 1.x"));
    assert!(warnings.to_string().contains("only averages of the U-Net's weights"), "{warnings}");

    // The numbers of the whole, where a pruned model keeps them.
    let config = UnetConfig::from_json(&published("bk-sdm-tiny/unet"), "unet").unwrap();
    let spaced: Pairs = unet_blocks(&UnetConfig { layers_per_block: 2, ..config.clone() });
    let spaced = unet_list(&config).into_iter().map(|(name, shape)| (unet_name(&spaced, &name), shape));
    let spaced = prefixed("model.diffusion_model.", spaced.collect());
    let model = tells([spaced, others("SD 1.x")].concat(), "SD 1.x", Some("BK-SDM tiny"), false);
    assert_eq!(model["present"], json!(["unet", "vae", "text_encoder"]));
    let (files, read) = derived(&path);
    let found = UnetConfig::from_json(&read(&files, "unet/config.json"), "unet/config.json").unwrap();
    assert_eq!(UnetConfig { sample_size: config.sample_size, ..found }, config);
    let told = text(&tintype(&["inspect", named]).output().unwrap().stdout);
    assert!(told.contains("missing: none\nunused: 0\n"), "{told}");

    for (tensors, words) in [
        (
            others("SDXL").into_iter().map(|(n, s)| (n.replace("embedders.1", "embedders.0"), s)).collect(),
            "refiner",
        ),
        ([unet("sd15"), vec![("edm_mean".to_owned(), vec![4])]].concat(), "Playground"),
        (vec![("model.diffusion_model.double_blocks.0.img_attn.qkv.weight".to_owned(), vec![4, 4])], "FLUX"),
        (vec![("lora_unet_mid_block.lora_up.weight".to_owned(), vec![4, 4])], "found a LoRA"),
        (original_vae(), "found an autoencoder alone"),
    ] as [(List, &str); 5]
    {
        sparse(&path, &empty(tensors), &[], 0);
        for command in ["plan", "generate"] {
            let args = ["plan", "--model", named];
            let generate = ["generate", "a cat", "--device", "cpu", "--model", named];
            let said = failure(if command == "plan" { &args } else { &generate });
            assert!(said.contains(words) && said.contains("x.safetensors"), "{said}");
        }
    }
    let wide = unet("sd15-inpainting").into_iter().map(|(name, mut shape)| {
        if name.ends_with("input_blocks.0.0.weight") {
            shape[1] = 8;
        }
        (name, shape)
    });
    sparse(&path, &empty(wide.collect()), &[], 0);
    assert!(failure(&["plan", "--model", named]).contains("InstructPix2Pix"));
    sparse(&path, &empty([unet("sd15"), original_clip("cond_stage_model.transformer.")].concat()), &[], 0);
    let said = failure(&["generate", "a cat", "--device", "cpu", "--model", named]);
    assert!(said.contains("x.safetensors has no vae") && said.contains("named by --vae DIR"), "{said}");
}
