//! LoRAs of every kind, as trainers save them, are merged to the weights that the trainers themselves compute
//! (tests/golden/lora_kinds.py), in whatever slabs and formats.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pollster::block_on;
use tintype::quant::Format;
use tintype::weights::{
    Adapter, Checkpoint, Columns, Declarations, DiskFolder, Hooks, Layout, Lora, MemoryFolder, Pieces, Rows,
    weight_and_bias,
};

use super::folder::here;
use super::tensors::{Tensor, Tensors};

/// Every file, and layers that it is for.
const FILES: [(&str, usize); 19] = [
    ("locon", 3),
    ("locon_core", 1),
    ("loha", 3),
    ("loha_core", 1),
    ("lokr", 3),
    ("lokr_thin", 3),
    ("lokr_both", 1),
    ("lokr_core", 1),
    ("dora_outputs", 3),
    ("dora_inputs", 3),
    ("dora_loha", 3),
    ("dora_lokr", 3),
    ("differences", 6),
    ("norms", 2),
    ("peft", 3),
    ("peft_patterns", 3),
    ("peft_root", 3),
    ("peft_bias", 6),
    ("peft_dora", 3),
];

fn adapters() -> PathBuf {
    here("tests/golden/adapters")
}

/// The tensors of `merged.safetensors` by what stands before their names.
fn expected() -> BTreeMap<String, BTreeMap<String, Tensor>> {
    let file = fs::read(adapters().join("merged.safetensors")).unwrap();
    let mut all = BTreeMap::<String, BTreeMap<String, Tensor>>::new();
    for mut tensor in Tensors::parse(&file).0 {
        let (case, name) = tensor.name.rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        tensor.name = name.clone();
        all.entry(case).or_default().insert(name, tensor);
    }
    all
}

/// Two linear layers, a convolution and a norm.
fn layers(format: Format) -> Declarations {
    let mut d = Declarations::new(format);
    for (name, shape) in [("proj", &[8, 12][..]), ("square", &[12, 12]), ("conv", &[12, 8, 3, 3])] {
        let path = format!("mid_block.{name}");
        let parts = weight_and_bias(&path, shape.to_vec(), true, Rows::From(0), Columns::Same);
        let taps: usize = shape[2..].iter().product();
        d.matrix(shape[0] as u32, shape[1] as u32, taps as u32, parts);
    }
    d.norm("mid_block.norm", 12);
    d
}

/// The blobs of these tensors with these LoRAs.
fn blobs(d: &Declarations, tensors: &BTreeMap<String, Tensor>, loras: &[Adapter<'_>]) -> Vec<Vec<u8>> {
    let (mut blobs, mut pieces) = (BTreeMap::new(), Pieces::new(d));
    let mut folder = MemoryFolder::new();
    folder.insert("unet/model.safetensors", Tensors(tensors.values().cloned().collect()).bytes());
    let checkpoint = Checkpoint::new(&folder, "unet", "model").with_loras(loras);
    block_on(checkpoint.fill(d, 0, None, Hooks::NONE, &mut |piece| {
        blobs.extend(pieces.add(piece).map(|(handle, blob)| (handle.0, blob)));
        Ok(())
    }))
    .unwrap();
    blobs.into_values().collect()
}

/// What is stored, without what pads it.
fn values(d: &Declarations, blobs: &[Vec<u8>]) -> Vec<f32> {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let each = d.specs.iter().zip(blobs).map(|(spec, blob)| match spec.layout {
        Layout::Matrix(m) => [m.dequantise(blob), floats(&blob[m.bias_at() as usize * 16..])].concat(),
        _ => floats(blob),
    });
    each.flatten().collect()
}

fn lora(name: &str) -> Lora {
    let file = format!("{name}.safetensors");
    block_on(Lora::read(&DiskFolder::new(adapters()), &file, Hooks::NONE)).unwrap()
}

#[test]
fn every_kind_is_what_its_trainer_computes() {
    let (all, d) = (expected(), layers(Format::F32));
    let base = values(&d, &blobs(&d, &all["base/0"], &[]));
    for (name, changed) in FILES {
        let lora = lora(name);
        for (text, scale) in [("1.0", 1.0), ("0.5", 0.5)] {
            let mut wanted = all["base/0"].clone();
            let new = &all[&format!("{name}/{text}")];
            wanted.extend(new.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
            let differs = |(name, t): (&String, &Tensor)| t.values() != all["base/0"][name].values();
            assert_eq!(new.iter().filter(|entry| differs(*entry)).count(), changed, "{name}");
            let wanted = values(&d, &blobs(&d, &wanted, &[]));
            let found = values(&d, &blobs(&d, &all["base/0"], &[Adapter { lora: &lora, scale }]));
            let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Values of at most some units, sums of at most some hundred products.
            assert!(worst < 4e-6, "{name} at {scale}: {worst}");
            assert!(found != base, "{name}");
        }
    }
}

/// Files of halves take half of the memory, and mean the same as those of what the halves are.
#[test]
fn halves_make_no_difference() {
    let (all, d) = (expected(), layers(Format::F32));
    for (name, _) in FILES {
        let file = Tensors::parse(&fs::read(adapters().join(format!("{name}.safetensors"))).unwrap());
        for dtype in ["F16", "BF16"] {
            let (mut half, mut float) = (file.clone(), file.clone());
            for (half, float) in half.0.iter_mut().zip(&mut float.0) {
                let round = |v: f32| match dtype {
                    "F16" => half::f16::from_f32(v).to_f32(),
                    _ => half::bf16::from_f32(v).to_f32(),
                };
                let rounded: Vec<f32> = float.values().into_iter().map(round).collect();
                *float = Tensor::f32(&float.name, &float.shape, &rounded);
                *half = float.clone();
                half.convert(dtype);
            }
            let [half, float] = [half, float].map(|file| {
                let mut folder = MemoryFolder::new();
                folder.insert("x.safetensors", file.bytes());
                let lora = block_on(Lora::read(&folder, "x.safetensors", Hooks::NONE)).unwrap();
                blobs(&d, &all["base/0"], &[Adapter { lora: &lora, scale: 0.7 }])
            });
            assert!(half == float, "{name} as {dtype}");
        }
    }
}
