//! A model as one file under the original names, written here as the original constructors count their blocks,
//! gives the same blobs as its folder does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pollster::block_on;
use tintype::error::{Code, Result};
use tintype::model::config::{UnetConfig, VaeConfig};
use tintype::nn::Linear;
use tintype::pipeline::Network;
use tintype::quant::Format;
use tintype::weights::{Checkpoint, Declarations, Folder, Hooks, MemoryFolder, Pieces, header, places};

use super::folder::golden;
use super::tensors::{Tensor, Tensors};
use super::{config, fill, text_encoder_of, unet};

const MODEL: &str = "sd-turbo-like";

/// Every tensor of a component, from all of its files.
pub fn tensors(model: &Path, component: &str) -> Vec<Tensor> {
    let mut files: Vec<_> = fs::read_dir(model.join(component)).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let files = files.iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.flat_map(|path| Tensors::parse(&fs::read(path).unwrap()).0).collect()
}

/// Ours and theirs, of the beginnings of names.
pub type Pairs = Vec<(String, String)>;

/// The original U-Net counts input blocks and output blocks through.
pub fn unet_blocks(config: &UnetConfig) -> Pairs {
    let mut pairs: Pairs = [
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_in", "input_blocks.0.0"),
        ("mid_block.resnets.0", "middle_block.0"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("mid_block.resnets.1", "middle_block.2"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
    ]
    .map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
    .to_vec();
    let (levels, layers) = (config.down_blocks.len(), config.layers_per_block);
    let mut at = 1;
    for (b, kind) in config.down_blocks.iter().enumerate() {
        for i in 0..layers {
            pairs.push((format!("down_blocks.{b}.resnets.{i}"), format!("input_blocks.{at}.0")));
            if kind.attends_text() {
                pairs.push((format!("down_blocks.{b}.attentions.{i}"), format!("input_blocks.{at}.1")));
            }
            at += 1;
        }
        if b + 1 < levels {
            pairs.push((format!("down_blocks.{b}.downsamplers.0.conv"), format!("input_blocks.{at}.0.op")));
            at += 1;
        }
    }
    at = 0;
    for (b, kind) in config.up_blocks.iter().enumerate() {
        for i in 0..=layers {
            pairs.push((format!("up_blocks.{b}.resnets.{i}"), format!("output_blocks.{at}.0")));
            let mut next = 1;
            if kind.attends_text() {
                pairs.push((format!("up_blocks.{b}.attentions.{i}"), format!("output_blocks.{at}.1")));
                next = 2;
            }
            if i == layers && b + 1 < levels {
                let theirs = format!("output_blocks.{at}.{next}.conv");
                pairs.push((format!("up_blocks.{b}.upsamplers.0.conv"), theirs));
            }
            at += 1;
        }
    }
    pairs
}

/// A name of ours under the blocks of the original U-Net.
pub fn unet_name(blocks: &Pairs, name: &str) -> String {
    const RESNET: [(&str, &str); 6] = [
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("time_emb_proj", "emb_layers.1"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
        ("conv_shortcut", "skip_connection"),
    ];
    let found = blocks.iter().find_map(|(ours, theirs)| {
        let rest = name.strip_prefix(ours.as_str()).filter(|rest| rest.starts_with('.'))?;
        let inner = rest[1..].split('.').next().unwrap();
        let resnet = ours.contains(".resnets.").then(|| RESNET.iter().find(|(o, _)| *o == inner).unwrap());
        Some(match resnet {
            Some((o, t)) => format!("{theirs}{}", rest.replacen(o, t, 1)),
            None => format!("{theirs}{rest}"),
        })
    });
    found.unwrap_or_else(|| panic!("no original name for {name}"))
}

/// The original decoder counts its levels from the highest resolution down.
pub fn vae_name(levels: usize, name: &str) -> String {
    let mut name = name.to_owned();
    for b in 0..levels {
        let turned = levels - 1 - b;
        for (ours, theirs) in [
            (format!("decoder.up_blocks.{b}.upsamplers.0."), format!("decoder.up.{turned}.upsample.")),
            (format!("decoder.up_blocks.{b}.resnets."), format!("decoder.up.{turned}.block.")),
            (format!("encoder.down_blocks.{b}.downsamplers.0."), format!("encoder.down.{b}.downsample.")),
            (format!("encoder.down_blocks.{b}.resnets."), format!("encoder.down.{b}.block.")),
        ] {
            name = name.replace(&ours, &theirs);
        }
    }
    for (ours, theirs) in [
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0.", "mid.attn_1."),
        ("group_norm", "norm"),
        ("query", "q"),
        ("key", "k"),
        ("value", "v"),
        ("proj_attn", "proj_out"),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

/// OpenCLIP keeps q, k and v in one matrix, and the projection the other way round. SD 2.x has one layer more
/// than diffusers' folders.
pub fn open_clip(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let mut out = vec![Tensor::f32("logit_scale", &[], &[4.6])];
    let mut joined: BTreeMap<String, [Option<Tensor>; 3]> = BTreeMap::new();
    for mut t in tensors.into_iter().filter(|t| !t.name.ends_with("position_ids")) {
        let third = ["q_proj.", "k_proj.", "v_proj."].iter().position(|q| t.name.contains(q));
        for (ours, theirs) in [
            ("text_model.embeddings.token_embedding", "token_embedding"),
            ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
            ("text_model.final_layer_norm", "ln_final"),
            ("text_model.encoder.layers", "transformer.resblocks"),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            ("self_attn.q_proj.", "attn.in_proj_"),
            ("self_attn.k_proj.", "attn.in_proj_"),
            ("self_attn.v_proj.", "attn.in_proj_"),
            ("self_attn", "attn"),
        ] {
            t.name = t.name.replace(ours, theirs);
        }
        match (third, t.name.as_str()) {
            (Some(i), _) => {
                let thirds = joined.entry(t.name.clone()).or_default();
                thirds[i] = Some(t);
            }
            (None, "text_projection.weight") => {
                let (rows, columns, values) = (t.shape[0], t.shape[1], t.values());
                let turned: Vec<f32> = (0..columns)
                    .flat_map(|c| (0..rows).map(move |r| (r, c)))
                    .map(|(r, c)| values[r * columns + c])
                    .collect();
                out.push(Tensor::f32("text_projection", &[columns, rows], &turned));
            }
            _ => out.push(t),
        }
    }
    for (name, parts) in joined {
        let parts = parts.map(Option::unwrap);
        let mut t =
            Tensor { name, bytes: parts.iter().flat_map(|p| p.bytes.clone()).collect(), ..parts[0].clone() };
        t.shape[0] *= 3;
        out.push(t);
    }
    let extra = Tensor::f32("transformer.resblocks.3.ln_1.weight", &[40], &[1.0; 40]);
    out.push(extra);
    out
}

fn prefixed(prefix: &str, tensors: impl IntoIterator<Item = Tensor>) -> Vec<Tensor> {
    tensors.into_iter().map(|t| Tensor { name: format!("{prefix}{}", t.name), ..t }).collect()
}

/// What is declared, filled from a component of a single file.
fn fill_single(d: &Declarations, folder: &dyn Folder, component: &str) -> Result<BTreeMap<u32, Vec<u8>>> {
    let header = block_on(header(folder, "model.safetensors"))?;
    let place = places(&header).into_iter().find(|place| place.component == component);
    let place = place.unwrap_or_else(|| panic!("the file has no {component}"));
    let (mut blobs, mut pieces) = (BTreeMap::new(), Pieces::new(d));
    let checkpoint = Checkpoint::single(folder, "model.safetensors", place);
    block_on(checkpoint.fill(d, 0, None, Hooks::NONE, &mut |piece| {
        if let Some((handle, blob)) = pieces.add(piece) {
            assert!(blobs.insert(handle.0, blob).is_none(), "{handle:?} came twice");
        }
        Ok(())
    }))?;
    assert_eq!(blobs.len(), d.specs.len());
    Ok(blobs)
}

/// The U-Net and the autoencoder, which all families have alike, as they stand in a single file.
fn images() -> Vec<Tensor> {
    let model = golden(MODEL);
    let blocks = unet_blocks(&UnetConfig::from_json(&config(MODEL, "unet"), "unet").unwrap());
    let mut all = prefixed("model_ema.", [Tensor::f32("decay", &[], &[0.9999])]);
    all.extend(
        tensors(&model, "unet")
            .into_iter()
            .map(|t| Tensor { name: format!("model.diffusion_model.{}", unet_name(&blocks, &t.name)), ..t }),
    );
    all.extend(tensors(&model, "vae").into_iter().map(|mut t| {
        t.name = format!("first_stage_model.{}", vae_name(4, &t.name));
        // The original's projections are convolutions of one pixel.
        if t.name.contains(".attn_1.") && t.shape.len() == 2 {
            t.shape.extend([1, 1]);
        }
        t
    }));
    all
}

/// The whole model, with OpenCLIP's text encoder.
pub fn whole_file() -> Vec<Tensor> {
    let mut all = prefixed("cond_stage_model.model.", open_clip(tensors(&golden(MODEL), "text_encoder")));
    all.extend(images());
    all
}

fn folder(tensors: Vec<Tensor>) -> MemoryFolder {
    let mut folder = MemoryFolder::new();
    folder.insert("model.safetensors", Tensors(tensors).bytes());
    folder
}

#[test]
fn a_single_file_is_its_folder() {
    let model = golden(MODEL);
    let mut clip = prefixed("cond_stage_model.transformer.", tensors(&model, "text_encoder"));
    clip.extend(images());
    let mut early = tensors(&model, "text_encoder");
    early.iter_mut().for_each(|t| t.name = t.name.replace("text_model.", ""));
    let open = prefixed("cond_stage_model.model.", open_clip(tensors(&model, "text_encoder")));
    let files = [clip, prefixed("cond_stage_model.transformer.", early), open].map(folder);
    let components = |folder: &MemoryFolder| {
        let header = block_on(header(folder, "model.safetensors")).unwrap();
        places(&header).iter().map(|p| p.component).collect::<Vec<_>>()
    };
    assert_eq!(components(&files[0]), ["unet", "vae", "text_encoder"]);
    for format in Format::ALL {
        let d = unet(format, MODEL);
        assert!(fill_single(&d, &files[0], "unet").unwrap() == fill(&d, &model, "unet").unwrap());
        let vae = VaeConfig::from_json(&config(MODEL, "vae"), "vae").unwrap();
        for declare in [Network::decoder, Network::encoder] {
            let mut d = Declarations::new(format);
            declare(&mut d, &vae);
            assert!(fill_single(&d, &files[0], "vae").unwrap() == fill(&d, &model, "vae").unwrap());
        }
        let d = text_encoder_of(MODEL, format);
        let wanted = fill(&d, &model, "text_encoder").unwrap();
        for (kind, file) in ["CLIP", "CLIP without text_model", "OpenCLIP"].iter().zip(&files) {
            assert!(fill_single(&d, file, "text_encoder").unwrap() == wanted, "{kind}");
        }
    }
}

/// SDXL's text encoders: CLIP, and OpenCLIP with a projection of its pooled states.
#[test]
fn two_text_encoders_of_one_file() {
    let model = golden(MODEL);
    let mut second = tensors(&model, "text_encoder");
    let values: Vec<f32> = (0..24 * 40).map(|i| (i % 97) as f32 / 97.0).collect();
    second.push(Tensor::f32("text_projection.weight", &[24, 40], &values));
    let mut d = text_encoder_of(MODEL, Format::F32);
    let first = fill_single(
        &d,
        &folder(prefixed("conditioner.embedders.0.transformer.", tensors(&model, "text_encoder"))),
        "text_encoder",
    );
    assert!(first.unwrap() == fill(&d, &model, "text_encoder").unwrap());

    Linear::declare(&mut d, "text_projection", 40, 24, false);
    let (mut wanted, mut pieces) = (BTreeMap::new(), Pieces::new(&d));
    let ours = folder(second.clone());
    let checkpoint = Checkpoint::new(&ours, "", "model");
    block_on(checkpoint.fill(&d, 0, None, Hooks::NONE, &mut |piece| {
        wanted.extend(pieces.add(piece).map(|(handle, blob)| (handle.0, blob)));
        Ok(())
    }))
    .unwrap();
    let all = prefixed("conditioner.embedders.1.model.", open_clip(second.clone()));
    assert!(fill_single(&d, &folder(all), "text_encoder_2").unwrap() == wanted);
    // A tool may have written the projection as a layer.
    let (projection, rest): (Vec<_>, Vec<_>) =
        second.into_iter().partition(|t| t.name == "text_projection.weight");
    let mut all = open_clip(rest);
    all.extend(projection);
    let all = folder(prefixed("conditioner.embedders.1.model.", all));
    assert!(fill_single(&d, &all, "text_encoder_2").unwrap() == wanted);
}

#[test]
fn what_is_wrong_in_a_single_file_is_named() {
    let d = unet(Format::F32, MODEL);
    let refused = |change: &dyn Fn(&mut Vec<Tensor>), words: &[&str]| {
        let mut all = images();
        change(&mut all);
        let e = fill_single(&d, &folder(all), "unet").unwrap_err();
        assert_eq!(e.code, Code::InvalidModel);
        assert!(words.iter().all(|w| e.message.contains(w)), "{e}");
    };
    const ONE: &str = "model.diffusion_model.output_blocks.3.1.proj_in.weight";
    let lost = ["model.safetensors: unet", "lacks", "up_blocks.1.attentions.0.proj_in.weight"];
    refused(&|all| all.retain(|t| t.name != ONE), &lost);
    let widened = ["model.safetensors", ONE, "up_blocks.1.attentions.0.proj_in.weight", "[40, 20, 2]"];
    refused(
        &|all| {
            let t = all.iter_mut().find(|t| t.name == ONE).unwrap();
            t.shape = vec![t.shape[0], t.shape[1] / 2, 2];
        },
        &widened,
    );
}
