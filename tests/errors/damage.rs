//! Models that are damaged, incomplete, or ask for what is not built.

use serde_json::{Map, Value, json};
use tintype::error::Code::{self, InvalidModel, NotFound, Unsupported};
use tintype::pipeline::Request;

use super::{PROMPT, draw, refused_by_command, wanted};
use crate::harness::on_device;
use crate::models::folder::Temp;

const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";
const TEXT: &str = "text_encoder/model.safetensors";

struct Case {
    what: &'static str,
    model: &'static str,
    damage: fn(&Temp),
    code: Code,
    words: &'static [&'static str],
}

const fn case(what: &'static str, damage: fn(&Temp), code: Code, words: &'static [&'static str]) -> Case {
    Case { what, model: "sdxs-like", damage, code, words }
}

/// Each case through the library and through the command: the sentence is the same.
fn all_refused(cases: impl IntoIterator<Item = Case>) {
    for Case { what, model, damage, code, words } in cases {
        let model = Temp::model(model);
        damage(&model);
        let path = model.0.clone();
        let result = on_device(move |gpu| draw(gpu, &path, &Request::new(PROMPT, 1)));
        let e = wanted(what, result, code, words);
        refused_by_command(what, &model.0, &[], &[&e.to_string()]);
    }
}

#[test]
fn damaged_weights() {
    all_refused([
        case(
            "a truncated file",
            |m| m.edit(UNET, |b| b.truncate(b.len() - 100)),
            InvalidModel,
            &[UNET, "truncated", "tensor 'up_blocks."],
        ),
        case(
            "a truncated header",
            |m| m.edit(UNET, |b| b.truncate(1000)),
            InvalidModel,
            &[UNET, "truncated"],
        ),
        case("an empty file", |m| m.write(UNET, ""), InvalidModel, &[UNET, "0 bytes"]),
        case(
            "a file of another kind",
            |m| m.write(UNET, "version https://git-lfs"),
            InvalidModel,
            &[UNET, "hardly a safetensors file"],
        ),
        case(
            "overlapping ranges",
            |m| m.edit(UNET, overlap),
            InvalidModel,
            &[UNET, "overlap", "'conv_in.weight'"],
        ),
        case(
            "a missing tensor",
            |m| m.tensors(UNET, |t| t.0.retain(|t| t.name != "conv_in.bias")),
            InvalidModel,
            &["unet", "conv_in.bias"],
        ),
        case(
            "a wrong shape",
            |m| m.tensors(UNET, |t| t.get("conv_in.bias").shape = vec![4, 5]),
            InvalidModel,
            &[UNET, "conv_in.bias", "[20]", "[4, 5]"],
        ),
        case(
            "whole numbers",
            |m| m.tensors(UNET, |t| t.get("conv_in.bias").dtype = "I16".to_owned()),
            Unsupported,
            &[UNET, "conv_in.bias", "I16"],
        ),
    ]);
}

/// The second tensor begins four bytes early.
fn overlap(bytes: &mut Vec<u8>) {
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let begin = |entry: &Value| entry["data_offsets"][0].as_u64().unwrap_or(0);
    let second = header.values().map(begin).filter(|b| *b > 0).min().unwrap();
    for entry in header.values_mut().filter(|e| begin(e) == second) {
        let end = entry["data_offsets"][1].as_u64().unwrap();
        entry["data_offsets"] = json!([second - 4, end - 4]);
    }
    let header = Value::Object(header).to_string();
    let data = bytes.split_off(start);
    *bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
}

#[test]
fn a_tensor_under_two_of_its_names() {
    let damage: fn(&Temp) = |m| {
        m.tensors("vae/diffusion_pytorch_model.fp16.safetensors", |t| {
            let mut again = t.get("decoder.mid_block.attentions.0.query.weight").clone();
            again.name = "decoder.mid_block.attentions.0.to_q.weight".to_owned();
            t.0.push(again);
        });
    };
    let words = &["vae/diffusion_pytorch_model.fp16.safetensors", "to_q.weight", "query.weight"];
    let case = case("a tensor twice", damage, InvalidModel, words);
    all_refused([Case { model: "sd-turbo-like", ..case }]);
}

#[test]
fn missing_files() {
    let shard = "unet/diffusion_pytorch_model-00002-of-00002.safetensors";
    all_refused([
        case("no folder", |m| std::fs::remove_dir_all(&m.0).unwrap(), NotFound, &["model_index.json"]),
        case("no configuration", |m| m.remove("unet/config.json"), NotFound, &["unet/config.json"]),
        case(
            "no scheduler",
            |m| m.remove("scheduler/scheduler_config.json"),
            NotFound,
            &["scheduler_config.json"],
        ),
        case("no weights", |m| m.remove(UNET), NotFound, &[UNET, "unet/diffusion_pytorch_model.safetensors"]),
        case(
            "pickle alone",
            |m| m.rename(UNET, "unet/diffusion_pytorch_model.bin"),
            Unsupported,
            &["unet/diffusion_pytorch_model.bin", "pickle", "safetensors"],
        ),
        Case {
            model: "sd-turbo-like",
            ..case(
                "a shard is missing",
                |m| m.remove("unet/diffusion_pytorch_model-00002-of-00002.safetensors"),
                NotFound,
                &["unet/diffusion_pytorch_model-00002-of-00002.safetensors", "index.json"],
            )
        },
        Case {
            model: "sd-turbo-like",
            ..case("no vocabulary", |m| m.remove("tokenizer/vocab.json"), NotFound, &["tokenizer/vocab.json"])
        },
    ]);
    assert!(crate::models::folder::golden("sd-turbo-like").join(shard).exists());
}

#[test]
fn configurations() {
    let set = |file: &'static str, key: &'static str, value: Value| {
        move |m: &Temp| m.set(file, &[(key, Some(value.clone()))])
    };
    // What a function pointer cannot hold stands in this table instead.
    let table: [(&str, &str, Value, Code); 10] = [
        ("unet/config.json", "dual_cross_attention", json!(true), Unsupported),
        ("unet/config.json", "act_fn", json!("mish"), Unsupported),
        ("unet/config.json", "block_out_channels", json!([20, 40, 62]), InvalidModel),
        ("vae/config.json", "_class_name", json!("AutoencoderOobleck"), Unsupported),
        ("text_encoder/config.json", "hidden_act", json!("relu"), Unsupported),
        ("text_encoder/config.json", "num_attention_heads", json!(0), InvalidModel),
        ("model_index.json", "_class_name", json!("StableDiffusionXLPipeline"), Unsupported),
        ("scheduler/scheduler_config.json", "_class_name", json!("UniPCMultistepScheduler"), Unsupported),
        ("scheduler/scheduler_config.json", "use_beta_sigmas", json!(true), Unsupported),
        ("scheduler/scheduler_config.json", "num_train_timesteps", json!(-1), InvalidModel),
    ];
    for (file, key, value, code) in table {
        let model = Temp::model("sdxs-like");
        set(file, key, value.clone())(&model);
        let path = model.0.clone();
        let result = on_device(move |gpu| draw(gpu, &path, &Request::new(PROMPT, 1)));
        let value = value.to_string();
        let value = value.trim_matches('"');
        let value = if value.starts_with('[') { "20" } else { value };
        let e = wanted(key, result, code, &[file, key, value]);
        refused_by_command(key, &model.0, &[], &[&e.to_string()]);
    }
    all_refused([
        case("no JSON", |m| m.write("vae/config.json", "{"), InvalidModel, &["vae/config.json", "JSON"]),
        case(
            "another width of text",
            |m| m.set("unet/config.json", &[("cross_attention_dim", Some(json!(40)))]),
            InvalidModel,
            &["attn1.to_k.weight", "40", "36"],
        ),
    ]);
}

/// What the networks cannot be built for is said by the configuration, before anything is recorded.
#[test]
fn sizes_that_no_kernel_has() {
    let wide = |m: &Temp| {
        let heads = [("num_attention_heads", Some(json!(1))), ("hidden_size", Some(json!(1024)))];
        m.set("text_encoder/config.json", &heads);
    };
    all_refused([
        case(
            "a head of 1024",
            wide,
            Unsupported,
            &["text_encoder/config.json", "num_attention_heads", "512"],
        ),
        case(
            "a head of 600",
            |m| {
                let widths = [
                    ("block_out_channels", Some(json!([20, 40, 600]))),
                    ("attention_head_dim", Some(json!(1))),
                ];
                m.set("unet/config.json", &widths);
            },
            Unsupported,
            &["unet/config.json", "512"],
        ),
        case(
            "four colours",
            |m| m.set("vae/config.json", &[("out_channels", Some(json!(4)))]),
            Unsupported,
            &["vae/config.json", "out_channels", "4", "3"],
        ),
        Case {
            model: "sd-turbo-like",
            ..case(
                "an autoencoder's head of 1024",
                |m| m.set("vae/config.json", &[("block_out_channels", Some(json!([12, 20, 20, 1024])))]),
                Unsupported,
                &["vae/config.json", "block_out_channels", "512"],
            )
        },
    ]);
}

#[test]
fn tokenizers() {
    all_refused([
        case(
            "no tokenizer in it",
            |m| m.write("tokenizer/tokenizer.json", "{}"),
            InvalidModel,
            &["tokenizer/tokenizer.json"],
        ),
        case(
            "a vocabulary that is too short",
            fewer_words,
            InvalidModel,
            &["token 622", "vocab_size", "600"],
        ),
        case(
            "another length",
            |m| m.set("tokenizer/tokenizer_config.json", &[("model_max_length", Some(json!(64)))]),
            InvalidModel,
            &["text_encoder/config.json", "77", "64"],
        ),
    ]);
}

/// The text encoder knows fewer tokens than the tokenizer makes.
fn fewer_words(m: &Temp) {
    m.set("text_encoder/config.json", &[("vocab_size", Some(json!(600)))]);
    m.tensors(TEXT, |t| {
        let table = t.get("text_model.embeddings.token_embedding.weight");
        table.bytes.truncate(600 * 36 * 2);
        table.shape[0] = 600;
    });
}

/// Tokenizer and text encoder may agree on another length than CLIP's 77.
#[test]
fn sixty_four_tokens() {
    let m = Temp::model("sdxs-like");
    m.set("tokenizer/tokenizer_config.json", &[("model_max_length", Some(json!(64)))]);
    m.set("text_encoder/config.json", &[("max_position_embeddings", Some(json!(64)))]);
    m.tensors(TEXT, |t| {
        let table = t.get("text_model.embeddings.position_embedding.weight");
        table.bytes.truncate(64 * 36 * 2);
        table.shape[0] = 64;
    });
    let path = m.0.clone();
    on_device(move |gpu| draw(gpu, &path, &Request::new(PROMPT, 1))).unwrap();
}
