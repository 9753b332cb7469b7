//! One model in many files: whatever the type, the shards and the names, the blobs are the same.

mod adapters;
mod alone;
pub mod folder;
mod headers;
mod lora;
pub mod single;
pub mod tensors;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pollster::block_on;
use serde_json::json;
use tintype::error::Result;
use tintype::model::clip::ClipTextModel;
use tintype::model::config::{ClipTextConfig, UnetConfig, VaeConfig};
use tintype::model::unet::Unet;
use tintype::nn::{Attention, Conv, Heads, Linear, Projections};
use tintype::pipeline::Network;
use tintype::quant::Format;
use tintype::weights::{Declarations, DiskFolder, Filler, Hooks, Layout, MemoryFolder, Pieces, stream};

use folder::{Temp, golden};
use tensors::{Tensor, Tensors};

/// What is declared, filled from the files of a component: a blob for each handle.
fn fill(d: &Declarations, model: &Path, component: &str) -> Result<BTreeMap<u32, Vec<u8>>> {
    let (mut blobs, mut pieces) = (BTreeMap::new(), Pieces::new(d));
    let mut filler = Filler::new(d, 0, |piece| {
        if let Some((handle, blob)) = pieces.add(piece) {
            assert!(blobs.insert(handle.0, blob).is_none(), "{handle:?} came twice");
        }
        Ok(())
    });
    let stem = if component == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
    block_on(stream(&DiskFolder::new(model), component, stem, &mut filler, Hooks::NONE))?;
    filler.finish(component)?;
    assert_eq!(blobs.len(), d.specs.len());
    Ok(blobs)
}

fn config(model: &str, component: &str) -> Vec<u8> {
    fs::read(golden(model).join(component).join("config.json")).unwrap()
}

fn unet(format: Format, model: &str) -> Declarations {
    let mut d = Declarations::new(format);
    Unet::declare(&mut d, &UnetConfig::from_json(&config(model, "unet"), "unet").unwrap());
    d
}

fn text_encoder(format: Format) -> Declarations {
    text_encoder_of("sdxs-like", format)
}

fn text_encoder_of(model: &str, format: Format) -> Declarations {
    let mut d = Declarations::new(format);
    let config = ClipTextConfig::from_json(&config(model, "text_encoder"), "text").unwrap();
    ClipTextModel::declare(&mut d, &config);
    d
}

#[test]
fn element_types_make_no_difference() {
    // A bfloat16 file whose values other types hold too.
    const FILE: &str = "text_encoder/model.safetensors";
    for format in Format::ALL {
        let d = text_encoder(format);
        let brain = fill(&d, &golden("sdxs-like"), "text_encoder").unwrap();
        for dtype in ["F16", "F32"] {
            let model = Temp::model("sdxs-like");
            model.tensors(FILE, |t| t.0.iter_mut().for_each(|t| t.convert(dtype)));
            assert!(fill(&d, &model.0, "text_encoder").unwrap() == brain, "{dtype} to {format:?}");
        }
    }
}

#[test]
fn shards_and_order_make_no_difference() {
    const FILE: &str = "unet/diffusion_pytorch_model.fp16.safetensors";
    let d = unet(Format::F16, "sdxs-like");
    let whole = fill(&d, &golden("sdxs-like"), "unet").unwrap();
    let mut all = Tensors::parse(&fs::read(golden("sdxs-like").join(FILE)).unwrap()).0;
    // Not in any order that a layer could like.
    all.sort_by_key(|t| t.name.bytes().rev().collect::<Vec<u8>>());

    let model = Temp::model("sdxs-like");
    model.write(FILE, Tensors(all.clone()).bytes());
    assert!(fill(&d, &model.0, "unet").unwrap() == whole, "another order");

    // Every third tensor to each of three shards, of three types: a fused matrix comes from all of them.
    model.remove(FILE);
    let mut names = serde_json::Map::new();
    for (shard, dtype) in ["F32", "F16", "F32"].into_iter().enumerate() {
        let file = format!("diffusion_pytorch_model-0000{}-of-00003.safetensors", shard + 1);
        let mut part: Vec<Tensor> = all.iter().skip(shard).step_by(3).cloned().collect();
        part.iter_mut().for_each(|t| t.convert(dtype));
        names.extend(part.iter().map(|t| (t.name.clone(), json!(file))));
        model.write(&format!("unet/{file}"), Tensors(part).bytes());
    }
    let index = json!({"metadata": {}, "weight_map": names}).to_string();
    model.write("unet/diffusion_pytorch_model.safetensors.index.json", index);
    assert!(fill(&d, &model.0, "unet").unwrap() == whole, "three shards");
}

/// diffusers renamed the projections of an autoencoder's attention in 0.18; older files still go around,
/// some of them with 1x1 convolutions in place of the linear layers.
#[test]
fn both_namings_of_an_autoencoder() {
    const FILE: &str = "vae/diffusion_pytorch_model.fp16.safetensors";
    const NAMES: [(&str, &str); 4] =
        [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
    let vae = VaeConfig::from_json(&config("sd-turbo-like", "vae"), "vae").unwrap();
    for declare in [Network::decoder, Network::encoder] {
        let mut d = Declarations::new(Format::F16);
        declare(&mut d, &vae);
        let old = fill(&d, &golden("sd-turbo-like"), "vae").unwrap();
        for convolutions in [false, true] {
            let model = Temp::model("sd-turbo-like");
            let mut renamed = 0;
            model.tensors(FILE, |t| {
                for t in t.0.iter_mut().filter(|t| t.name.contains(".attentions.0.")) {
                    if let Some((old, new)) =
                        NAMES.iter().find(|(old, _)| t.name.contains(&format!(".{old}.")))
                    {
                        renamed += 1;
                        if convolutions && t.shape.len() == 2 {
                            t.shape.extend([1, 1]);
                        } else if !convolutions {
                            t.name = t.name.replace(old, new);
                        }
                    }
                }
            });
            assert_eq!(renamed, 16, "8 in the encoder, 8 in the decoder");
            assert!(fill(&d, &model.0, "vae").unwrap() == old, "convolutions: {convolutions}");
        }
    }
}

/// The blobs of what is declared, as `[outputs, taps, inputs]`, filled with tensors whose values are
/// 100 * output + input (+ 0.25 * tap), and whose biases are the output's number.
fn numbered(d: &Declarations) -> Vec<Vec<f32>> {
    let mut tensors = vec![];
    for part in d.specs.iter().flat_map(|s| &s.parts) {
        let inputs = part.shape.get(1).copied().unwrap_or(1);
        let taps: usize = part.shape.iter().skip(2).product();
        let value = |o: usize, i: usize, tap: usize| (100 * o + i) as f32 + 0.25 * tap as f32;
        let values: Vec<f32> = (0..part.shape[0])
            .flat_map(|o| (0..inputs).flat_map(move |i| (0..taps).map(move |tap| value(o, i, tap))))
            .map(|v| if part.shape.len() == 1 { v / 100.0 } else { v })
            .collect();
        tensors.push(Tensor::f32(&part.names[0], &part.shape, &values));
    }
    let mut folder = MemoryFolder::new();
    folder.insert("model.safetensors", Tensors(tensors).bytes());
    let (mut blobs, mut pieces) = (BTreeMap::new(), Pieces::new(d));
    let mut filler = Filler::new(d, 0, |piece| {
        blobs.extend(pieces.add(piece).map(|(handle, blob)| (handle.0, blob)));
        Ok(())
    });
    block_on(stream(&folder, "", "model", &mut filler, Hooks::NONE)).unwrap();
    filler.finish("").unwrap();
    let both = d.specs.iter().zip(blobs.into_values());
    both.map(|(spec, blob)| {
        let Layout::Matrix(m) = spec.layout else { panic!("{:?}", spec.layout) };
        let bias = &blob[m.bias_at() as usize * 16..];
        let bias = bias.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        m.dequantise(&blob).into_iter().chain(bias).collect()
    })
    .collect()
}

/// A row of weights: this output, these inputs; what is not named is padding.
fn row(output: usize, inputs: &[usize]) -> Vec<f32> {
    inputs.iter().map(|i| if *i == NONE { 0.0 } else { (100 * output + i) as f32 }).collect()
}

const NONE: usize = usize::MAX;

/// Values and gates alternate by four outputs, so that one thread has both.
#[test]
fn geglu_by_hand() {
    let mut d = Declarations::new(Format::F32);
    Linear::geglu(&mut d, "proj", 4, 8);
    let order = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];
    let weights = order.iter().flat_map(|o| row(*o, &[0, 1, 2, 3]));
    let biases = order.iter().map(|o| *o as f32);
    assert_eq!(numbered(&d), [weights.chain(biases).collect::<Vec<f32>>()]);
}

/// Two heads of three channels stand in eight: every fourth is a zero that no score sees.
#[test]
fn heads_by_hand() {
    let mut d = Declarations::new(Format::F32);
    Attention::declare(&mut d, "attn", 6, Heads { count: 2, size: 3 }, Projections::CLIP);
    let heads = [0, 1, 2, NONE, 3, 4, 5, NONE];
    // Inputs are padded to a multiple of four at their end.
    let input = |o: usize| if o == NONE { vec![0.0; 8] } else { row(o, &[0, 1, 2, 3, 4, 5, NONE, NONE]) };
    let bias = |o: &usize| if *o == NONE { 0.0 } else { *o as f32 };
    let one: Vec<f32> = heads.iter().flat_map(|o| input(*o)).collect();
    let mut qkv = one.repeat(3);
    qkv.extend(heads.iter().map(bias).collect::<Vec<f32>>().repeat(3));
    // The output's inputs have the zeros where the heads have them; its outputs are padded at their end.
    let outputs = [0, 1, 2, 3, 4, 5, NONE, NONE];
    let out = outputs.iter().flat_map(|o| if *o == NONE { vec![0.0; 8] } else { row(*o, &heads) });
    let out = out.chain(outputs.iter().map(bias)).collect();
    assert_eq!(numbered(&d), [qkv, out]);
}

/// Cross-attention's keys and values are a matrix of their own.
#[test]
fn contexts_by_hand() {
    let mut d = Declarations::new(Format::F32);
    Attention::cross(&mut d, "attn", 4, 8, Heads { count: 1, size: 4 }, Projections::UNET);
    let names: Vec<&str> = d.specs.iter().flat_map(|s| &s.parts).map(|p| p.names[0].as_str()).collect();
    let wanted = ["to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias"];
    assert_eq!(names, wanted.map(|n| format!("attn.{n}")));
    let rows = |inputs: &[usize]| (0..4).flat_map(|o| row(o, inputs)).collect::<Vec<f32>>();
    let [q, kv, out] = &numbered(&d)[..] else { panic!("three matrices") };
    assert_eq!(q[..16], rows(&[0, 1, 2, 3]));
    let context = rows(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(kv[..64], [context.clone(), context].concat());
    assert_eq!(out[..16], rows(&[0, 1, 2, 3]));
}

/// A checkpoint has `[outputs, inputs, 3, 3]`, a kernel reads `[outputs, taps, inputs]`.
#[test]
fn taps_by_hand() {
    let mut d = Declarations::new(Format::F32);
    Conv::declare(&mut d, "conv", 3, 4, 3, true);
    let mut wanted = vec![];
    for o in 0..4 {
        for tap in 0..9 {
            let [a, b, c] = [0, 1, 2].map(|i| (100 * o + i) as f32 + 0.25 * tap as f32);
            wanted.extend([a, b, c, 0.0]);
        }
    }
    wanted.extend([0.0, 1.0, 2.0, 3.0]);
    assert_eq!(numbered(&d), [wanted]);
}
