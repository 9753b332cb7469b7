//! LoRAs in every naming change the blobs as a merge by hand does, when a model is loaded and when it is
//! loaded again in part.

use std::cell::RefCell;
use std::collections::BTreeMap;

use pollster::block_on;
use tintype::error::{Code, Result};
use tintype::model::config::UnetConfig;
use tintype::quant::Format;
use tintype::warning::{Topic, Warning};
use tintype::weights::{
    Adapter, Checkpoint, Declarations, DiskFolder, Hooks, Lora, MemoryFolder, Piece, Pieces, Role,
};

use super::folder::golden;
use super::single::{tensors, unet_blocks, unet_name};
use super::tensors::{Tensor, Tensors};
use super::{config, fill, unet};

const MODEL: &str = "sd-turbo-like";
const STEM: &str = "diffusion_pytorch_model";
/// By handle.
type Blobs = BTreeMap<u32, Vec<u8>>;

const RANK: usize = 3;
const ALPHA: f32 = 1.5;

/// A pair for one weight: `[RANK, ..]` and `[outputs, RANK, ..]`.
#[derive(Clone)]
struct Pair {
    path: String,
    shape: Vec<usize>,
    down: Vec<f32>,
    up: Vec<f32>,
}

/// For every weight of the network, from a few numbers of no meaning.
fn pairs(d: &Declarations) -> Vec<Pair> {
    let parts = d.specs.iter().flat_map(|s| &s.parts).filter(|p| matches!(p.role, Role::Weight { .. }));
    let numbers = |salt: usize, count: usize| -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + salt * 11) % 61) as f32 / 128.0 - 0.2).collect()
    };
    let pair = |(salt, part): (usize, &tintype::weights::Part)| Pair {
        path: part.names[0].strip_suffix(".weight").unwrap().to_owned(),
        shape: part.shape.clone(),
        down: numbers(salt, RANK * part.shape[1..].iter().product::<usize>()),
        up: numbers(salt + 5, part.shape[0] * RANK),
    };
    parts.enumerate().map(pair).collect()
}

impl Pair {
    /// As tensors under these two names.
    fn tensors(&self, [down, up]: [String; 2]) -> [Tensor; 2] {
        let ones = vec![1; self.shape.len() - 2];
        let down_shape = [&[RANK][..], &self.shape[1..]].concat();
        let up_shape = [&[self.shape[0], RANK][..], &ones[..]].concat();
        [Tensor::f32(&down, &down_shape, &self.down), Tensor::f32(&up, &up_shape, &self.up)]
    }
}

fn read(tensors: Vec<Tensor>) -> Result<Lora> {
    let mut folder = MemoryFolder::new();
    folder.insert("style.safetensors", Tensors(tensors).bytes());
    block_on(Lora::read(&folder, "style.safetensors", Hooks::NONE))
}

/// kohya's names, of our modules or of the original ones.
fn kohya(pairs: &[Pair], name: impl Fn(&str) -> String) -> Lora {
    let all = pairs.iter().flat_map(|pair| {
        let module = format!("lora_unet_{}", name(&pair.path).replace('.', "_"));
        let mut all =
            pair.tensors(["down", "up"].map(|half| format!("{module}.lora_{half}.weight"))).to_vec();
        all.push(Tensor::f32(&format!("{module}.alpha"), &[], &[ALPHA]));
        all
    });
    read(all.collect()).unwrap()
}

fn dotted(pairs: &[Pair], prefix: &str, halves: [&str; 2]) -> Lora {
    let names = |pair: &Pair| halves.map(|half| format!("{prefix}{}.{half}.weight", pair.path));
    read(pairs.iter().flat_map(|pair| pair.tensors(names(pair))).collect()).unwrap()
}

/// The blobs with these LoRAs.
fn load(d: &Declarations, loras: &[Adapter<'_>]) -> Result<Blobs> {
    told(d, loras).map(|(blobs, _)| blobs)
}

/// The same, and what was said.
fn told(d: &Declarations, loras: &[Adapter<'_>]) -> Result<(Blobs, Vec<Warning>)> {
    let (mut blobs, mut pieces) = (BTreeMap::new(), Pieces::new(d));
    let warnings = RefCell::new(vec![]);
    let hooks = Hooks { warn: &|warning| warnings.borrow_mut().push(warning), ..Hooks::NONE };
    let folder = DiskFolder::new(golden(MODEL));
    let checkpoint = Checkpoint::new(&folder, "unet", STEM).with_loras(loras);
    block_on(checkpoint.fill(d, 0, None, hooks, &mut |piece| {
        blobs.extend(pieces.add(piece).map(|(handle, blob)| (handle.0, blob)));
        Ok(())
    }))?;
    Ok((blobs, warnings.take()))
}

/// The blobs of tensors that were changed by hand: to each weight factor * up @ down is added, for one set of
/// pairs after the other, in the order of ranks.
fn by_hand(d: &Declarations, sets: &[(&[Pair], f32)]) -> Blobs {
    let mut all = tensors(&golden(MODEL), "unet");
    for (pairs, factor) in sets {
        for pair in *pairs {
            let name = format!("{}.weight", pair.path);
            let t = all.iter_mut().find(|t| t.name == name).unwrap();
            let (mut values, inputs) = (t.values(), pair.down.len() / RANK);
            for (i, value) in values.iter_mut().enumerate() {
                let (o, c) = (i / inputs, i % inputs);
                let sum =
                    (0..RANK).fold(0.0, |sum, r| sum + pair.up[o * RANK + r] * pair.down[r * inputs + c]);
                *value += factor * sum;
            }
            *t = Tensor::f32(&name, &t.shape, &values);
        }
    }
    let model = super::folder::Temp::new();
    model.write(&format!("unet/{STEM}.safetensors"), Tensors(all).bytes());
    fill(d, &model.0, "unet").unwrap()
}

#[test]
fn every_naming_is_a_merge_by_hand() {
    let blocks = unet_blocks(&UnetConfig::from_json(&config(MODEL, "unet"), "unet").unwrap());
    let d = unet(Format::F32, MODEL);
    let pairs = pairs(&d);
    let wanted = by_hand(&d, &[(&pairs, 0.7 * (ALPHA / RANK as f32))]);
    for lora in [
        kohya(&pairs, str::to_owned),
        kohya(&pairs, |path| {
            let name = unet_name(&blocks, &format!("{path}.weight"));
            name.strip_suffix(".weight").unwrap().to_owned()
        }),
    ] {
        assert!(load(&d, &[Adapter { lora: &lora, scale: 0.7 }]).unwrap() == wanted);
    }
    // Without alpha the pair counts as it is.
    let wanted = by_hand(&d, &[(&pairs, 0.7)]);
    for (prefix, halves) in [
        ("unet.", ["lora_A", "lora_B"]),
        ("unet.", ["lora.down", "lora.up"]),
        ("", ["lora_A", "lora_B"]),
        ("unet.", ["lora_linear_layer.down", "lora_linear_layer.up"]),
    ] {
        let lora = dotted(&pairs, prefix, halves);
        assert!(load(&d, &[Adapter { lora: &lora, scale: 0.7 }]).unwrap() == wanted, "{prefix} {halves:?}");
    }
    let attentions: Vec<Pair> = pairs.iter().filter(|p| p.path.contains(".attn")).cloned().collect();
    let wanted = by_hand(&d, &[(&attentions, 0.7)]);
    let lora = attentions.iter().flat_map(|pair| {
        let (attention, projection) = pair.path.rsplit_once(".to_").unwrap();
        let projection = projection.trim_end_matches(".0");
        let processor = format!("unet.{attention}.processor.to_{projection}_lora");
        pair.tensors(["down", "up"].map(|half| format!("{processor}.{half}.weight")))
    });
    let lora = read(lora.collect()).unwrap();
    assert!(load(&d, &[Adapter { lora: &lora, scale: 0.7 }]).unwrap() == wanted, "processors");
}

#[test]
fn several_loras_and_formats() {
    let all = pairs(&unet(Format::F32, MODEL));
    let (one, other) = (all[..40].to_vec(), all[20..60].to_vec());
    let (a, b) = (dotted(&one, "unet.", ["lora_A", "lora_B"]), kohya(&other, str::to_owned));
    let loras = [Adapter { lora: &a, scale: 0.3 }, Adapter { lora: &b, scale: -1.25 }];
    for format in Format::ALL {
        let d = unet(format, MODEL);
        let plain = load(&d, &[]).unwrap();
        assert!(plain == fill(&d, &golden(MODEL), "unet").unwrap());
        let wanted = by_hand(&d, &[(&one, 0.3), (&other, -1.25 * (ALPHA / RANK as f32))]);
        assert!(wanted != plain);
        assert!(load(&d, &loras).unwrap() == wanted, "{format:?}");
        // No scale, no change, not even of a zero's sign.
        assert!(load(&d, &[Adapter { lora: &a, scale: 0.0 }]).unwrap() == plain, "{format:?}");

        // Only what was touched is read again, and the rest was the same.
        let folder = DiskFolder::new(golden(MODEL));
        let checkpoint = Checkpoint::new(&folder, "unet", STEM).with_loras(&loras);
        let touched = checkpoint.touched(&d, 0).unwrap();
        let (mut blobs, mut pieces) = (plain.clone(), Pieces::new(&d));
        let mut replace = |piece: Piece<'_>| {
            assert!(touched.contains(&piece.handle));
            blobs.extend(pieces.add(piece).map(|(handle, blob)| (handle.0, blob)));
            Ok(())
        };
        block_on(checkpoint.fill(&d, 0, Some(&touched), Hooks::NONE, &mut replace)).unwrap();
        assert!(blobs == wanted, "{format:?}");
        let changed = wanted.iter().filter(|(handle, blob)| plain[*handle] != **blob).count();
        assert!(changed == touched.len() && changed < plain.len(), "{changed} of {}", plain.len());
    }
}

#[test]
fn what_is_wrong_with_a_lora_is_named() {
    let d = unet(Format::F32, MODEL);
    let pairs = pairs(&d);
    let linear = pairs.iter().find(|p| p.path.ends_with("attn1.to_q")).unwrap();
    let refused = |pair: &Pair, words: &[&str]| {
        let lora = dotted(std::slice::from_ref(pair), "unet.", ["lora_A", "lora_B"]);
        let e = load(&d, &[Adapter { lora: &lora, scale: 1.0 }]).unwrap_err();
        assert_eq!(e.code, Code::InvalidModel);
        let all = ["style.safetensors", "unet."];
        assert!(all.iter().chain(words).all(|w| e.message.contains(w)), "{e}");
    };
    let path = "down_blocks.7.attentions.0.proj_in";
    let elsewhere = Pair { path: path.to_owned(), ..linear.clone() };
    refused(&elsewhere, &[path, "the unet does not have"]);
    let (wide, tall) = (linear.shape[1] + 4, linear.shape[0] + 4);
    let mut wider = linear.clone();
    (wider.shape[1], wider.down) = (wide, vec![1.0; RANK * wide]);
    refused(&wider, &["lora_A", &format!("[3, {}]", wide - 4), &format!("[3, {wide}]")]);
    let mut taller = linear.clone();
    (taller.shape[0], taller.up) = (tall, vec![1.0; RANK * tall]);
    refused(&taller, &["lora_B", &format!("[{}, 3]", tall - 4), &format!("[{tall}, 3]")]);

    // A layer that no gradient reached is nothing to miss.
    let nothing = Pair { up: vec![0.0; elsewhere.up.len()], ..elsewhere };
    let lora = dotted(&[nothing, linear.clone()], "unet.", ["lora_A", "lora_B"]);
    assert!(load(&d, &[Adapter { lora: &lora, scale: 1.0 }]).is_ok());
}

/// kohya's names of the original U-Net.
fn original(pairs: &[Pair]) -> Vec<Tensor> {
    let blocks = unet_blocks(&UnetConfig::from_json(&config(MODEL, "unet"), "unet").unwrap());
    let each = pairs.iter().flat_map(|pair| {
        let name = unet_name(&blocks, &format!("{}.weight", pair.path));
        let module = format!("lora_unet_{}", name.strip_suffix(".weight").unwrap().replace('.', "_"));
        pair.tensors(["down", "up"].map(|half| format!("{module}.lora_{half}.weight")))
    });
    each.collect()
}

/// kohya's names of ours.
fn ours(pairs: &[Pair]) -> Vec<Tensor> {
    let each = pairs.iter().flat_map(|pair| {
        let module = format!("lora_unet_{}", pair.path.replace('.', "_"));
        pair.tensors(["down", "up"].map(|half| format!("{module}.lora_{half}.weight")))
    });
    each.collect()
}

#[test]
fn a_module_under_both_namings_counts_once() {
    let d = unet(Format::F32, MODEL);
    let pairs = pairs(&d);
    let of = |begin: &str| pairs.iter().filter(|p| p.path.starts_with(begin)).cloned().collect::<Vec<_>>();
    let (down, outside) =
        (of("down_blocks.1."), [of("time_embedding"), of("conv_in"), of("conv_out")].concat());
    let both = [down.clone(), outside.clone()].concat();
    let wanted = by_hand(&d, &[(&both, 1.0)]);
    let lora = read([ours(&both), original(&both)].concat()).unwrap();
    let (blobs, warnings) = told(&d, &[Adapter { lora: &lora, scale: 1.0 }]).unwrap();
    assert!(blobs == wanted && warnings.is_empty(), "{warnings:?}");
    // Where blocks have both namings diffusers leaves out the original ones, also those that are nowhere else; what
    // lies outside of blocks counts under either.
    let lora = read([ours(&down), original(&outside), original(&of("up_blocks.0."))].concat()).unwrap();
    let (blobs, warnings) = told(&d, &[Adapter { lora: &lora, scale: 1.0 }]).unwrap();
    let conv_in = of("conv_in");
    let left = pairs.iter().filter(|p| both.iter().any(|b| b.path == p.path && b.path != conv_in[0].path));
    assert!(blobs == by_hand(&d, &[(&left.cloned().collect::<Vec<_>>(), 1.0)]));
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    let count = of("up_blocks.0.").len() + conv_in.len();
    assert_eq!(warning.code, Topic::Unused);
    let all = down.len() + outside.len() + of("up_blocks.0.").len();
    for words in [
        format!("{count} of its {all} modules for the unet"),
        "lora_unet_input_blocks_0_0".to_owned(),
        "under two namings".to_owned(),
    ] {
        assert!(warning.message.contains(&words), "{words}: {warning}");
    }

    // Two of our names are a mistake of the file's.
    let module = &pairs[3];
    let names = ["down", "up"].map(|half| format!("unet.{}.lora.{half}.weight", module.path));
    let e = read([ours(&pairs[3..4]), module.tensors(names).to_vec()].concat()).unwrap_err();
    assert!(e.code == Code::InvalidModel && e.message.contains("are for one module"), "{e}");
}

#[test]
fn what_is_not_used_is_said() {
    let d = unet(Format::F32, MODEL);
    let pairs = pairs(&d);
    let known = &pairs[..2];
    let elsewhere =
        |i: usize| Pair { path: format!("down_blocks.7.attentions.{i}.proj_in"), ..pairs[0].clone() };
    let (one, other) = (elsewhere(0), elsewhere(1));
    let mut tensors = [ours(known), ours(&[one, other])].concat();
    tensors.push(Tensor::f32("bundle_emb.cat.clip_l", &[1, 2], &[1.0, 2.0]));
    let mut folder = MemoryFolder::new();
    folder.insert("style.safetensors", Tensors(tensors).bytes());
    let warnings = RefCell::new(vec![]);
    let hooks = Hooks { warn: &|warning: Warning| warnings.borrow_mut().push(warning), ..Hooks::NONE };
    let lora = block_on(Lora::read(&folder, "style.safetensors", hooks)).unwrap();
    let (blobs, more) = told(&d, &[Adapter { lora: &lora, scale: 1.0 }]).unwrap();
    assert!(blobs == by_hand(&d, &[(known, 1.0)]));
    let [file, modules] = &[warnings.take(), more].concat()[..] else { panic!("two warnings") };
    for (warning, words) in [
        (file, &["style.safetensors", "1 of its tensors", "bundle_emb.cat.clip_l"][..]),
        (
            modules,
            &["style.safetensors", "2 of its 4 modules for the unet", "down_blocks_7_attentions_0_proj_in"],
        ),
    ] {
        assert!(
            warning.code == Topic::Unused && words.iter().all(|w| warning.message.contains(w)),
            "{warning}"
        );
    }
    // Of a reading again nothing new is said, of whatever it reads.
    let mut all = self::tensors(&golden(MODEL), "unet");
    let name = format!("{}.weight", pairs[0].path);
    let spoilt = all.iter_mut().find(|t| t.name == name).unwrap();
    let mut values = spoilt.values();
    values[0] = f32::NAN;
    *spoilt = Tensor::f32(&name, &spoilt.shape, &values);
    let model = super::folder::Temp::new();
    model.write(&format!("unet/{STEM}.safetensors"), Tensors(all).bytes());
    let folder = DiskFolder::new(&model.0);
    let hooks = Hooks { warn: &|warning: Warning| warnings.borrow_mut().push(warning), ..Hooks::NONE };
    let loras = [Adapter { lora: &lora, scale: 0.5 }];
    let checkpoint = Checkpoint::new(&folder, "unet", STEM).with_loras(&loras);
    let touched = checkpoint.touched(&d, 0).unwrap();
    for (only, count) in [(None, 2), (Some(&touched), 0)] {
        block_on(checkpoint.fill(&d, 0, only, hooks, &mut |_| Ok(()))).unwrap();
        assert_eq!(warnings.take().len(), count);
    }
}

/// Halves hold less than what the product of a LoRA may be.
#[test]
fn what_a_format_cannot_hold_is_named() {
    for (format, fails) in [(Format::F32, false), (Format::F16, true), (Format::Q8, false)] {
        let d = unet(format, MODEL);
        let pairs = pairs(&d);
        let pair = pairs.iter().find(|p| p.path.ends_with("ff.net.2")).unwrap();
        let lora = dotted(std::slice::from_ref(pair), "unet.", ["lora_A", "lora_B"]);
        let loaded = load(&d, &[Adapter { lora: &lora, scale: 1e7 }]);
        assert!(load(&d, &[Adapter { lora: &lora, scale: 1e3 }]).is_ok());
        match loaded {
            Ok(_) => assert!(!fails, "{format:?}"),
            Err(e) => {
                assert!(fails && e.code == Code::NotFinite, "{format:?}: {e}");
                let words = ["style.safetensors", &pair.path, "10000000", format.as_str()];
                assert!(words.iter().all(|w| e.message.contains(w)), "{e}");
            }
        }
    }
}
