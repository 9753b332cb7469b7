//! Networks as a whole on the CPU against their twins: operations with the shapes, the padding and the epilogues that models
//! give them, and the buffers that they share.

use std::collections::HashMap;
use std::rc::Rc;

use pollster::block_on;
use tintype::cpu;
use tintype::host::Cancel;
use tintype::model::config::{NetworkConfig, UnetConfig, VaeConfig};
use tintype::model::denoiser::{Job, denoise_plan};
use tintype::model::text::{HiddenState, TextUse};
use tintype::model::unet::Networks;
use tintype::model::unet::Unet;
use tintype::pipeline::{Network, read_json, text_plan, vae_plan};
use tintype::plan::ops::Op;
use tintype::plan::{Plan, Target, Tensor};
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{DiskFolder, Handle};

use super::plan::Interpreter;
use crate::harness::{Bench, compare};
use crate::models::folder::golden;

/// Sums of some hundred steps, one after the other.
const LIMIT: f64 = 1e-4;

fn json(model: &str, file: &str) -> Vec<u8> {
    block_on(read_json(&DiskFolder::new(golden(model)), file)).unwrap()
}

pub fn check(what: &str, mut bench: Bench, plan: Plan) {
    bench.fill();
    let blobs: HashMap<Handle, Vec<u8>> = bench.blobs.iter().cloned().collect();
    let weights = Rc::new(cpu::Weights::from_blobs(&bench.d, bench.blobs));
    let mut twin = Interpreter { values: HashMap::new(), declarations: &bench.d, blobs: &blobs };
    let session = cpu::Session::new(plan.clone(), weights);
    for (name, t) in &plan.inputs {
        let count = (t.shape.rows() * t.shape.c) as usize;
        let values = match name.as_str() {
            "watch" => vec![0.0; count],
            // A clip is positive.
            name if name.ends_with("coefficients") => {
                bench.random.values(count).into_iter().map(f32::abs).collect()
            }
            _ => bench.random.values(count),
        };
        session.write(name, &values);
        twin.values.insert(t.id, values.into_iter().map(f64::from).collect());
    }
    for section in &plan.sections {
        block_on(session.run(section.name, &Cancel::default(), &|_| {})).unwrap();
    }
    twin.run(&plan);
    assert!(!plan.outputs.is_empty());
    // An image is bytes.
    let is_image = |t: &Tensor| plan.steps.iter().any(|s| s.y.id == t.id && matches!(s.op, Op::Image(_)));
    for (name, t) in plan.outputs.iter().filter(|(_, t)| !is_image(t)) {
        if let Err(e) = compare(Elem::F32, &session.read(name), &twin.values[&t.id], LIMIT) {
            panic!("{what}, {name}: {e}");
        }
    }
}

pub fn target() -> Target {
    Target { taps: true, ..Target::new(Elem::F32) }
}

#[test]
fn denoisers() {
    for model in ["sd-turbo-like", "sdxl-like"] {
        let config = UnetConfig::from_json(&json(model, "unet/config.json"), "unet").unwrap();
        let mut bench = Bench::new(Elem::F32, Format::F32);
        let networks = Networks::of(Unet::declare(&mut bench.d, &config), config);
        let job = Job { images: 1, guided: true, size: [8, 8], tokens: 77, ..Job::default() };
        check(model, bench, denoise_plan(&networks, &target(), job));
    }
}

/// Small ones: two streams with and without a second attention and norms, then one stream; image and text refined apart; text
/// beside the image, with heads that are no multiple of four and sizes; labels.
#[test]
fn transformers() {
    let sd3 = r#"{"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 20,
        "pooled_projection_dim": 12, "pos_embed_max_size": 6, "dual_attention_layers": [0], "in_channels": 4,
        "qk_norm": "rms_norm"}"#;
    let plain = sd3.replace("\"rms_norm\"", "null");
    let flux = r#"{"_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 2,
        "attention_head_dim": 8, "num_attention_heads": 2, "axes_dims_rope": [2, 2, 4], "in_channels": 16,
        "joint_attention_dim": 20, "pooled_projection_dim": 12, "guidance_embeds": true}"#;
    let z_image = r#"{"_class_name": "ZImageTransformer2DModel", "dim": 24, "n_heads": 3, "n_kv_heads": 3, "n_layers": 2,
        "n_refiner_layers": 1, "in_channels": 4, "cap_feat_dim": 12, "axes_dims": [4, 2, 2]}"#;
    let pixart = r#"{"_class_name": "PixArtTransformer2DModel", "num_layers": 2, "attention_head_dim": 6,
        "num_attention_heads": 4, "caption_channels": 20, "cross_attention_dim": 24}"#;
    let dit = r#"{"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero", "num_layers": 2,
        "attention_head_dim": 6, "num_attention_heads": 2, "out_channels": 8, "num_embeds_ada_norm": 10}"#;
    for (what, json) in [
        ("SD3", sd3),
        ("SD3 without norms", &plain),
        ("FLUX", flux),
        ("Z-Image", z_image),
        ("PixArt", pixart),
        ("DiT", dit),
    ] {
        let usual = "SD3Transformer2DModel";
        let config = NetworkConfig::denoiser(json.as_bytes(), "transformer", usual).unwrap();
        let mut bench = Bench::new(Elem::F32, Format::F32);
        let denoiser = config.declare(&mut bench.d);
        let job = Job { images: 1, guided: true, size: [8, 6], tokens: 5, ..Job::default() };
        check(what, bench, denoise_plan(&*denoiser, &target(), job));
    }
}

#[test]
fn text_encoders() {
    let t5 =
        br#"{"model_type": "t5", "feed_forward_proj": "gated-gelu", "d_model": 24, "d_kv": 6, "d_ff": 20,
        "num_layers": 2, "num_heads": 3, "vocab_size": 40}"#;
    let qwen3 =
        br#"{"model_type": "qwen3", "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 40}"#;
    let gemma2 =
        br#"{"model_type": "gemma2", "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 40,
        "attn_logit_softcapping": 0.5}"#;
    for (json, [prompts, tokens], state) in [
        (json("sd-turbo-like", "text_encoder/config.json"), [1, 77], HiddenState::LAST),
        (t5.to_vec(), [2, 9], HiddenState::LAST),
        (qwen3.to_vec(), [2, 9], HiddenState::Behind(&[1, 2])),
        (gemma2.to_vec(), [2, 9], HiddenState::LAST),
    ] {
        let config = NetworkConfig::text(&json, "config.json", "CLIPTextModel").unwrap();
        let mut bench = Bench::new(Elem::F32, Format::F32);
        let encoder = config.declare(&mut bench.d, TextUse { state: None, masked: true });
        check(&format!("{config:?}"), bench, text_plan(&*encoder, &target(), [prompts, tokens], state));
    }
}

#[test]
fn decoders() {
    for model in ["sd-turbo-like", "sdxs-like"] {
        let config = VaeConfig::from_json(&json(model, "vae/config.json"), "vae").unwrap();
        let mut bench = Bench::new(Elem::F32, Format::Q8);
        let decoder = Network::decoder(&mut bench.d, &config);
        check(model, bench, vae_plan(&decoder, &config, &target(), 1, [6, 5]));
    }
}
