//! Values that are no numbers, and numbers of other types than halves and floats.

use half::f16;
use pollster::block_on;
use tintype::device::Device;
use tintype::error::Code;
use tintype::pipeline::{Additions, FileIn, LoadOptions, Pipeline};
use tintype::weights::{DiskFolder, Hooks};

use super::{assert_same, draw, load, request};
use crate::cli::tintype;
use crate::models::folder::Temp;
use crate::models::tensors::{Tensor, Tensors};

const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";
const TEXT: &str = "text_encoder/model.fp16.safetensors";
const TOKENS: &str = "text_model.embeddings.token_embedding.weight";

/// A model with some values of a tensor in halves replaced.
fn spoilt(file: &str, tensor: &str, value: f32, at: impl Fn(usize) -> bool) -> Temp {
    let model = Temp::model("sd15-like");
    model.tensors(file, |tensors| {
        for (_, half) in tensors.get(tensor).bytes.chunks_exact_mut(2).enumerate().filter(|(i, _)| at(*i)) {
            half.copy_from_slice(&f16::from_f32(value).to_le_bytes());
        }
    });
    model
}

#[test]
fn the_first_tensor_is_told_and_nothing_comes_of_one_that_has_no_number() {
    let model = spoilt(UNET, "mid_block.resnets.0.conv1.weight", f32::NAN, |i| i == 5 || i == 700);
    let warnings = load(&model, &Additions::default()).unwrap().warnings().to_vec();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(warning.code.as_str(), "not-finite");
    let tensor = format!("{UNET}: 'mid_block.resnets.0.conv1.weight'");
    assert_eq!(warning.message, format!("{tensor}: wanted finite numbers, found 2 infinities or NaNs"));
    let model = spoilt(UNET, "mid_block.resnets.0.conv1.weight", f32::INFINITY, |_| true);
    let e = load(&model, &Additions::default()).err().unwrap();
    assert_eq!(e.code, Code::NotFinite);
    assert!(e.message.starts_with(&format!("{tensor}: wanted finite numbers, found none")), "{e}");
}

/// A checkpoint in floats may have what no half holds, in a matrix or a table, beside what is not finite anyhow.
#[test]
fn what_becomes_infinite_in_halves_is_told() {
    for (file, name, value, formats) in [
        (UNET, "mid_block.resnets.0.conv1.weight", 70_000f32, &[("f16", "65519, the largest of f16")][..]),
        (
            UNET,
            "up_blocks.2.resnets.2.conv1.weight",
            500_000.0,
            &[("f16", "65519, the largest of f16"), ("q4", "458633, the largest of q4")],
        ),
        (TEXT, TOKENS, -70_000.0, &["f16", "q8", "q4"].map(|weights| (weights, "65519, the largest of f16"))),
    ] {
        let model = Temp::model("sd15-like");
        model.tensors(file, |tensors| {
            let tensor = tensors.get(name);
            tensor.convert("F32");
            tensor.bytes[..4].copy_from_slice(&value.to_le_bytes());
            tensor.bytes[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
        });
        let (tensor, found) =
            (format!("{file}: '{name}': wanted"), "found 1 that become infinite: f32 holds them");
        for weights in ["f32", "f16", "q8", "q4"] {
            let options = LoadOptions::parse(weights, "f32").unwrap();
            let folder = DiskFolder::new(&model.0);
            let loading = Pipeline::load(&Device::Cpu, &folder, &options, Hooks::NONE);
            let told =
                block_on(loading).unwrap().warnings().iter().map(|w| w.message.clone()).collect::<Vec<_>>();
            let mut wanted = vec![format!("{tensor} finite numbers, found 1 infinities or NaNs")];
            let limit = formats.iter().find(|(format, _)| *format == weights);
            wanted.extend(limit.map(|(_, limit)| format!("{tensor} values up to {limit}, {found}")));
            assert_eq!(told, wanted, "{weights}");
        }
    }
}

/// A token that no prompt has may be anything.
#[test]
fn a_row_that_nobody_asks_for_is_a_warning_alone() {
    let request = request("a red fox");
    let wanted = draw(&Temp::model("sd15-like"), &request).unwrap();
    assert_eq!(wanted.warnings, []);
    // The first tokens are control characters.
    let found =
        draw(&spoilt(TEXT, TOKENS, f32::NAN, |i| (28 * 188..28 * 189).contains(&i)), &request).unwrap();
    assert_eq!(found.latents, wanted.latents);
    let [told] = found.told("not-finite")[..] else { panic!("{:?}", found.warnings) };
    assert!(told.starts_with(TEXT) && told.contains(TOKENS) && told.contains("found 28"), "{told}");
}

#[test]
fn a_pack_tells_what_its_model_told() {
    let model = spoilt(UNET, "mid_block.resnets.0.conv1.weight", f32::NAN, |i| i == 5);
    for weights in ["f32", "f16", "q8", "q4"] {
        let temp = Temp::new();
        let out = temp.path("pack");
        let mut pack = tintype(&["pack", "--weights", weights, "--model"]);
        assert!(pack.arg(&model.0).arg("--out").arg(&out).output().unwrap().status.success());
        let options = LoadOptions::parse(weights, "f32").unwrap();
        let folder = DiskFolder::new(&out);
        let loading = Pipeline::load(&Device::Cpu, &folder, &options, Hooks::NONE);
        let warnings = block_on(loading).unwrap().warnings().to_vec();
        let [warning] = &warnings[..] else { panic!("{weights}: {warnings:?}") };
        let wanted = "unet/tintype.safetensors: 'mid_block.resnets.0.conv1.weight'";
        assert!(warning.message.starts_with(wanted), "{weights}: {warning}");
    }
}

#[test]
fn an_embedding_tells_it_too() {
    let temp = Temp::new();
    let tensor = Tensor::f32(
        "<toy>",
        &[1, 28],
        &std::array::from_fn::<f32, 28, _>(|i| if i == 3 { f32::NAN } else { 0.5 }),
    );
    temp.write("toy.safetensors", Tensors(vec![tensor]).bytes());
    let learned = DiskFolder::new(&temp.0);
    let file = FileIn { folder: &learned, path: "toy.safetensors" };
    let additions = Additions { embeddings: vec![file], ..Additions::default() };
    let pipeline = load(&Temp::model("sd15-like"), &additions).unwrap();
    let told: Vec<&str> = pipeline.warnings().iter().map(|w| w.message.as_str()).collect();
    assert_eq!(told, ["toy.safetensors: '<toy>': wanted finite numbers, found 1 infinities or NaNs"]);
}

/// The upper byte of a half is an F8_E5M2; ComfyUI's scales stand beside the weights and a mark.
#[test]
fn weights_of_8_bits_draw_what_their_values_draw() {
    let request = request("a red fox");
    let cut = |bytes: &[u8]| bytes.chunks_exact(2).map(|half| half[1]).collect::<Vec<u8>>();
    let [plain, eight, scaled] = [0, 1, 2].map(|_| Temp::model("sd15-like"));
    plain.tensors(UNET, |tensors| {
        for t in tensors.0.iter_mut().filter(|t| t.name.ends_with(".weight")) {
            t.bytes = cut(&t.bytes).into_iter().flat_map(|byte| [0, byte]).collect();
        }
    });
    for (model, scale) in [(&eight, None), (&scaled, Some(0.25f32))] {
        model.tensors(UNET, |tensors| {
            let mut scales = vec![Tensor {
                name: "scaled_fp8".to_owned(),
                dtype: "F8_E5M2".to_owned(),
                shape: vec![0],
                bytes: vec![],
            }];
            for t in tensors.0.iter_mut().filter(|t| t.name.ends_with(".weight")) {
                (t.bytes, t.dtype) = (cut(&t.bytes), "F8_E5M2".to_owned());
                if let Some(scale) = scale {
                    // Four times the value: two more in the exponent of what is no zero.
                    t.bytes.iter_mut().filter(|byte| **byte & 0x7c != 0).for_each(|byte| *byte += 8);
                    t.bytes.iter_mut().filter(|byte| **byte & 0x7c == 0).for_each(|byte| *byte = 0);
                    let name = t.name.replace(".weight", ".scale_weight");
                    scales.push(Tensor::f32(&name, &[], &[scale]));
                }
            }
            tensors.0.extend(scales.into_iter().filter(|_| scale.is_some()));
        });
    }
    let wanted = draw(&plain, &request).unwrap();
    let found = draw(&eight, &request).unwrap();
    assert_eq!((found.latents, found.warnings), (wanted.latents.clone(), vec![]));
    // Values below the smallest normal one became zeros.
    assert_same("scaled", &draw(&scaled, &request).unwrap().latents, &wanted.latents, 1e-3);
}
