//! LoRA files alone: whose module a tensor is, by each naming, and what is refused.

use super::*;

pub const FILE: &str = "style.safetensors";

/// A tensor's name, shape and values.
pub type Entry<'a> = (&'a str, &'a [usize], &'a [f32]);

pub fn read(tensors: &[Entry<'_>]) -> Result<Lora> {
    block_on(Lora::read(&folder(&[(FILE, floats(tensors))]), FILE, Hooks::NONE))
}

#[test]
fn names_of_every_naming() {
    const UNET: &str = "down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0";
    const DOTS: &str = "down_blocks.0.attentions.1.transformer_blocks.0.attn1";
    const TEXT: &str = "text_model_encoder_layers_3_self_attn_out_proj";
    const LAYER: &str = "text_model.encoder.layers.3.self_attn";
    let kohya = [".lora_down.weight", ".lora_up.weight"];
    let peft = [".lora_A.weight", ".lora_B.weight"];
    let named = [".lora_A.default.weight", ".lora_B.default.weight"];
    let old = ["_lora.down.weight", "_lora.up.weight"];
    let dots = [".lora.down.weight", ".lora.up.weight"];
    let linear = [".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"];
    let cases = [
        (format!("lora_unet_{UNET}"), kohya, "unet", UNET),
        (format!("lycoris_{UNET}"), kohya, "unet", UNET),
        (format!("lycoris_unet_{UNET}"), kohya, "unet", UNET),
        (format!("unet.{DOTS}.to_out.0"), dots, "unet", UNET),
        (format!("unet.{DOTS}.to_out.0"), [".lora_A", ".lora_B"], "unet", UNET),
        (format!("unet.{DOTS}.processor.to_out"), old, "unet", UNET),
        (format!("{DOTS}.processor.to_out"), old, "unet", UNET),
        (format!("{DOTS}.to_out.0"), peft, "unet", UNET),
        (format!("base_model.model.{DOTS}.to_out.0"), named, "unet", UNET),
        (format!("base_model.model.unet.{DOTS}.to_out.0"), peft, "unet", UNET),
        (format!("unet.base_model.model.{DOTS}.to_out.0"), peft, "unet", UNET),
        (format!("diffusion_model.{DOTS}.to_out.0"), peft, "unet", UNET),
        (format!("lora_te_{TEXT}"), kohya, "text_encoder", TEXT),
        (format!("lora_te1_{TEXT}"), kohya, "text_encoder", TEXT),
        (format!("lora_te2_{TEXT}"), kohya, "text_encoder_2", TEXT),
        (format!("lycoris_te2_{TEXT}"), kohya, "text_encoder_2", TEXT),
        (format!("text_encoder.{LAYER}.to_out"), old, "text_encoder", TEXT),
        (format!("text_encoder.{LAYER}.out_proj"), linear, "text_encoder", TEXT),
        (format!("text_encoder_2.{LAYER}.out_proj"), dots, "text_encoder_2", TEXT),
        (format!("base_model.model.{LAYER}.out_proj"), peft, "text_encoder", TEXT),
        (format!("text_encoders.clip_g.transformer.{LAYER}.out_proj"), kohya, "text_encoder_2", TEXT),
        (
            "text_encoder.encoder.layers.3.self_attn.out_proj".to_owned(),
            linear,
            "text_encoder",
            "encoder_layers_3_self_attn_out_proj",
        ),
        (
            "base_model.model.encoder.layers.3.mlp.fc1".to_owned(),
            peft,
            "text_encoder",
            "encoder_layers_3_mlp_fc1",
        ),
        ("lora_te2_text_projection".to_owned(), kohya, "text_encoder_2", "text_projection"),
    ];
    for (name, ends, component, path) in cases {
        let [down, up] = ends.map(|end| format!("{name}{end}"));
        let lora = read(&[(&down, &[2, 3], &[1.0; 6]), (&up, &[4, 2], &[2.0; 8])]).unwrap();
        let [module] = &lora.modules[..] else { panic!("{name}: {} modules", lora.modules.len()) };
        assert_eq!((module.component, module.path.as_str()), (component, path), "{name}");
        assert!(module.weight.is_some() && module.alpha.is_none(), "{name}");
        lora.check_components(&["unet", "text_encoder", "text_encoder_2"]).unwrap();
        let e = lora.check_components(&["vae"]).unwrap_err();
        assert!([FILE, down.as_str(), component, "vae"].iter().all(|w| e.message.contains(w)), "{e}");
    }
}

/// An adapter's name may stand behind the parts of every kind.
#[test]
fn a_default_adapter() {
    let lora =
        read(&[("unet.a.lokr_w1.default", &[1, 1], &[2.0]), ("unet.a.lokr_w2.default", &[1, 1], &[3.0])]);
    assert_eq!(lora.unwrap().modules[0].path, "a");
}

/// peft's names of an adapter stand between a matrix and what of it this is, which is its weight or its bias.
#[test]
fn names_of_adapters() {
    let pair =
        [("unet.a.lora_A.x.y.weight", &[1, 1][..], &[1.0][..]), ("unet.a.lora_B.weight", &[1, 1], &[1.0])];
    for (name, is_part) in [
        ("unet.a.lora_B.x.bias", true),
        ("unet.a.lora_magnitude_vector.x", true),
        ("unet.a.lora_magnitude_vector.x.weight", true),
        ("unet.a.lora_B.x.weight_scale", false),
        ("unet.a.lora_A.x", false),
    ] {
        let told = std::cell::RefCell::new(vec![]);
        let hooks = Hooks { warn: &|warning| told.borrow_mut().push(warning.message), ..Hooks::NONE };
        let file = floats(&[pair[0], pair[1], (name, &[1], &[2.0])]);
        let lora = block_on(Lora::read(&folder(&[(FILE, file)]), FILE, hooks)).unwrap();
        let [module] = &lora.modules[..] else { panic!("{name}: {} modules", lora.modules.len()) };
        assert_eq!(module.bias.is_some() || module.magnitude.is_some(), is_part, "{name}");
        assert_eq!(told.take().iter().any(|m| m.contains(name)), !is_part, "{name}");
    }
}

/// A file that was never trained, and one of which all is for other networks.
#[test]
fn what_changes_nothing_is_said() {
    for (up, count) in [(0.0, 1), (1.0, 0)] {
        let told = std::cell::RefCell::new(vec![]);
        let hooks = Hooks { warn: &|warning| told.borrow_mut().push(warning), ..Hooks::NONE };
        let file = floats(&[
            ("lora_te2_a.lora_down.weight", &[1, 1], &[1.0]),
            ("lora_te2_a.lora_up.weight", &[1, 1], &[up]),
        ]);
        let lora = block_on(Lora::read(&folder(&[(FILE, file)]), FILE, hooks)).unwrap();
        let told: Vec<crate::warning::Warning> = told.take();
        assert_eq!(told.len(), count);
        assert!(
            told.iter().all(|w| w.message.contains(FILE) && w.code == crate::warning::Topic::Unused),
            "{told:?}"
        );
        let e = lora.check_components(&["unet"]).unwrap_err();
        assert!(e.message.contains("lora_te2_a"), "{e}");
    }
}

#[test]
fn half_pairs_wrong_shapes_and_relatives() {
    const A: &str = "unet.a.lora_A.weight";
    const B: &str = "unet.a.lora_B.weight";
    const OTHER: &str = "lora_unet_a.lora_down.weight";
    type Case<'a> = (&'a [Entry<'a>], Code, &'a [&'a str]);
    let cases: [Case<'_>; 24] = [
        (&[], InvalidModel, &["no LoRA"]),
        (&[(A, &[1, 1], &[1.0])], InvalidModel, &[A, "other"]),
        (&[(B, &[1, 1], &[1.0])], InvalidModel, &[B, "other"]),
        (&[("unet.a.alpha", &[], &[1.0])], InvalidModel, &["unet.a.alpha", "missing"]),
        (&[("unet.a.dora_scale", &[1], &[1.0])], InvalidModel, &["unet.a.dora_scale", "missing"]),
        (&[(A, &[2], &[1.0; 2]), (B, &[1, 2], &[1.0; 2])], InvalidModel, &[A, "[rank, inputs]", "[2]"]),
        (&[(A, &[2, 1], &[1.0; 2]), (B, &[2, 1], &[1.0; 2])], InvalidModel, &[B, "[outputs, 2]", "[2, 1]"]),
        (
            &[(A, &[1, 1], &[1.0]), (B, &[1, 1, 3, 3], &[1.0; 9])],
            InvalidModel,
            &[B, "[outputs, 1, 1, 1]", "[1, 1, 3, 3]"],
        ),
        (&[(A, &[1, 1], &[1.0]), (OTHER, &[1], &[1.0])], InvalidModel, &[A, "one module"]),
        (
            &[(A, &[1, 1], &[1.0]), (B, &[1, 1], &[1.0]), ("unet.a.alpha", &[2], &[1.0; 2])],
            InvalidModel,
            &["unet.a.alpha", "one number", "[2]"],
        ),
        (
            &[(A, &[1, 1], &[1.0]), (B, &[1, 1], &[1.0]), ("unet.a.diff", &[1, 1], &[1.0])],
            InvalidModel,
            &["unet.a.diff", "another kind"],
        ),
        (
            &[("lora_unet_a.hada_w1_a", &[1, 1], &[1.0])],
            InvalidModel,
            &["lora_unet_a.hada_w1_a", "hada_w1_b"],
        ),
        (&[("lora_unet_a.lokr_w1", &[1, 1], &[1.0])], InvalidModel, &["lokr_w2_a"]),
        (
            &[("lora_unet_a.lokr_w1", &[0, 1], &[]), ("lora_unet_a.lokr_w2", &[1, 1], &[1.0])],
            InvalidModel,
            &["[0, 1]"],
        ),
        (
            &[
                ("unet.a.lokr_w1", &[1, 1], &[1.0]),
                ("unet.a.lokr_w1_a", &[1, 1], &[1.0]),
                ("unet.a.lokr_w2", &[1, 1], &[1.0]),
            ],
            InvalidModel,
            &["unet.a.lokr_w1_a", "another tensor in the place"],
        ),
        (
            &[("unet.a.diff_b", &[1], &[1.0]), ("unet.a.lora_B.bias", &[1], &[1.0])],
            InvalidModel,
            &["unet.a.lora_B.bias", "another tensor in the place"],
        ),
        (
            &[
                ("unet.a.diff", &[1, 1], &[1.0]),
                ("unet.a.dora_scale", &[1], &[1.0]),
                ("unet.a.lora_magnitude_vector", &[1], &[1.0]),
            ],
            InvalidModel,
            &["unet.a.lora_magnitude_vector", "another tensor in the place"],
        ),
        (&[("lora_unet_a.oft_blocks", &[1], &[1.0])], Unsupported, &["lora_unet_a.oft_blocks", "OFT"]),
        (&[("unet.a.oft_R.default.weight", &[1], &[1.0])], Unsupported, &["OFT"]),
        (&[("lora_unet_a.a1.weight", &[1], &[1.0])], Unsupported, &["lora_unet_a.a1.weight", "GLoRA"]),
        (&[("lora_unet_a.on_input", &[1], &[1.0])], Unsupported, &["lora_unet_a.on_input", "IA3"]),
        (&[("unet.a.ia3_l.weight", &[1], &[1.0])], Unsupported, &["IA3"]),
        (&[("unet.a.lora_embedding_A.weight", &[1], &[1.0])], Unsupported, &["embedding"]),
        (&[("model.weight", &[1], &[1.0])], InvalidModel, &["model.weight", "not a tensor that a LoRA has"]),
    ];
    for (tensors, code, words) in cases {
        let e = read(tensors).unwrap_err();
        assert_eq!(e.code, code, "{e}");
        assert!(words.iter().chain(&[FILE]).all(|w| e.message.contains(w)), "{words:?}: {e}");
    }
}
