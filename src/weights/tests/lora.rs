//! LoRA files alone: whose module a tensor is, by each naming, and what is refused.

use super::*;

const FILE: &str = "style.safetensors";

fn read(tensors: &[(&str, &[usize], &[f32])]) -> Result<Lora> {
    block_on(Lora::read(&folder(&[(FILE, floats(tensors))]), FILE, Hooks::NONE))
}

#[test]
fn names_of_every_kind() {
    const UNET: &str = "down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0";
    const DOTS: &str = "down_blocks.0.attentions.1.transformer_blocks.0.attn1";
    const TEXT: &str = "text_model_encoder_layers_3_self_attn_out_proj";
    const LAYER: &str = "text_model.encoder.layers.3.self_attn";
    let cases = [
        (format!("lora_unet_{UNET}.lora_%.weight"), "unet", UNET),
        (format!("unet.{DOTS}.to_out.0.lora.%.weight"), "unet", UNET),
        (format!("unet.{DOTS}.processor.to_out_lora.%.weight"), "unet", UNET),
        (format!("{DOTS}.processor.to_out_lora.%.weight"), "unet", UNET),
        (format!("lora_te_{TEXT}.lora_%.weight"), "text_encoder", TEXT),
        (format!("lora_te1_{TEXT}.lora_%.weight"), "text_encoder", TEXT),
        (format!("lora_te2_{TEXT}.lora_%.weight"), "text_encoder_2", TEXT),
        (format!("text_encoder.{LAYER}.to_out_lora.%.weight"), "text_encoder", TEXT),
        (format!("text_encoder.{LAYER}.out_proj.lora_linear_layer.%.weight"), "text_encoder", TEXT),
        (format!("text_encoder_2.{LAYER}.out_proj.lora.%.weight"), "text_encoder_2", TEXT),
    ];
    for (name, component, path) in cases {
        let [down, up] = ["down", "up"].map(|half| name.replace('%', half));
        let lora = read(&[(&down, &[2, 3], &[1.0; 6]), (&up, &[4, 2], &[2.0; 8])]).unwrap();
        let [module] = &lora.modules[..] else { panic!("{name}: {} modules", lora.modules.len()) };
        assert_eq!((module.component, module.path.as_str()), (component, path), "{name}");
        assert_eq!((module.down.values[0], module.up.values[0], module.factor), (1.0, 2.0, 1.0), "{name}");
        lora.check_components(&["unet", "text_encoder", "text_encoder_2"]).unwrap();
        let e = lora.check_components(&["vae"]).unwrap_err();
        assert!([FILE, down.as_str(), component, "vae"].iter().all(|w| e.message.contains(w)), "{e}");
    }
}

#[test]
fn alpha_is_over_the_rank() {
    for alpha in ["unet.a.alpha", "lora_unet_a.alpha"] {
        let lora = read(&[
            ("unet.a.lora_A.weight", &[4, 1], &[1.0; 4]),
            ("unet.a.lora_B.weight", &[1, 4], &[1.0; 4]),
            (alpha, &[], &[2.0]),
        ]);
        assert_eq!(lora.unwrap().modules[0].factor, 0.5);
    }
}

#[test]
fn half_pairs_wrong_shapes_and_relatives() {
    const A: &str = "unet.a.lora_A.weight";
    const B: &str = "unet.a.lora_B.weight";
    type Case<'a> = (&'a [(&'a str, &'a [usize], &'a [f32])], Code, &'a [&'a str]);
    let cases: [Case<'_>; 11] = [
        (&[], InvalidModel, &["no LoRA"]),
        (&[(A, &[1, 1], &[1.0])], InvalidModel, &[A, "other"]),
        (&[(B, &[1, 1], &[1.0])], InvalidModel, &[B, "other"]),
        (&[("unet.a.alpha", &[], &[1.0])], InvalidModel, &["unet.a.alpha", "both"]),
        (&[(A, &[2], &[1.0; 2]), (B, &[1, 2], &[1.0; 2])], InvalidModel, &[A, "[rank, inputs]", "[2]"]),
        (&[(A, &[2, 1], &[1.0; 2]), (B, &[2, 1], &[1.0; 2])], InvalidModel, &[B, "[outputs, 2]", "[2, 1]"]),
        (
            &[(A, &[1, 1], &[1.0]), (B, &[1, 1, 3, 3], &[1.0; 9])],
            InvalidModel,
            &[B, "[outputs, 1, 1, 1]", "[1, 1, 3, 3]"],
        ),
        (
            &[(A, &[1, 1], &[1.0]), ("lora_unet_a.lora_down.weight", &[1], &[1.0])],
            InvalidModel,
            &[A, "one module"],
        ),
        (
            &[(A, &[1, 1], &[1.0]), (B, &[1, 1], &[1.0]), ("unet.a.alpha", &[2], &[1.0; 2])],
            InvalidModel,
            &["unet.a.alpha", "one number", "[2]"],
        ),
        (&[("lora_unet_a.hada_w1_a", &[1], &[1.0])], Unsupported, &["lora_unet_a.hada_w1_a"]),
        (&[("model.weight", &[1], &[1.0])], InvalidModel, &["model.weight", "not a tensor that a LoRA has"]),
    ];
    for (tensors, code, words) in cases {
        let e = read(tensors).unwrap_err();
        assert_eq!(e.code, code, "{e}");
        assert!(words.iter().chain(&[FILE]).all(|w| e.message.contains(w)), "{words:?}: {e}");
    }
}

/// However the rows come, in however many slabs, each gets the same bits.
#[test]
fn slabs_do_not_show() {
    const ROWS: usize = 37;
    const WIDTH: usize = 1200;
    let number = |i: usize| (i * 29 % 101) as f32 / 100.0 - 0.5;
    let down: Vec<f32> = (0..3 * WIDTH).map(number).collect();
    let up: Vec<f32> = (0..ROWS * 3).map(|i| number(i + 7)).collect();
    let lora =
        read(&[("unet.a.lora_A.weight", &[3, WIDTH], &down), ("unet.a.lora_B.weight", &[ROWS, 3], &up)])
            .unwrap();
    let mut d = Declarations::new(crate::quant::Format::F32);
    let parts = weight_and_bias("a", vec![ROWS, WIDTH], false, Rows::From(0), Columns::Same);
    d.matrix(ROWS as u32, WIDTH as u32, 1, parts);
    let merge = Merge::new(&d, 0, "unet", &[Adapter { lora: &lora, scale: 0.9 }]).unwrap();
    let weights: Vec<f32> = (0..ROWS * WIDTH).map(|i| number(i + 3)).collect();
    let mut wanted = weights.clone();
    for (i, value) in wanted.iter_mut().enumerate() {
        let sum = (0..3).fold(0.0, |sum, r| sum + up[i / WIDTH * 3 + r] * down[r * WIDTH + i % WIDTH]);
        *value += 0.9 * sum;
    }
    for step in [1, 5, 8, ROWS] {
        let mut data = weights.clone();
        for (i, rows) in data.chunks_mut(step * WIDTH).enumerate() {
            merge.add((0, 0), i * step, WIDTH, rows);
        }
        assert!(data == wanted, "slabs of {step}");
    }
}
