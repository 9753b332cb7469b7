//! What comes with a model, through the whole pipeline: LoRAs whose scales change, single files, learned tokens.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;

use async_trait::async_trait;
use pollster::block_on;
use tintype::device::Device;
use tintype::error::{Code, Error, Result};
use tintype::host::Cancel;
use tintype::pipeline::{Additions, FileIn, LoadOptions, Pipeline, Request, Watch};
use tintype::tokenizer::{Files, Tokenizer};
use tintype::weights::{DiskFolder, Folder, Hooks, MemoryFolder, OpenFile};

use crate::cli::failure;
use crate::harness::on_device;
use crate::models::folder::{Temp, golden};
use crate::models::single::{tensors, whole_file};
use crate::models::tensors::{Tensor, Tensors};

const MODEL: &str = "sd15-like";
const LORA: &str = "pytorch_lora_weights.safetensors";

/// A folder that says what was opened, and may fail.
struct Watched {
    disk: DiskFolder,
    opened: RefCell<Vec<String>>,
    broken: Cell<bool>,
}

impl Watched {
    fn model(name: &str) -> Watched {
        let disk = DiskFolder::new(golden(name));
        Watched { disk, opened: RefCell::default(), broken: Cell::new(false) }
    }
}

#[async_trait(?Send)]
impl Folder for Watched {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        let file = self.disk.open(path).await?;
        if file.is_some() {
            self.opened.borrow_mut().push(path.to_owned());
        }
        match self.broken.get() && path.starts_with("unet/") {
            true => Err(Error::new(Code::Network, "the line is dead")),
            false => Ok(file),
        }
    }

    fn describe(&self) -> String {
        self.disk.describe()
    }
}

fn load(device: &Device, folder: &dyn Folder, additions: &Additions<'_>) -> Result<Pipeline> {
    let options = LoadOptions::parse("f32", "f32")?;
    block_on(Pipeline::load_with(device, folder, additions, &options, Hooks::NONE))
}

fn picture(pipeline: &Pipeline, prompt: &str) -> Result<Vec<u8>> {
    let request = Request { steps: Some(2), size: Some([64, 64]), ..Request::new(prompt, 7) };
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
    Ok(block_on(pipeline.generate(&request, &watch))?.images.remove(0).rgba)
}

/// The file of tests/golden, which is for the U-Net, with a pair for the text encoder too.
fn lora() -> MemoryFolder {
    let mut file = Tensors::parse(&fs::read(golden("extras/lora").join(LORA)).unwrap());
    let path = "text_model.encoder.layers.0.self_attn.q_proj";
    let width = tensors(&golden(MODEL), "text_encoder")
        .iter()
        .find(|t| t.name == format!("{path}.weight"))
        .map_or(0, |t| t.shape[0]);
    let ramp: Vec<f32> = (0..width).map(|i| i as f32 / width as f32).collect();
    for (end, shape) in [("down", [1, width]), ("up", [width, 1])] {
        let name = format!("lora_te_{}.lora_{end}.weight", path.replace('.', "_"));
        file.0.push(Tensor::f32(&name, &shape[..], &ramp));
    }
    let mut folder = MemoryFolder::new();
    folder.insert(LORA, file.bytes());
    folder
}

#[test]
fn scales_of_loras_change_in_a_loaded_pipeline() {
    on_device(|device| {
        let (model, lora) = (Watched::model(MODEL), lora());
        let with = |scales: &[f32]| {
            let file = FileIn { folder: &lora, path: LORA };
            Additions { loras: scales.iter().map(|s| (file, *s)).collect(), ..Additions::default() }
        };
        let fresh =
            |scales: &[f32]| picture(&load(device, &model, &with(scales)).unwrap(), "a red fox").unwrap();
        let (plain, strong) = (fresh(&[]), fresh(&[1.0, -0.25]));
        assert!(plain != strong);

        let pipeline = load(device, &model, &with(&[0.5, 0.5])).unwrap();
        assert!(picture(&pipeline, "a red fox").unwrap() != strong);
        let set = |scales: &[f32]| {
            model.opened.borrow_mut().clear();
            block_on(pipeline.set_lora_scales(&model, &with(&[0.5, 0.5]), scales, Hooks::NONE))
        };
        set(&[1.0, -0.25]).unwrap();
        // Only the networks that it is for, once each.
        let mut opened = model.opened.borrow().clone();
        opened.sort();
        let weights =
            ["text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"];
        assert_eq!(opened, weights);
        assert!(picture(&pipeline, "a red fox").unwrap() == strong);
        // What is merged already is not read again.
        set(&[1.0, -0.25]).unwrap();
        assert!(model.opened.borrow().is_empty());

        // Half of a change is no state to draw in; the way out is the same call again.
        model.broken.set(true);
        assert_eq!(set(&[0.0, 0.0]).unwrap_err().code, Code::Network);
        let e = picture(&pipeline, "a red fox").unwrap_err();
        assert!(e.code == Code::InvalidOption && e.message.contains("half changed"), "{e}");
        model.broken.set(false);
        set(&[0.0, 0.0]).unwrap();
        assert!(picture(&pipeline, "a red fox").unwrap() == plain);

        for (scales, words) in [(&[1.0][..], "wanted 2"), (&[1.0, f32::NAN], "NaN")] {
            let e = set(scales).unwrap_err();
            assert!(e.code == Code::InvalidOption && e.message.contains(words), "{e}");
        }
        // A refusal changes nothing.
        assert!(picture(&pipeline, "a red fox").unwrap() == plain);
    });
}

/// Whatever a LoRA changes: weights, biases, norms, what stays on the CPU, and weights that DoRA makes as long as a
/// vector says.
#[test]
fn scales_change_for_every_kind() {
    const XL: &str = "sdxl-like";
    let find = |component: &str, name: &str| {
        let all = tensors(&golden(XL), component);
        let found = all.iter().find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("{component} has no {name}")).clone()
    };
    let ramp = |name: &str, shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        Tensor::f32(name, shape, &(0..count).map(|i| (i % 17) as f32 / 40.0 - 0.15).collect::<Vec<_>>())
    };
    let block = "down_blocks.1.attentions.0.transformer_blocks.0";
    let mut all = vec![];
    for (module, end, component, name) in [
        (
            "lora_te1_text_model_embeddings_token_embedding",
            "diff",
            "text_encoder",
            "text_model.embeddings.token_embedding.weight",
        ),
        (
            "lora_te1_text_model_encoder_layers_0_layer_norm1",
            "w_norm",
            "text_encoder",
            "text_model.encoder.layers.0.layer_norm1.weight",
        ),
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
            "diff_b",
            "text_encoder",
            "text_model.encoder.layers.0.mlp.fc1.bias",
        ),
        ("lora_te2_text_projection", "diff", "text_encoder_2", "text_projection.weight"),
        ("lora_unet_conv_norm_out", "b_norm", "unet", "conv_norm_out.bias"),
    ] {
        all.push(ramp(&format!("{module}.{end}"), &find(component, name).shape));
    }
    for (layer, axis) in [("attn1.to_q", 0), ("ff.net.2", 1)] {
        let shape = find("unet", &format!("{block}.{layer}.weight")).shape;
        let path = format!("lora_unet_{block}.{layer}").replace('.', "_");
        all.push(ramp(&format!("{path}.lora_down.weight"), &[2, shape[1]]));
        all.push(ramp(&format!("{path}.lora_up.weight"), &[shape[0], 2]));
        let lengths = (0..shape[axis]).map(|i| 0.5 + (i % 5) as f32).collect::<Vec<_>>();
        let scale = if axis == 0 { [shape[0], 1] } else { [1, shape[1]] };
        all.push(Tensor::f32(&format!("{path}.dora_scale"), &scale, &lengths));
    }
    on_device(move |device| {
        // Each alone, so that none hides another.
        for part in 0..6 {
            let mut file = MemoryFolder::new();
            let chosen = if part < 5 { all[part..part + 1].to_vec() } else { all[5..].to_vec() };
            let name = chosen[0].name.clone();
            file.insert(LORA, Tensors(chosen).bytes());
            let (model, lora) = (Watched::model(XL), file);
            let with = |scale: f32| Additions {
                loras: vec![(FileIn { folder: &lora, path: LORA }, scale)],
                ..Additions::default()
            };
            let draw = |pipeline: &Pipeline| picture(pipeline, "a red fox").unwrap();
            let fresh = |scale: f32| draw(&load(device, &model, &with(scale)).unwrap());
            let pipeline = load(device, &model, &with(0.0)).unwrap();
            let plain = draw(&pipeline);
            for scale in [1.5, -0.5] {
                block_on(pipeline.set_lora_scales(&model, &with(0.0), &[scale], Hooks::NONE)).unwrap();
                let changed = draw(&pipeline);
                assert!(changed == fresh(scale) && changed != plain, "{name} at {scale}");
            }
            block_on(pipeline.set_lora_scales(&model, &with(0.0), &[0.0], Hooks::NONE)).unwrap();
            assert!(draw(&pipeline) == plain, "{name}");
        }
    });
}

#[test]
fn a_lora_for_a_network_that_is_not_there() {
    on_device(|device| {
        let mut file = lora();
        let bytes = block_on(file.read(LORA)).unwrap().unwrap();
        let mut two = Tensors::parse(&bytes);
        two.0.iter_mut().for_each(|t| t.name = t.name.replace("lora_te_", "lora_te2_"));
        file.insert(LORA, two.bytes());
        let (model, lora) = (Watched::model(MODEL), file);
        let file = FileIn { folder: &lora, path: LORA };
        let additions = Additions { loras: vec![(file, 1.0)], ..Additions::default() };
        let e = load(device, &model, &additions).err().expect("a refusal");
        assert_eq!(e.code, Code::InvalidModel);
        for word in [LORA, "lora_te2_", "text_encoder_2", "unet, text_encoder"] {
            assert!(e.message.contains(word), "{e}");
        }
        // Before anything large is read.
        assert!(model.opened.borrow().iter().all(|path| !path.ends_with(".safetensors")));
    });
}

/// The model's folder keeps its configurations alone.
#[test]
fn a_single_file_draws_what_its_folder_draws() {
    on_device(|device| {
        let model = Temp::model("sd-turbo-like");
        let folder = DiskFolder::new(&model.0);
        let wanted = picture(&load(device, &folder, &Additions::default()).unwrap(), "a fox").unwrap();
        for component in ["unet", "vae", "text_encoder"] {
            for entry in fs::read_dir(model.path(component)).unwrap() {
                let path = entry.unwrap().path();
                if !path.ends_with("config.json") {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        model.write("all.safetensors", Tensors(whole_file()).bytes());
        let file = FileIn { folder: &folder, path: "all.safetensors" };
        let additions = Additions { single_file: Some(file), ..Additions::default() };
        let found = picture(&load(device, &folder, &additions).unwrap(), "a fox").unwrap();
        assert!(found == wanted);

        let other = golden("extras/lora");
        let other = DiskFolder::new(&other);
        let file = FileIn { folder: &other, path: LORA };
        let additions = Additions { single_file: Some(file), ..Additions::default() };
        let e = load(device, &folder, &additions).err().expect("a refusal");
        assert!(e.code == Code::InvalidModel && e.message.contains("original code"), "{e}");
    });
}

/// A token that has learned what a word means is that word; one of several vectors is several words.
#[test]
fn a_learned_token_means_its_vectors() {
    on_device(|device| {
        let model = golden(MODEL);
        let table = tensors(&model, "text_encoder")
            .into_iter()
            .find(|t| t.name == "text_model.embeddings.token_embedding.weight")
            .unwrap();
        let (width, values) = (table.shape[1], table.values());
        let folder = DiskFolder::new(&model);
        let plain = load(device, &folder, &Additions::default()).unwrap();
        let wanted = picture(&plain, "a red fox, old").unwrap();

        let rows: Vec<f32> =
            ids(&model, "red fox").iter().flat_map(|id| &values[id * width..][..width]).copied().collect();
        let temp = Temp::new();
        let tensor = Tensor::f32("emb_params", &[rows.len() / width, width], &rows);
        temp.write("<reynard>.safetensors", Tensors(vec![tensor]).bytes());
        let learned = DiskFolder::new(&temp.0);
        let file = FileIn { folder: &learned, path: "<reynard>.safetensors" };
        let additions = Additions { embeddings: vec![file], ..Additions::default() };
        let pipeline = load(device, &folder, &additions).unwrap();
        assert!(picture(&pipeline, "a <reynard>, old").unwrap() == wanted);
        assert!(picture(&plain, "a <reynard>, old").unwrap() != wanted);

        let twice = Additions { embeddings: vec![file, file], ..Additions::default() };
        let e = load(device, &folder, &twice).err().expect("a refusal");
        assert!(e.code == Code::InvalidOption && e.message.contains("<reynard>"), "{e}");
    });
}

/// The ids of a text, without start, end and padding.
fn ids(model: &Path, text: &str) -> Vec<usize> {
    let file = |name: &str| fs::read(model.join("tokenizer").join(name)).ok();
    let tokenizer = Tokenizer::from_files(&Files {
        folder: "tokenizer".to_owned(),
        tokenizer_json: file("tokenizer.json"),
        vocab_json: file("vocab.json"),
        merges_txt: file("merges.txt"),
        tokenizer_config: file("tokenizer_config.json"),
        special_tokens_map: file("special_tokens_map.json"),
        ..Files::default()
    });
    let encoded = tokenizer.unwrap().encode(text).unwrap();
    encoded.ids[1..=encoded.tokens].iter().map(|id| *id as usize).collect()
}

#[test]
fn the_command_names_what_it_was_given() {
    let model = golden(MODEL);
    let lora = golden("extras/lora").join(LORA);
    let (model, lora) = (model.to_str().unwrap(), lora.to_str().unwrap());
    let refused = |args: &[&str], words: &[&str]| {
        let all = [&["generate", "a fox", "--model", model, "--device", "cpu"][..], args].concat();
        let sentence = failure(&all);
        assert!(words.iter().all(|w| sentence.contains(w)), "{sentence}");
    };
    refused(&["--lora", lora, "--lora-scale", "1", "--lora-scale", "2"], &["--lora-scale", "1", "found 2"]);
    refused(&["--lora", lora, "--lora-scale", "NaN"], &["scale of a LoRA", "NaN"]);
    refused(&["--lora", "/nowhere/style.safetensors"], &["style.safetensors", "does not exist"]);
    refused(&["--embedding", lora], &[LORA, "one tensor"]);
    refused(&["--single-file", lora], &[LORA, "original code"]);
    let all = ["generate", "a fox", "--lora", lora];
    assert!(failure(&all).contains("builtin"));
}
