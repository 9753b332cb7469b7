//! LoRA files and their relatives: thin matrices and differences that are added to the weights of modules.
//!
//! A file is read whole into [`Module`]s, whatever its naming and kind; [`super::merge`] matches their paths against
//! those that a network declares. A kind of what is added is a file here, and a row in [`delta::KINDS`].

mod delta;
mod difference;
mod hadamard;
mod kronecker;
mod magnitude;
mod names;
mod pair;
mod pattern;
mod product;
mod settings;
mod tensor;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::safetensors::TensorInfo;
use super::source::Folder;
use super::stream::{Hooks, Sink, stream_file};
use crate::error::{Error, Result};
use crate::warning::{Topic, Warning};
pub(super) use delta::Delta;
use delta::Parts;
use difference::Difference;
pub(super) use magnitude::{Axis, Magnitude, Strength};
pub use names::addend;
use names::{Found, split};
pub(super) use settings::Settings;
use tensor::Tensor;

/// A LoRA in memory.
#[derive(Clone, Debug)]
pub struct Lora {
    /// For messages.
    pub file: String,
    /// Sorted by component and path.
    pub(super) modules: Vec<Module>,
    pub(super) settings: Settings,
}

/// A LoRA and how strongly it counts: 1 is what it was trained for, 0 is as if it were not there.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    pub lora: &'a Lora,
    pub scale: f32,
}

/// What one module gets.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// diffusers' name of the network.
    pub component: &'static str,
    /// The module's path in the network with underscores.
    pub path: String,
    /// A tensor of it, for messages.
    pub name: String,
    pub weight: Option<Arc<dyn Delta>>,
    pub bias: Option<Arc<dyn Delta>>,
    /// How long the outputs or inputs of the weight become.
    pub magnitude: Option<Arc<Magnitude>>,
    /// Over the rank.
    pub alpha: Option<f32>,
    /// The first tensor that holds values which are not finite.
    pub flawed: Option<String>,
}

impl Module {
    fn new((component, path): (&'static str, String), mut parts: Parts) -> Result<Module> {
        let name = parts.name.clone();
        let flawed = parts.flawed.take();
        let alpha = match parts.take("alpha") {
            None => None,
            Some(alpha) => match alpha.all()[..] {
                [value] => Some(value),
                _ => return Err(alpha.wrong("one number")),
            },
        };
        let own = parts.take("dora_scale").map(|t| Magnitude::new(t, false));
        let magnitude = own.or_else(|| Some(Magnitude::new(parts.take("lora_magnitude_vector")?, true)));
        let difference = parts.take("diff_b").map(|t| (t, false));
        let bias = difference.or_else(|| Some((parts.take("bias")?, true)));
        let weight: Option<Arc<dyn Delta>> = parts.delta()?.map(Arc::from);
        let rank = weight.as_ref().and_then(|weight| weight.rank());
        let bias = bias.map(|(values, of_matrices)| {
            Arc::new(Difference { values, rank: rank.filter(|_| of_matrices) }) as Arc<dyn Delta>
        });
        if let Some(tensor) = parts.tensors.values().next() {
            return Err(Error::model(format!(
                "{}: its module has another tensor in the place of this one, wanted one of them",
                tensor.name
            )));
        }
        if weight.is_none() && (bias.is_none() || magnitude.is_some()) {
            return Err(Error::model(format!("{name}: the matrices that it belongs to are missing")));
        }
        let magnitude = magnitude.map(Arc::new);
        Ok(Module { component, path, name, weight, bias, magnitude, alpha, flawed })
    }

    /// Whether it changes nothing, wherever it is: kohya's files have modules of layers that no gradient reached, such as
    /// the last one of SDXL's first text encoder, which is not run.
    pub fn is_nothing(&self) -> bool {
        [&self.weight, &self.bias].into_iter().flatten().all(|delta| self.is_nothing_of(delta))
    }

    /// Whether one delta, of the weight or of the bias, changes nothing. A DoRA magnitude belongs to the weight.
    pub fn is_nothing_of(&self, delta: &Arc<dyn Delta>) -> bool {
        delta.is_nothing() && !(self.is_weight(delta) && self.magnitude.is_some())
    }

    pub fn is_weight(&self, delta: &Arc<dyn Delta>) -> bool {
        self.weight.as_ref().is_some_and(|weight| Arc::ptr_eq(weight, delta))
    }
}

impl Lora {
    /// Reads a file of any name. What is left out of it is a warning.
    ///
    /// Errors: those of [`stream_file`], `Unsupported` for the relatives of LoRA that are not known (OFT, GLoRA, ..),
    /// `InvalidModel` for a file of other tensors, for half a pair, and for shapes that do not multiply.
    pub async fn read(folder: &dyn Folder, path: &str, hooks: Hooks<'_>) -> Result<Lora> {
        let mut collect = Collect::default();
        stream_file(folder, path, &mut collect, hooks).await?;
        let in_file = |e: Error| Error::new(e.code, format!("{path}: {}", e.message));
        let modules = collect.modules.into_iter().map(|(at, parts)| Module::new(at, parts));
        let modules = modules.collect::<Result<Vec<Module>>>().map_err(in_file)?;
        match (collect.unknown.first(), modules.is_empty()) {
            (None, true) => {
                return Err(Error::model(format!("{path} is no LoRA: it holds no pair of matrices")));
            }
            (Some(name), true) => {
                return Err(Error::model(format!(
                    "{path} is no LoRA: {name} is not a tensor that a LoRA has"
                )));
            }
            (Some(name), false) => {
                let count = collect.unknown.len();
                (hooks.warn)(Warning::new(
                    Topic::Unused,
                    format!(
                        "{path}: {count} of its tensors are not used, the first is {name}: no LoRA has them"
                    ),
                ));
            }
            (None, false) => {}
        }
        if modules.iter().all(Module::is_nothing) {
            (hooks.warn)(Warning::new(
                Topic::Unused,
                format!("{path} changes nothing: all that it adds is zeros, as before a training"),
            ));
        }
        Ok(Lora { file: path.to_owned(), modules, settings: collect.settings })
    }

    /// That the model has every network that this LoRA is for. A scale of 0 does not make a wrong file right.
    pub fn check_components(&self, present: &[&str]) -> Result<()> {
        let absent = |m: &&Module| !present.contains(&m.component);
        let all = self.modules.iter().all(|m| absent(&m));
        match self.modules.iter().filter(absent).find(|m| all || !m.is_nothing()) {
            None => Ok(()),
            Some(module) => Err(Error::model(format!(
                "{}: {} is for the {}, but the model has only {}",
                self.file,
                module.name,
                module.component,
                present.join(", ")
            ))),
        }
    }
}

/// Takes every tensor of a file.
#[derive(Default)]
struct Collect {
    modules: BTreeMap<(&'static str, String), Parts>,
    unknown: Vec<String>,
    settings: Settings,
}

impl Sink for Collect {
    fn metadata(&mut self, metadata: &BTreeMap<String, String>) -> Result<()> {
        self.settings = Settings::parse(metadata)?;
        Ok(())
    }

    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        let Found::Part(component, path, part) = split(&info.name)? else {
            self.unknown.push(info.name.clone());
            return Ok(false);
        };
        let new = || Parts { name: info.name.clone(), ..Parts::default() };
        let parts = self.modules.entry((component, path)).or_insert_with(new);
        match parts.tensors.insert(part, Tensor::new(info)) {
            None => Ok(true),
            Some(other) => Err(Error::model(format!("{} and {} are for one module", other.name, info.name))),
        }
    }

    fn slab(&mut self, info: &TensorInfo, _: usize, _: usize, data: &[f32]) -> Result<()> {
        let Found::Part(component, path, part) = split(&info.name)? else { return Ok(()) };
        let parts = self.modules.get_mut(&(component, path)).expect("a module that was wanted");
        if parts.flawed.is_none() && data.iter().any(|v| !v.is_finite()) {
            parts.flawed = Some(info.name.clone());
        }
        parts.tensors.get_mut(part).expect("a tensor that was wanted").push(data);
        Ok(())
    }
}
