//! LoRA files alone: whose module a tensor is, by each naming, and what is refused.

use super::*;

const FILE: &str = "style.safetensors";

/// A tensor's name, shape and values.
type Entry<'a> = (&'a str, &'a [usize], &'a [f32]);

fn read(tensors: &[Entry<'_>]) -> Result<Lora> {
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

/// What is merged of tensors into zeros of this shape, with this scale.
fn merged(tensors: &[Entry<'_>], shape: &[usize], scale: f32) -> Result<Vec<f32>> {
    let lora = read(tensors)?;
    let mut d = Declarations::new(crate::quant::Format::F32);
    let parts = weight_and_bias("a", shape.to_vec(), true, Rows::From(0), Columns::Same);
    let row_len: usize = shape[1..].iter().product();
    d.matrix(shape[0] as u32, shape[1] as u32, row_len as u32 / shape[1] as u32, parts);
    let merge = Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale }])?;
    let mut data = vec![0.0; shape[0] * row_len];
    merge.add((0, 0), 0, row_len, &mut data)?;
    Ok(data)
}

#[test]
fn alpha_is_over_the_rank() {
    for alpha in ["unet.a.alpha", "lora_unet_a.alpha"] {
        for shape in [&[][..], &[1]] {
            let tensors: [Entry<'_>; 3] = [
                ("unet.a.lora_A.weight", &[4, 1], &[1.0; 4]),
                ("unet.a.lora_B.weight", &[1, 4], &[1.0; 4]),
                (alpha, shape, &[2.0]),
            ];
            assert_eq!(merged(&tensors, &[1, 1], 1.0).unwrap(), [2.0]);
        }
    }
    // Of LoKr the rank is that of the second matrix, and two whole matrices have none.
    let (one, alpha) = (("unet.a.lokr_w1", &[1, 1][..], &[1.0][..]), ("unet.a.alpha", &[][..], &[8.0][..]));
    let thin = [("unet.a.lokr_w2_a", &[1, 2][..], &[1.0; 2][..]), ("unet.a.lokr_w2_b", &[2, 1], &[1.0; 2])];
    assert_eq!(merged(&[one, thin[0], thin[1], alpha], &[1, 1], 1.0).unwrap(), [8.0]);
    assert_eq!(merged(&[one, ("unet.a.lokr_w2", &[1, 1], &[3.0]), alpha], &[1, 1], 1.0).unwrap(), [3.0]);
    assert_eq!(merged(&[("unet.a.diff", &[1, 1], &[3.0]), alpha], &[1, 1], 0.5).unwrap(), [1.5]);
}

#[test]
fn a_bias_of_a_layer_that_has_none_is_said() {
    let mut d = Declarations::new(crate::quant::Format::F32);
    d.matrix(1, 1, 1, weight_and_bias("a", vec![1, 1], false, Rows::From(0), Columns::Same));
    for (bias, wanted) in [
        (
            1.0,
            "1 of its 1 modules for the unet are used without their biases, the first is unet.a.lora_A.weight",
        ),
        (0.0, ""),
    ] {
        let tensors: [Entry<'_>; 3] = [
            ("unet.a.lora_A.weight", &[1, 1], &[1.0]),
            ("unet.a.lora_B.weight", &[1, 1], &[1.0]),
            ("unet.a.lora_B.bias", &[1], &[bias]),
        ];
        let lora = read(&tensors).unwrap();
        let told = Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale: 1.0 }]).unwrap().warnings;
        assert_eq!(told.len(), usize::from(!wanted.is_empty()));
        assert!(told.iter().all(|w| w.message.contains(wanted) && w.message.starts_with(FILE)), "{told:?}");
    }
}

/// What is not finite, or becomes so, is an error that names the file and the tensor; not where it does not count.
#[test]
fn what_is_not_finite_is_named() {
    const A: &str = "unet.a.lora_A.weight";
    const B: &str = "unet.a.lora_B.weight";
    const ALPHA: &str = "unet.a.alpha";
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let flawed: [(&str, [Entry<'_>; 3]); 3] = [
            (A, [(A, &[1, 2], &[1.0, value]), (B, &[1, 1], &[1.0]), (ALPHA, &[], &[1.0])]),
            (B, [(A, &[1, 2], &[1.0, 1.0]), (B, &[1, 1], &[value]), (ALPHA, &[], &[1.0])]),
            (ALPHA, [(A, &[1, 2], &[1.0, 1.0]), (B, &[1, 1], &[1.0]), (ALPHA, &[], &[value])]),
        ];
        for (name, tensors) in flawed {
            let e = merged(&tensors, &[1, 2], 1.0).unwrap_err();
            assert_eq!(e.code, Code::NotFinite, "{e}");
            assert!([FILE, name].iter().all(|w| e.message.contains(w)), "{e}");
            // A tensor without a finite value is damaged, whatever it counts.
            let unused = merged(&tensors, &[1, 2], 0.0);
            assert_eq!(
                unused.map_err(|e| e.code),
                if name == A { Ok(vec![0.0; 2]) } else { Err(Code::NotFinite) }
            );
        }
    }
    // Each value is finite, what comes of them is not.
    let tensors: [Entry<'_>; 3] = [(A, &[1, 2], &[1.0, 1e20]), (B, &[1, 1], &[1e10]), (ALPHA, &[], &[1e10])];
    let e = merged(&tensors, &[1, 2], 1.0).unwrap_err();
    assert_eq!(e.code, Code::NotFinite, "{e}");
    assert!([FILE, "unet.a.", "a.weight", "inf", "10000000000"].iter().all(|w| e.message.contains(w)), "{e}");
    assert!(merged(&tensors, &[1, 2], 1e-10).is_ok());
}

/// However the rows come, in however many slabs, each gets the same bits; of a DoRA that measures inputs the rows
/// are handed on when all have come.
#[test]
fn slabs_do_not_show() {
    const ROWS: usize = 37;
    const WIDTH: usize = 1200;
    let number = |i: usize| (i * 29 % 101) as f32 / 100.0 - 0.5;
    let numbers = |salt: usize, count: usize| (0..count).map(|i| number(i + salt)).collect::<Vec<f32>>();
    let (down, up) = (numbers(0, 3 * WIDTH), numbers(7, ROWS * 3));
    let pair =
        [("unet.a.lora_A.weight", &[3, WIDTH][..], &down[..]), ("unet.a.lora_B.weight", &[ROWS, 3], &up)];
    let (outputs, inputs) = (numbers(11, ROWS), numbers(13, WIDTH));
    let mut d = Declarations::new(crate::quant::Format::F32);
    let parts = weight_and_bias("a", vec![ROWS, WIDTH], false, Rows::From(0), Columns::Same);
    d.matrix(ROWS as u32, WIDTH as u32, 1, parts);
    let weights = numbers(3, ROWS * WIDTH);
    for magnitude in [
        None,
        Some(("unet.a.dora_scale", &[ROWS, 1][..], &outputs[..])),
        Some(("unet.a.dora_scale", &[1, WIDTH], &inputs)),
        Some(("unet.a.lora_magnitude_vector.weight", &[ROWS], &outputs)),
    ] {
        let lora = read(&pair.iter().copied().chain(magnitude).collect::<Vec<_>>()).unwrap();
        let adapters = [Adapter { lora: &lora, scale: 0.9 }];
        let merge = Merge::new(&d, 0, "unet", &adapters).unwrap();
        let mut wanted = weights.clone();
        merge.add((0, 0), 0, WIDTH, &mut wanted).unwrap();
        if magnitude.is_none() {
            let mut by_hand = weights.clone();
            for (i, value) in by_hand.iter_mut().enumerate() {
                let sum =
                    (0..3).fold(0.0, |sum, r| sum + up[i / WIDTH * 3 + r] * down[r * WIDTH + i % WIDTH]);
                *value += 0.9 * sum;
            }
            assert!(wanted == by_hand);
        }
        for step in [1, 5, 8, ROWS] {
            let mut merge = Merge::new(&d, 0, "unet", &adapters).unwrap();
            let mut got = vec![];
            for (i, rows) in weights.chunks(step * WIDTH).enumerate() {
                let mut next = |first_row: usize, rows: &[f32]| {
                    assert_eq!(first_row * WIDTH, got.len());
                    got.extend_from_slice(rows);
                    Ok(())
                };
                merge.slab((0, 0), i * step, WIDTH, rows, &mut next).unwrap();
            }
            assert!(got == wanted, "slabs of {step} with {magnitude:?}");
        }
    }
}

/// A weight as long as a vector says, in numbers that can be seen through.
#[test]
fn lengths_by_hand() {
    let pair = [
        ("unet.a.lora_A.weight", &[1, 2][..], &[1.0, 0.0][..]),
        ("unet.a.lora_B.weight", &[2, 1], &[3.0, 0.0]),
    ];
    let merged = |name: &str, shape: &[usize], lengths: &[f32], scale: f32| {
        let lora = read(&[pair[0], pair[1], (name, shape, lengths)])?;
        let mut d = Declarations::new(crate::quant::Format::F32);
        let parts = weight_and_bias("a", vec![2, 2], false, Rows::From(0), Columns::Same);
        d.matrix(2, 2, 1, parts);
        let mut data = vec![0.0, 4.0, 0.0, 3.0];
        Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale }])?.add((0, 0), 0, 2, &mut data)?;
        Ok::<_, Error>(data)
    };
    // W + d is [3, 4] and [0, 3]: rows of length 5 and 3, columns of 3 and 5.
    assert_eq!(merged("unet.a.dora_scale", &[2, 1], &[10.0, 3.0], 1.0).unwrap(), [6.0, 8.0, 0.0, 3.0]);
    assert_eq!(merged("unet.a.dora_scale", &[2], &[10.0, 3.0], 1.0).unwrap(), [6.0, 8.0, 0.0, 3.0]);
    assert_eq!(merged("unet.a.dora_scale", &[1, 2], &[6.0, 5.0], 1.0).unwrap(), [6.0, 4.0, 0.0, 3.0]);
    // Half of the way, as ComfyUI goes it.
    assert_eq!(merged("unet.a.dora_scale", &[2, 1], &[10.0, 3.0], 0.5).unwrap(), [3.0, 6.0, 0.0, 3.0]);
    // peft's scale is one of d.
    assert_eq!(
        merged("unet.a.lora_magnitude_vector", &[2], &[10.0, 3.0], 1.0).unwrap(),
        [6.0, 8.0, 0.0, 3.0]
    );
    let half = merged("unet.a.lora_magnitude_vector", &[2], &[4.272002, 3.0], 0.5).unwrap();
    assert!(half.iter().zip([1.5, 4.0, 0.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{half:?}");
    for shape in [&[3][..], &[1, 3], &[2, 2]] {
        let e = merged("unet.a.dora_scale", shape, &vec![1.0; shape.iter().product()], 1.0).unwrap_err();
        assert!(e.code == InvalidModel && e.message.contains("[2, 1] or [1, 2] for a.weight"), "{e}");
    }
}

/// A header may say that every module has a length, which the file then must have.
#[test]
fn lengths_that_a_header_promises() {
    let header = |dora: bool| {
        let entries = r#""unet.a.lora_A.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
            "unet.a.lora_B.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]}"#;
        let settings = format!(r#"{{\"unet.lora_alpha\": 3, \"unet.r\": 1, \"unet.use_dora\": {dora}}}"#);
        format!(r#"{{"__metadata__": {{"lora_adapter_metadata": "{settings}"}}, {entries}}}"#)
    };
    let data = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
    let mut d = Declarations::new(crate::quant::Format::F32);
    d.matrix(1, 1, 1, weight_and_bias("a", vec![1, 1], false, Rows::From(0), Columns::Same));
    let merged = |dora: bool| {
        let lora = block_on(Lora::read(&folder(&[(FILE, raw(&header(dora), &data))]), FILE, Hooks::NONE))?;
        let mut data = [0.5];
        Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale: 1.0 }])?.add((0, 0), 0, 1, &mut data)?;
        Ok::<_, Error>(data)
    };
    assert_eq!(merged(false).unwrap(), [6.5]);
    let e = merged(true).unwrap_err();
    let words = [FILE, "unet.a.lora_A.weight", "use_dora", "lora_magnitude_vector"];
    assert!(e.code == InvalidModel && words.iter().all(|w| e.message.contains(w)), "{e}");
}

/// Files name a text encoder's modules with the model inside the model or without.
#[test]
fn text_models_under_two_names() {
    let mut d = Declarations::new(crate::quant::Format::F32);
    d.matrix(1, 1, 1, weight_and_bias("text_model.a", vec![1, 1], false, Rows::From(0), Columns::Same));
    let tensors = ["lora_te_text_model_a.diff", "text_encoder.a.diff", "lora_te1_a.diff"];
    for name in tensors {
        let lora = read(&[(name, &[1, 1], &[2.0])]).unwrap();
        let mut data = [0.5];
        let merge = Merge::new(&d, 0, "text_encoder", &[Adapter { lora: &lora, scale: 1.0 }]).unwrap();
        merge.add((0, 0), 0, 1, &mut data).unwrap();
        assert_eq!(data, [2.5], "{name}");
    }
    let lora = read(&[(tensors[0], &[1, 1], &[2.0]), (tensors[1], &[1, 1], &[2.0])]).unwrap();
    let e = Merge::new(&d, 0, "text_encoder", &[Adapter { lora: &lora, scale: 1.0 }]).err().unwrap();
    let words = [FILE, tensors[0], tensors[1], "one module"];
    assert!(e.code == InvalidModel && words.iter().all(|w| e.message.contains(w)), "{e}");
}
