//! A small single file alone, which draws as its folder does, and one beside a folder that contradicts it.

use pollster::block_on;
use tintype::device::Device;
use tintype::error::Code;
use tintype::host::Cancel;
use tintype::model::config::{ClipTextConfig, UnetConfig, VaeConfig};
use tintype::pipeline::{Additions, FileIn, LoadOptions, ModelFiles, Pipeline, Request, Watch};
use tintype::tokenizer::{Files, Tokenizer, clip_files};
use tintype::warning::Topic;
use tintype::weights::{Folder, Hooks, MemoryFolder};

use super::folder::{Temp, here};
use super::headers::{List, original_unet, text_list, unet_list, vae_list};
use super::single::{open_clip, unet_blocks, unet_name, vae_name};
use super::tensors::{Tensor, Tensors};
use crate::cli::{failure, text, tintype};

/// Texts and ids as transformers' CLIPTokenizerFast has them, with the padding of SD 1.x and of SD 2.x.
#[test]
fn the_vocabulary_is_clips() {
    let merges = std::fs::read(here("models/clip/merges.bin")).unwrap();
    let [vocab, lines] = clip_files(&merges).unwrap();
    assert!(clip_files(&merges[..merges.len() - 4]).is_none() && clip_files(&merges[1..]).is_none());
    let tokenizer = |pad: &str| {
        let config = format!(r#"{{"pad_token":"{pad}","model_max_length":77}}"#);
        Tokenizer::from_files(&Files {
            folder: "tokenizer".to_owned(),
            vocab_json: Some(vocab.clone().into_bytes()),
            merges_txt: Some(lines.clone().into_bytes()),
            tokenizer_config: Some(config.into_bytes()),
            ..Files::default()
        })
        .unwrap()
    };
    for (pad, text, ids) in [
        (
            "<|endoftext|>",
            "a photo of an astronaut riding a horse on mars",
            &[320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496][..],
        ),
        ("<|endoftext|>", "wow!", &[2781, 256]),
        ("!", "wow!", &[2781, 0]),
        ("<|endoftext|>", "Żółw & 東京", &[129, 120, 8891, 40419, 342, 261, 48338, 21078, 361]),
        ("!", "\"a\\b\"", &[257, 320, 315, 321, 257]),
    ] {
        let encoded = tokenizer(pad).encode(text).unwrap();
        let filled = if pad == "!" { 0 } else { 49407 };
        let mut wanted = vec![49406];
        wanted.extend(ids);
        wanted.push(49407);
        wanted.resize(77, filled);
        assert_eq!(encoded.ids, wanted, "{text}");
    }
}

/// Values that differ from tensor to tensor.
fn random(list: List) -> Vec<Tensor> {
    let mut state = 7u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut tensor = |(name, shape): (String, Vec<usize>)| {
        let norm = name.contains("norm") && name.ends_with("weight");
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| if norm { 1.0 + next() } else { next() / 4.0 }).collect();
        Tensor::f32(&name, &shape, &values)
    };
    list.into_iter().map(&mut tensor).collect()
}

const UNET: &str = r#"{"_class_name": "UNet2DConditionModel", "sample_size": 64, "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 2, "attention_head_dim": 8, "cross_attention_dim": 64}"#;
const VAE: &str = r#"{"_class_name": "AutoencoderKL", "block_out_channels": [32, 32], "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "latent_channels": 4}"#;
const TEXT: &str = r#"{"architectures": ["CLIPTextModel"], "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 1, "eos_token_id": 2}"#;

/// A small model of SD 1.x, as a folder and as a single file.
fn small() -> (MemoryFolder, Vec<Tensor>) {
    let mut folder = MemoryFolder::new();
    for (path, json) in [
        (
            "model_index.json",
            r#"{"_class_name": "StableDiffusionPipeline", "unet": ["d", "u"], "vae": ["d", "v"],
            "text_encoder": ["t", "t"]}"#,
        ),
        (
            "scheduler/scheduler_config.json",
            r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear",
            "beta_start": 0.00085, "beta_end": 0.012, "skip_prk_steps": true, "steps_offset": 1}"#,
        ),
        ("unet/config.json", UNET),
        ("vae/config.json", VAE),
        ("text_encoder/config.json", TEXT),
        ("tokenizer/tokenizer_config.json", r#"{"model_max_length": 77}"#),
    ] {
        folder.insert(path, json.as_bytes());
    }
    let merges = std::fs::read(here("models/clip/merges.bin")).unwrap();
    let [vocab, lines] = clip_files(&merges).unwrap();
    folder.insert("tokenizer/vocab.json", vocab.into_bytes());
    folder.insert("tokenizer/merges.txt", lines.into_bytes());
    let unet = UnetConfig::from_json(UNET.as_bytes(), "unet").unwrap();
    let vae = VaeConfig::from_json(VAE.as_bytes(), "vae").unwrap();
    let text = ClipTextConfig::from_json(TEXT.as_bytes(), "text").unwrap();
    let blocks = unet_blocks(&unet);
    let [unets, vaes, texts] = [unet_list(&unet), vae_list(&vae), text_list(&text)].map(random);
    let mut single = vec![];
    for (path, tensors) in [
        ("unet/diffusion_pytorch_model.safetensors", &unets),
        ("vae/diffusion_pytorch_model.safetensors", &vaes),
        ("text_encoder/model.safetensors", &texts),
    ] {
        folder.insert(path, Tensors(tensors.clone()).bytes());
    }
    let named = |tensors: &[Tensor], name: &dyn Fn(&str) -> String| {
        tensors.iter().map(|t| Tensor { name: name(&t.name), ..t.clone() }).collect::<Vec<_>>()
    };
    single.extend(named(&unets, &|name| format!("model.diffusion_model.{}", unet_name(&blocks, name))));
    let old = |name: &str| {
        [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")]
            .iter()
            .fold(name.to_owned(), |name, (new, old)| name.replace(new, old))
    };
    single.extend(named(&vaes, &|name| format!("first_stage_model.{}", vae_name(2, &old(name)))));
    single.extend(named(&texts, &|name| format!("cond_stage_model.transformer.{name}")));
    (folder, single)
}

fn merges() -> Option<std::borrow::Cow<'static, [u8]>> {
    Some(std::fs::read(here("models/clip/merges.bin")).unwrap().into())
}

fn drawn(folder: &dyn Folder) -> (Vec<f32>, Vec<String>) {
    drawn_with(folder, &Additions::default())
}

fn drawn_with(folder: &dyn Folder, additions: &Additions<'_>) -> (Vec<f32>, Vec<String>) {
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let load = Pipeline::load_with(&Device::Cpu, folder, additions, &options, Hooks::NONE);
    let pipeline = block_on(load).unwrap();
    let topics = [Topic::Configuration, Topic::Unused];
    assert!(pipeline.warnings().iter().all(|warning| topics.contains(&warning.code)));
    let warnings = pipeline.warnings().iter().map(|warning| warning.message.clone()).collect();
    let request = Request { steps: Some(2), size: Some([32, 32]), ..Request::new("a cat, on mars!", 3) };
    let latents = std::cell::RefCell::new(vec![]);
    let dump = |_: &str, _: [usize; 4], values: Vec<f32>| *latents.borrow_mut() = values;
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: Some(&dump) };
    block_on(pipeline.generate(&request, &watch)).unwrap();
    (latents.into_inner(), warnings)
}

#[test]
fn a_single_file_alone_draws_as_its_folder() {
    let (folder, tensors) = small();
    let (wanted, _) = drawn(&folder);
    assert!(wanted.iter().all(|value| value.is_finite()) && wanted.iter().any(|value| *value != wanted[0]));
    let mut file = MemoryFolder::new();
    file.insert("a/x.safetensors", Tensors(tensors.clone()).bytes());
    // What lies beside the file is none of it.
    file.insert("unet/config.json", &b"{}"[..]);
    let alone = block_on(ModelFiles::single(file, "a/x.safetensors", vec![], merges())).unwrap();
    assert_eq!(drawn(&alone), (wanted.clone(), vec![]));

    // The averages of a training alone, and an autoencoder of its own that takes the place of none.
    let flat = |t: &Tensor| match t.name.strip_prefix("model.diffusion_model.") {
        Some(name) => {
            Tensor { name: format!("model_ema.diffusion_model{}", name.replace('.', "")), ..t.clone() }
        }
        None => t.clone(),
    };
    let rest = tensors.iter().filter(|t| !t.name.starts_with("first_stage_model."));
    let mut parts = folder.clone();
    parts.insert("x.safetensors", Tensors(rest.map(flat).collect()).bytes());
    let alone =
        block_on(ModelFiles::single(parts, "x.safetensors", vec!["vae".to_owned()], merges())).unwrap();
    let (latents, warnings) = drawn(&alone);
    assert_eq!(latents, wanted);
    assert!(warnings.len() == 1 && warnings[0].contains("only averages"), "{warnings:?}");

    // What a U-Net has beside what its form wants is told.
    let mut more = tensors.clone();
    more.push(Tensor::f32("model.diffusion_model.input_blocks.1.2.weight", &[1], &[0.0]));
    // Not so what is about weights of 8 bits, which is read with them.
    more.push(Tensor::f32("model.diffusion_model.scaled_fp8", &[0], &[]));
    let mut file = MemoryFolder::new();
    file.insert("x.safetensors", Tensors(more).bytes());
    let alone = block_on(ModelFiles::single(file, "x.safetensors", vec![], merges())).unwrap();
    let (latents, warnings) = drawn(&alone);
    assert!(latents == wanted && warnings.len() == 1, "{warnings:?}");
    assert!(warnings[0].contains(
        "tensors of the U-Net that nothing here uses: 1, the first is model.diffusion_model.input_blocks.1.2"
    ));

    // Other tokens than CLIP's want their own tokenizer.
    let fewer = tensors.iter().map(|t| match t.name.ends_with("token_embedding.weight") {
        true => Tensor::f32(&t.name, &[40, 64], &t.values()[..40 * 64]),
        false => t.clone(),
    });
    let mut file = MemoryFolder::new();
    file.insert("x.safetensors", Tensors(fewer.collect()).bytes());
    let alone = block_on(ModelFiles::single(file, "x.safetensors", vec![], merges())).unwrap();
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let e = block_on(Pipeline::load(&Device::Cpu, &alone, &options, Hooks::NONE)).err().unwrap();
    assert!(
        e.code == Code::InvalidModel && e.message.contains("--tokenizer DIR") && e.message.contains("40"),
        "{e}"
    );
}

/// OpenCLIP's matrices as a single file of SD 2.x has them, and SDXL's tensors' names, are held by `super::single`; here
/// that the derived configuration reads them.
#[test]
fn open_clip_alone_has_its_configuration() {
    let json = TEXT.replace("\"num_hidden_layers\"", "\"hidden_act\": \"gelu\", \"num_hidden_layers\"");
    let wanted = ClipTextConfig::from_json(json.as_bytes(), "text").unwrap();
    let texts = open_clip(random(text_list(&wanted)));
    let mut list: Vec<Tensor> = texts
        .into_iter()
        .map(|t| Tensor { name: format!("cond_stage_model.model.{}", t.name), ..t })
        .collect();
    let linear =
        UNET.replace("\"cross_attention_dim\"", "\"use_linear_projection\": true, \"cross_attention_dim\"");
    let unet = UnetConfig::from_json(linear.as_bytes(), "unet").unwrap();
    list.extend(random(original_unet(&unet)));
    let mut file = MemoryFolder::new();
    file.insert("x.safetensors", Tensors(list).bytes());
    let alone = block_on(ModelFiles::single(file, "x.safetensors", vec![], None)).unwrap();
    assert_eq!(alone.described().unwrap().missing, ["vae"]);
    let found = block_on(alone.read("text_encoder/config.json")).unwrap().unwrap();
    assert_eq!(ClipTextConfig::from_json(&found, "text").unwrap(), wanted);
    let pad = block_on(alone.read("tokenizer/tokenizer_config.json")).unwrap().unwrap();
    assert!(text(&pad).contains(r#""pad_token":"!""#));
}

/// A file as `Tensors` writes it, with metadata.
fn with_metadata(tensors: Vec<Tensor>, key: &str, value: &str) -> Vec<u8> {
    let file = Tensors(tensors).bytes();
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = format!(r#"{{"__metadata__":{{"{key}":"{value}"}},{}"#, text(&file[9..end]));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &file[end..]].concat()
}

#[test]
fn a_file_beside_a_folder_says_what_it_predicts() {
    let (mut folder, tensors) = small();
    let scheduler = block_on(folder.read("scheduler/scheduler_config.json")).unwrap().unwrap();
    let (epsilon, _) = drawn(&folder);
    let of_velocity = text(&scheduler).replace('{', r#"{"prediction_type": "v_prediction","#);
    folder.insert("scheduler/scheduler_config.json", of_velocity.into_bytes());
    let (velocity, _) = drawn(&folder);
    assert_ne!(epsilon, velocity);
    let beside = |says: Option<&str>, folder: &mut MemoryFolder| {
        let file = match says {
            Some(says) => with_metadata(tensors.clone(), "modelspec.prediction_type", says),
            None => Tensors(tensors.clone()).bytes(),
        };
        folder.insert("x.safetensors", file);
        let single_file = Some(FileIn { folder: &*folder, path: "x.safetensors" });
        drawn_with(&*folder, &Additions { single_file, ..Additions::default() })
    };
    let (latents, warnings) = beside(Some("epsilon"), &mut folder);
    assert!(latents == epsilon && warnings.len() == 1, "{warnings:?}");
    for words in
        ["x.safetensors", "predicts epsilon", "modelspec.prediction_type", "prediction_type is v_prediction"]
    {
        assert!(warnings[0].contains(words), "{words}: {warnings:?}");
    }
    // What agrees, or says nothing, is not talked about.
    assert_eq!(beside(Some("v"), &mut folder), (velocity.clone(), vec![]));
    assert_eq!(beside(None, &mut folder), (velocity, vec![]));

    // Zero terminal SNR, which the folder's class does not have, is one word, and true.
    folder.insert("scheduler/scheduler_config.json", scheduler);
    let marks = ["v_pred", "ztsnr"].map(|name| Tensor::f32(name, &[1], &[0.0]));
    folder.insert("x.safetensors", Tensors([&marks[..], &tensors].concat()).bytes());
    let single_file = Some(FileIn { folder: &folder, path: "x.safetensors" });
    let (_, warnings) = drawn_with(&folder, &Additions { single_file, ..Additions::default() });
    let [velocity, zero_snr] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(velocity.contains("predicts v_prediction by the tensor v_pred"), "{velocity}");
    assert!(zero_snr.contains("zero terminal SNR, the folder's PNDMScheduler has none: DDIM"), "{zero_snr}");

    // Shapes that differ are refused with both.
    let wider = UNET.replace("\"cross_attention_dim\": 64", "\"cross_attention_dim\": 96");
    let wider = UnetConfig::from_json(wider.as_bytes(), "unet").unwrap();
    folder.insert("x.safetensors", Tensors(random(original_unet(&wider))).bytes());
    let single_file = Some(FileIn { folder: &folder, path: "x.safetensors" });
    let additions = Additions { single_file, ..Additions::default() };
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let e = block_on(Pipeline::load_with(&Device::Cpu, &folder, &additions, &options, Hooks::NONE))
        .err()
        .unwrap();
    assert_eq!(e.code, Code::InvalidModel);
    for words in ["x.safetensors", "[32, 64]", "[32, 96]"] {
        assert!(e.message.contains(words), "{words}: {e}");
    }
}

/// A file that stands for the model, and another whose weights take its place.
#[test]
fn what_is_to_say_of_either_of_two_files_is_told() {
    let (_, mut tensors) = small();
    tensors.push(Tensor::f32("ztsnr", &[1], &[0.0]));
    let [model, beside] = ["model.safetensors", "beside.safetensors"].map(|path| {
        let mut folder = MemoryFolder::new();
        folder.insert(path, Tensors(tensors.clone()).bytes());
        folder
    });
    let model = block_on(ModelFiles::single(model, "model.safetensors", vec![], merges())).unwrap();
    let beside = ModelFiles::folder(beside);
    let single_file = Some(FileIn { folder: &beside, path: "beside.safetensors" });
    let (_, warnings) = drawn_with(&model, &Additions { single_file, ..Additions::default() });
    let [first, second] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(first.starts_with("model.safetensors: zero terminal SNR is marked"), "{first}");
    assert!(second.starts_with("beside.safetensors: zero terminal SNR is marked"), "{second}");
}

#[test]
fn commands_take_a_single_file() {
    let (folder, tensors) = small();
    let temp = Temp::new();
    temp.write("x.safetensors", Tensors(tensors).bytes());
    for (path, component) in [("vae", "vae"), ("unet", "unet")] {
        for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
            let mut stored = block_on(folder.open(&format!("{component}/{file}"))).unwrap().unwrap();
            let mut bytes = vec![0; stored.len().unwrap() as usize];
            block_on(stored.read_full(&mut bytes)).unwrap();
            temp.write(&format!("parts/{path}/{file}"), bytes);
        }
    }
    let at = |name: &str| temp.path(name).to_str().unwrap().to_owned();
    let run = |args: &[&str]| {
        let output = tintype(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        output
    };
    let draw = |model: &str, out: &str, more: &[&str]| {
        let (model, out) = (at(model), at(out));
        let common =
            ["generate", "a cat", "--device", "cpu", "--steps", "1", "--seed", "1", "--size", "16x16"];
        run(&[&common[..], &["--model", &model, "--out", &out], more].concat());
        std::fs::read(out).unwrap()
    };
    let alone = draw("x.safetensors", "alone.png", &[]);
    run(&["pack", "--model", &at("x.safetensors"), "--weights", "f16", "--out", &at("packed")]);
    assert!(draw("packed", "packed.png", &[]) == alone);
    let vae = at("parts/vae");
    assert!(draw("x.safetensors", "vae.png", &["--vae", &vae]) == alone);

    let told = text(&run(&["inspect", &at("x.safetensors")]).stdout);
    assert!(
        told.starts_with("a checkpoint of SD 1.x: ") && told.contains("missing: none\nunused: 0\n"),
        "{told}"
    );
    let told =
        text(&run(&["inspect", &at("parts/unet/diffusion_pytorch_model.safetensors"), "--json"]).stdout);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!([&told["kind"], &told["what"]], ["network", "a U-Net in the diffusers layout"]);

    // Pickles, by their names and by how they begin, wherever a file or a folder is named.
    temp.write("old.ckpt", [0; 8]);
    temp.write("disguised.safetensors", b"PK\x03\x04 and the rest of an archive");
    let (model, old, disguised) = (at("x.safetensors"), at("old.ckpt"), at("disguised.safetensors"));
    let image = here("tests/golden/ref/pipe/sd15_ip_adapter_plus.0.png").to_str().unwrap().to_owned();
    let generate = ["generate", "a cat", "--device", "cpu", "--out", &at("no.png")].map(str::to_owned);
    for (option, file, name) in [
        ("--model", &old, "old.ckpt"),
        ("--model", &disguised, "disguised.safetensors"),
        ("--single-file", &old, "old.ckpt"),
        ("--lora", &old, "old.ckpt"),
        ("--lora", &disguised, "disguised.safetensors"),
        ("--embedding", &old, "old.ckpt"),
        ("--control", &old, "old.ckpt"),
        ("--vae", &old, "old.ckpt"),
    ] {
        let mut args: Vec<&str> = generate.iter().map(String::as_str).collect();
        args.extend([option, file]);
        if option != "--model" {
            args.extend(["--model", &model]);
        }
        if option == "--control" {
            args.extend(["--control-image", &image]);
        }
        let said = failure(&args);
        assert!(
            said.contains(&format!("{name} is a pickle file")) && said.contains("convert it"),
            "{option}: {said}"
        );
    }
    for command in
        [&["plan", "--model"][..], &["inspect"], &["pack", "--weights", "f16", "--out", "x", "--model"]]
    {
        let said = failure(&[command, &[&old]].concat());
        assert!(said.contains("old.ckpt is a pickle file"), "{said}");
    }
}
