//! Folders as today's libraries write them (diffusers 0.42, transformers 5), and those that they quantised.

use serde_json::json;
use tintype::error::Code;
use tintype::pipeline::Additions;
use tintype::weights::DiskFolder;

use super::{assert_same, draw, load, request};
use crate::models::folder::{Temp, golden};

#[test]
fn text_encoders_without_the_module_around_them() {
    for (name, encoders) in
        [("sd15-like", &["text_encoder"][..]), ("sdxl-like", &["text_encoder", "text_encoder_2"])]
    {
        let wanted = draw(&Temp::model(name), &request("a red fox")).unwrap();
        let model = Temp::model(name);
        for encoder in encoders {
            model.tensors(&format!("{encoder}/model.fp16.safetensors"), |tensors| {
                for tensor in &mut tensors.0 {
                    tensor.name = tensor.name.replace("text_model.", "");
                }
            });
        }
        assert_same(name, &draw(&model, &request("a red fox")).unwrap().latents, &wanted.latents, 0.0);
    }
}

#[test]
fn a_safety_checker_with_one_module_of_two() {
    let checker = Temp::copy_of(&golden("extras/safety_checker"));
    checker.tensors("model.fp16.safetensors", |tensors| {
        for tensor in &mut tensors.0 {
            tensor.name = tensor.name.replace("vision_model.vision_model.", "vision_model.");
        }
    });
    let folder = DiskFolder::new(&checker.0);
    let additions = Additions { safety_checker: Some(&folder), ..Additions::default() };
    assert!(load(&Temp::model("sd15-like"), &additions).is_ok());
}

/// One file, and a configuration that says little and has keys of its own.
#[test]
fn a_tokenizer_of_today() {
    let prompt = "a red FOX <|endoftext|> isn't x! 7";
    let wanted = draw(&Temp::model("sdxs-like"), &request(prompt)).unwrap();
    let model = Temp::model("sdxs-like");
    for file in ["vocab.json", "merges.txt", "special_tokens_map.json"] {
        model.remove(&format!("tokenizer/{file}"));
    }
    let config = json!({
        "backend": "tokenizers", "bos_token": "<|startoftext|>", "clean_up_tokenization_spaces": false,
        "eos_token": "<|endoftext|>", "errors": "replace", "is_local": true, "local_files_only": true,
        "model_max_length": 77, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer",
        "unk_token": "<|endoftext|>", "extra_special_tokens": [],
    });
    model.write("tokenizer/tokenizer_config.json", config.to_string());
    model.set("text_encoder/config.json", &[("torch_dtype", None), ("dtype", Some(json!("float32")))]);
    let found = draw(&model, &request(prompt)).unwrap();
    assert_eq!((found.latents, found.warnings), (wanted.latents, vec![]));
}

#[test]
fn what_was_quantised_is_refused_by_its_kind() {
    for (file, config, kind) in [
        ("unet", json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "bitsandbytes (4 bits)"),
        ("unet", json!({"quant_method": "torchao", "quant_type": "int8wo"}), "torchao (int8wo)"),
        ("vae", json!({"quant_method": "gguf", "compute_dtype": "float16"}), "gguf"),
        ("text_encoder", json!({"quant_method": "quanto", "weights_dtype": "int4"}), "quanto (int4)"),
        ("text_encoder", json!({}), "of an unknown kind"),
    ] {
        let model = Temp::model("sd15-like");
        let file = format!("{file}/config.json");
        model.set(&file, &[("quantization_config", Some(config))]);
        let e = load(&model, &Additions::default()).err().unwrap();
        assert_eq!(e.code, Code::Unsupported, "{e}");
        let wanted = format!("{file}: quantization_config says that the weights are {kind}, supported are");
        assert!(e.message.starts_with(&wanted), "{e}");
        model.set(&file, &[("quantization_config", Some(json!(null)))]);
        assert!(load(&model, &Additions::default()).is_ok());
    }
}
