//! `tintype inspect` on files that are no models.

use crate::cli::{text, tintype};
use crate::models::folder::Temp;
use crate::models::tensors::{Tensor, Tensors};

#[test]
fn an_inspection_says_what_a_file_is() {
    let temp = Temp::new();
    let half = |name: &str, shape: &[usize]| Tensor::f32(name, shape, &vec![0.0; shape.iter().product()]);
    for (tensors, kind, what, family, unused) in [
        (
            vec![
                half(
                    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight",
                    &[4, 768],
                ),
                half(
                    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight",
                    &[320, 4],
                ),
                half("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha", &[]),
                half("something.else", &[2]),
            ],
            "lora",
            "a LoRA (LoRA)",
            Some("SD 1.x"),
            Some(1),
        ),
        (
            vec![
                half("lora_te2_text_model_encoder_layers_0_mlp_fc1.hada_w1_a", &[4, 4]),
                half("lora_te2_text_model_encoder_layers_0_mlp_fc1.dora_scale", &[4]),
            ],
            "lora",
            "a LoRA (LoHa, DoRA)",
            Some("SDXL"),
            Some(0),
        ),
        (
            vec![half("emb_params", &[3, 1024])],
            "embedding",
            "a learned embedding of 3 vectors",
            Some("SD 2.x"),
            Some(0),
        ),
        (
            vec![half("clip_l", &[2, 768]), half("clip_g", &[2, 1280])],
            "embedding",
            "a learned embedding of 2 vectors",
            Some("SDXL"),
            Some(0),
        ),
        (
            vec![half("control_model.input_hint_block.0.weight", &[16, 3, 3, 3])],
            "controlnet",
            "a ControlNet under its original names",
            None,
            None,
        ),
        (
            vec![half("image_proj.latents", &[1, 16, 768]), half("ip_adapter.1.to_k_ip.weight", &[320, 768])],
            "ip-adapter",
            "an IP-Adapter plus",
            None,
            None,
        ),
        (
            vec![half("adapter.body.0.in_conv.weight", &[4])],
            "adapter",
            "a T2I-Adapter in the diffusers layout",
            None,
            None,
        ),
        (
            vec![
                half("base_model.model.unet.mid_block.to_q.lora_A.style.weight", &[4, 8]),
                half("base_model.model.unet.mid_block.to_q.lora_B.style.weight", &[8, 4]),
                half("base_model.model.unet.mid_block.to_q.lora_B.style.bias", &[8]),
                half("base_model.model.unet.mid_block.to_q.lora_magnitude_vector.style.weight", &[8]),
            ],
            "lora",
            "a LoRA (LoRA, DoRA)",
            None,
            Some(0),
        ),
        (vec![half("x.oft_blocks", &[2])], "unsupported", "a LoRA (OFT)", None, None),
        (
            vec![half("emp_params", &[2, 768]), half("something.else", &[2])],
            "embedding",
            "a learned embedding of 2 vectors",
            Some("SD 1.x"),
            Some(1),
        ),
        (
            vec![half("bundle_emb.a.string_to_param.*", &[2, 768]), half("bundle_emb.b.emb_params", &[768])],
            "embedding",
            "a learned embedding of 2 vectors",
            Some("SD 1.x"),
            Some(0),
        ),
        (vec![half("a", &[2]), half("b", &[2])], "unknown", "no file that is known here", None, Some(2)),
    ] {
        temp.write("x.safetensors", Tensors(tensors).bytes());
        let output =
            tintype(&["inspect", "--json", temp.path("x.safetensors").to_str().unwrap()]).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!([&told["kind"], &told["what"]], [kind, what]);
        assert_eq!(told["family"].as_str(), family, "{what}");
        assert_eq!(told["unused"].as_array().map(Vec::len), unused, "{what}");
        assert!(unused.is_some() || told["unused"].is_null(), "{told}");
        let output = tintype(&["inspect", temp.path("x.safetensors").to_str().unwrap()]).output().unwrap();
        let line = unused.map_or("unused: not looked at".to_owned(), |unused| format!("unused: {unused}"));
        assert!(text(&output.stdout).lines().any(|l| l == line), "{what}");
    }
}
