//! LoRA files: pairs of thin matrices that are added to the weights of modules.
//!
//! Three namings go around. Training scripts of kohya's kind write `lora_unet_` and the path with underscores,
//! which cannot be split again; diffusers and peft write `unet.` and the path; old diffusers files name an
//! attention's processor. Here a path is kept with underscores in every case, and [`super::merge`] matches it
//! against the paths that a network declares.

use std::collections::BTreeMap;

use super::safetensors::TensorInfo;
use super::source::Folder;
use super::stream::{Hooks, Sink, stream_file};
use crate::error::{Error, Result};

/// A LoRA in memory.
#[derive(Clone, Debug)]
pub struct Lora {
    /// For messages.
    pub file: String,
    /// Sorted by component and path.
    pub(super) modules: Vec<Module>,
}

/// A LoRA and how strongly it counts: 1 is what it was trained for, 0 is as if it were not there.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    pub lora: &'a Lora,
    pub scale: f32,
}

/// What one module gets: `alpha / rank * up @ down`.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// diffusers' name of the network.
    pub component: &'static str,
    /// The module's path in the network with underscores.
    pub path: String,
    /// `[rank, inputs]`, or `[rank, inputs, kh, kw]`.
    pub down: Tensor,
    /// `[outputs, rank]`, or `[outputs, rank, 1, 1]`.
    pub up: Tensor,
    /// Over the rank; 1 where the file has no alpha.
    pub factor: f32,
}

#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// In the file.
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Module {
    pub fn rank(&self) -> usize {
        self.down.shape[0]
    }

    /// Training begins with zeros in `up`; where they are left the module was never part of a gradient.
    pub fn is_nothing(&self) -> bool {
        self.up.values.iter().all(|v| *v == 0.0)
    }
}

impl Lora {
    /// Reads a file of any name.
    ///
    /// Errors: those of [`stream_file`], `Unsupported` for the relatives of LoRA (LoHa, LoKr, DoRA, ..),
    /// `InvalidModel` for a tensor that belongs to no LoRA, for half a pair, and for shapes that do not
    /// multiply.
    pub async fn read<F: Folder>(folder: &F, path: &str, hooks: Hooks<'_>) -> Result<Lora> {
        let mut collect = Collect::default();
        stream_file(folder, path, &mut collect, hooks).await?;
        let in_file = |e: Error| Error::new(e.code, format!("{path}: {}", e.message));
        let pairs = collect.pairs.into_iter();
        let modules = pairs.map(|((component, path), pair)| pair.module(component, path));
        let modules = modules.collect::<Result<Vec<Module>>>().map_err(in_file)?;
        if modules.is_empty() {
            return Err(Error::model(format!("{path} is no LoRA: it holds no pair of matrices")));
        }
        Ok(Lora { file: path.to_owned(), modules })
    }

    /// That the model has every network that this LoRA is for. A scale of 0 does not make a wrong file right.
    pub fn check_components(&self, present: &[&str]) -> Result<()> {
        match self.modules.iter().find(|m| !present.contains(&m.component) && !m.is_nothing()) {
            None => Ok(()),
            Some(module) => Err(Error::model(format!(
                "{}: {} is for the {}, but the model has only {}",
                self.file,
                module.down.name,
                module.component,
                present.join(", ")
            ))),
        }
    }
}

/// What the names of a component's modules begin with.
const PREFIXES: [(&str, &str); 7] = [
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Down,
    Up,
    Alpha,
}

/// What the names of the two matrices and of alpha end with.
const ENDS: [(&str, Half); 12] = [
    (".lora_down.weight", Half::Down),
    (".lora_up.weight", Half::Up),
    (".lora_A.weight", Half::Down),
    (".lora_B.weight", Half::Up),
    (".lora.down.weight", Half::Down),
    (".lora.up.weight", Half::Up),
    (".lora_linear_layer.down.weight", Half::Down),
    (".lora_linear_layer.up.weight", Half::Up),
    ("_lora.down.weight", Half::Down),
    ("_lora.up.weight", Half::Up),
    ("_lora.alpha", Half::Alpha),
    (".alpha", Half::Alpha),
];

/// What only the relatives of LoRA have, which add something else.
const RELATIVES: [&str; 8] =
    ["hada_", "lokr_", "lora_mid", "dora_scale", "lora_magnitude_vector", "oft_", "diff", "bias"];

/// The component, the path with underscores, and what the tensor is of this module.
fn split(name: &str) -> Result<(&'static str, String, Half)> {
    let end = ENDS.iter().find_map(|(end, half)| Some((name.strip_suffix(end)?, *half)));
    let Some((module, half)) = end else {
        let last = name.split_once('.').map_or(name, |(_, rest)| rest);
        return Err(match RELATIVES.iter().any(|word| last.contains(word)) {
            true => Error::unsupported(format!("{name}: a relative of LoRA, supported are plain pairs")),
            false => Error::model(format!("{name}: not a tensor that a LoRA has")),
        });
    };
    let prefix = PREFIXES.iter().find_map(|(prefix, c)| Some((module.strip_prefix(prefix)?, *c)));
    // The first files of diffusers were for the U-Net alone and did not say so.
    let (path, component) = prefix.unwrap_or((module, "unet"));
    let path = path.replace(".processor", "").replace(".lora", "").replace('.', "_");
    Ok((component, today(component, path), half))
}

/// Attention processors called every network's projections alike, and the output without its index.
fn today(component: &str, path: String) -> String {
    let Some((attention, projection)) = path.rsplit_once("_to_") else { return path };
    let names: &[(&str, &str)] = match component {
        "unet" => &[("out", "to_out_0")],
        _ => &[("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("out", "out_proj"), ("out_0", "out_proj")],
    };
    match names.iter().find(|(old, _)| *old == projection) {
        Some((_, new)) => format!("{attention}_{new}"),
        None => path,
    }
}

/// What has been read of a module.
#[derive(Default)]
struct Pair {
    down: Option<Tensor>,
    up: Option<Tensor>,
    alpha: Option<Tensor>,
}

/// Takes every tensor of a file.
#[derive(Default)]
struct Collect {
    pairs: BTreeMap<(&'static str, String), Pair>,
}

impl Pair {
    fn part(&mut self, half: Half) -> &mut Option<Tensor> {
        match half {
            Half::Down => &mut self.down,
            Half::Up => &mut self.up,
            Half::Alpha => &mut self.alpha,
        }
    }

    fn module(self, component: &'static str, path: String) -> Result<Module> {
        let (down, up) = match (self.down, self.up, &self.alpha) {
            (Some(down), Some(up), _) => (down, up),
            (Some(one), None, _) | (None, Some(one), _) => {
                return Err(Error::model(format!("{}: the other matrix of the pair is missing", one.name)));
            }
            (None, None, alpha) => {
                let name = alpha.as_ref().map_or("", |t| t.name.as_str());
                return Err(Error::model(format!("{name}: both matrices of the pair are missing")));
            }
        };
        let rank = down.shape.first().copied().unwrap_or(0);
        if down.shape.len() < 2 || rank == 0 {
            return Err(wrong(&down, "[rank, inputs] or [rank, inputs, kh, kw]"));
        }
        if up.shape.len() < 2 || up.shape[1] != rank || up.shape[2..].iter().any(|d| *d != 1) {
            return Err(wrong(&up, &format!("[outputs, {rank}] or [outputs, {rank}, 1, 1]")));
        }
        let factor = match &self.alpha {
            Some(alpha) => match alpha.values[..] {
                [value] => value / rank as f32,
                _ => return Err(wrong(alpha, "one number")),
            },
            None => 1.0,
        };
        Ok(Module { component, path, down, up, factor })
    }
}

fn wrong(tensor: &Tensor, wanted: &str) -> Error {
    Error::model(format!("{}: wanted the shape {wanted}, found {:?}", tensor.name, tensor.shape))
}

impl Sink for Collect {
    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        let (component, path, half) = split(&info.name)?;
        let part = self.pairs.entry((component, path)).or_default().part(half);
        if let Some(other) = part {
            return Err(Error::model(format!("{} and {} are for one module", other.name, info.name)));
        }
        *part = Some(Tensor { name: info.name.clone(), shape: info.shape.clone(), values: vec![] });
        Ok(true)
    }

    fn slab(&mut self, info: &TensorInfo, _: usize, _: usize, data: &[f32]) -> Result<()> {
        let (component, path, half) = split(&info.name)?;
        let pair = self.pairs.get_mut(&(component, path)).expect("a module that was wanted");
        pair.part(half).as_mut().expect("a tensor that was wanted").values.extend_from_slice(data);
        Ok(())
    }
}
