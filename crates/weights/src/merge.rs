//! LoRAs matched against what a network declares, and added to rows of weights as they stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rayon::prelude::*;

use super::declare::{Declarations, Handle};
use super::lora::{Adapter, Axis, Delta, Lora, Magnitude, Module, Strength};
use super::original::unet_modules;
use super::stream::slab_rows;
use crate::error::{Code, Error, Result};
use crate::quant::Format;
use crate::warning::{Topic, Warning};

/// Rows that share one look at the thin matrices.
const ROWS: usize = 8;

/// The handle and the part of it that a tensor of the checkpoint is.
type At = (usize, usize);

/// What is added to the tensors of one source: to each these terms in order.
#[derive(Default)]
pub struct Merge<'a> {
    targets: BTreeMap<At, Target<'a>>,
    /// Rows that something is added to: those of a slab, or all of a tensor.
    rows: Vec<f32>,
    /// What of the LoRAs is not used.
    pub warnings: Vec<Warning>,
}

/// A tensor that something is added to.
struct Target<'a> {
    name: String,
    shape: Vec<usize>,
    format: Format,
    terms: Vec<Term<'a>>,
}

struct Term<'a> {
    file: &'a str,
    tensor: &'a str,
    delta: &'a dyn Delta,
    strength: Strength,
    magnitude: Option<(&'a Magnitude, Axis)>,
}

/// Why something of a module is not used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    /// The network has no such module.
    NoModule,
    /// The blocks are in the file under our names too.
    OtherNaming,
    /// The layer has none.
    NoBias,
}

/// A module of a network.
#[derive(Clone, Default)]
struct Place {
    /// With dots.
    path: String,
    weight: Option<At>,
    bias: Option<At>,
}

impl<'a> Merge<'a> {
    /// Matches the modules that are for this component.
    ///
    /// Errors: a LoRA of which no module is in the network, shapes that are not those of the weights, and values that are
    /// not finite.
    pub fn new(
        declarations: &Declarations,
        source: usize,
        component: &str,
        adapters: &[Adapter<'a>],
    ) -> Result<Merge<'a>> {
        let mut merge = Merge::default();
        if adapters.is_empty() {
            return Ok(merge);
        }
        let places = places(declarations, source, component);
        for adapter in adapters {
            let file = |e: Error| Error::new(e.code, format!("{}: {}", adapter.lora.file, e.message));
            merge.adapter(declarations, &places, component, adapter).map_err(file)?;
        }
        Ok(merge)
    }

    fn adapter(
        &mut self,
        declarations: &Declarations,
        places: &Places,
        component: &str,
        adapter: &Adapter<'a>,
    ) -> Result<()> {
        let mine = |m: &&Module| m.component == component;
        let modules = || adapter.lora.modules.iter().filter(mine);
        // As diffusers: of a file that has blocks under both namings, the original ones do not count.
        let both = [&OURS, &THEIRS].map(|names| modules().any(|m| names.iter().any(|n| m.path.contains(n))));
        let (mut reached, mut lost) = (HashMap::<At, &str>::new(), BTreeMap::<Lost, Vec<&str>>::new());
        for own in [true, false] {
            for module in modules().filter(|m| places.ours.contains_key(&m.path) == own) {
                let place = places.ours.get(&module.path).or(places.theirs.get(&module.path));
                let left_out = both == [true, true] && THEIRS.iter().any(|n| module.path.contains(n));
                let at = place.map_or([None; 2], |place| [place.weight, place.bias]);
                for (at, delta) in at.into_iter().zip([&module.weight, &module.bias]) {
                    let Some(delta) = delta else { continue };
                    let why = match (place, at) {
                        (Some(place), Some(at)) => match reached.get(&at) {
                            Some(other) if own => {
                                return Err(Error::model(format!(
                                    "{other} and {} are for one module",
                                    module.name
                                )));
                            }
                            Some(_) => continue,
                            None if left_out => Lost::OtherNaming,
                            None => {
                                reached.insert(at, &module.name);
                                self.term(declarations, at, &place.path, adapter, module, delta)?;
                                continue;
                            }
                        },
                        (Some(_), None) if left_out => Lost::OtherNaming,
                        (Some(_), None) if !module.is_weight(delta) => Lost::NoBias,
                        _ => Lost::NoModule,
                    };
                    let names = lost.entry(why).or_default();
                    if !module.is_nothing_of(delta) && names.last() != Some(&module.name.as_str()) {
                        names.push(&module.name);
                    }
                }
            }
        }
        lost.retain(|_, names| !names.is_empty());
        if let (Some(names), true) = (lost.get(&Lost::NoModule), reached.is_empty()) {
            return Err(Error::model(format!(
                "{} is for a module that the {component} does not have, and so are the others: is the LoRA for \
                 another family of models?",
                names[0]
            )));
        }
        let all = modules().count();
        self.warnings.extend(lost.iter().map(|(why, names)| {
            let (what, because) = match why {
                Lost::NoModule => ("not used", format!("the {component} has no such module")),
                Lost::OtherNaming => (
                    "not used",
                    "of blocks that the file has under two namings, the original names do not count".into(),
                ),
                Lost::NoBias => ("used without their biases", "the layer has none".into()),
            };
            let message = format!(
                "{}: {} of its {all} modules for the {component} are {what}, the first is {}: {because}",
                adapter.lora.file,
                names.len(),
                names[0]
            );
            Warning::new(Topic::Unused, message)
        }));
        Ok(())
    }

    fn term(
        &mut self,
        declarations: &Declarations,
        at: At,
        path: &str,
        adapter: &Adapter<'a>,
        module: &'a Module,
        delta: &'a Arc<dyn Delta>,
    ) -> Result<()> {
        let spec = &declarations.specs[at.0];
        let part = &spec.parts[at.1];
        delta.check(&part.shape, &part.names[0])?;
        let is_weight = module.is_weight(delta);
        let magnitude = module.magnitude.as_ref().filter(|_| is_weight);
        let magnitude = magnitude.map(|m| Ok((&**m, m.axis(&part.shape, &part.names[0])?))).transpose()?;
        if is_weight && magnitude.is_none() && adapter.lora.settings.is_dora(module.component) {
            return Err(Error::model(format!(
                "{}: use_dora is true in the header, but the module has no lora_magnitude_vector",
                module.name
            )));
        }
        let factor = factor(adapter.lora, module, path, delta.rank())?;
        let target = self.targets.entry(at).or_insert_with(|| Target {
            name: part.names[0].clone(),
            shape: part.shape.clone(),
            format: part.format(&spec.layout),
            terms: vec![],
        });
        // Adding zeros would not be nothing: it makes a positive zero of a negative one.
        if adapter.scale == 0.0 {
            return Ok(());
        }
        if let Some(tensor) = &module.flawed {
            return Err(Error::new(
                Code::NotFinite,
                format!("{tensor} holds values that are infinite or not a number: no image can come of them"),
            ));
        }
        target.terms.push(Term {
            file: &adapter.lora.file,
            tensor: &module.name,
            delta: &**delta,
            strength: Strength { factor, scale: adapter.scale },
            magnitude,
        });
        Ok(())
    }

    /// The handles that a module is for, whatever its scale is.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.targets.keys().map(|(handle, _)| Handle(*handle as u32))
    }

    /// Hands rows `first_row..` of a tensor on with what is added to them. One tensor at most is held back until it is
    /// whole: that of a DoRA which measures inputs.
    pub fn slab(
        &mut self,
        at: At,
        first_row: usize,
        row_len: usize,
        data: &[f32],
        next: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let Some(target) = self.targets.get(&at).filter(|target| !target.terms.is_empty()) else {
            return next(first_row, data);
        };
        if first_row == 0 || !target.is_whole() {
            self.rows.clear();
        }
        if target.is_whole() {
            self.rows.reserve_exact(target.shape[0] * row_len - self.rows.len());
        }
        self.rows.extend_from_slice(data);
        if !target.is_whole() {
            target.add(first_row, row_len, &mut self.rows)?;
            return next(first_row, &self.rows);
        }
        if self.rows.len() == target.shape[0] * row_len {
            target.add(0, row_len, &mut self.rows)?;
            let step = slab_rows(row_len);
            for (i, rows) in self.rows.chunks(step * row_len).enumerate() {
                next(i * step, rows)?;
            }
            self.rows = vec![];
        }
        Ok(())
    }
}

impl Target<'_> {
    fn is_whole(&self) -> bool {
        self.terms.iter().any(|term| matches!(term.magnitude, Some((_, Axis::Inputs))))
    }

    /// Errors: `NotFinite` where values come of it that cannot be stored.
    fn add(&self, first_row: usize, row_len: usize, data: &mut [f32]) -> Result<()> {
        let limit = self.format.largest();
        let worst = |data: &[f32]| data.par_iter().copied().find_any(|v| v.is_nan() || v.abs() > limit);
        if worst(data).is_some() {
            // The checkpoint's own fault.
            self.terms.iter().for_each(|term| term.add(&self.shape, first_row, row_len, data));
            return Ok(());
        }
        for term in &self.terms {
            term.add(&self.shape, first_row, row_len, data);
            if let Some(value) = worst(data) {
                return Err(Error::new(
                    Code::NotFinite,
                    format!(
                        "{}: {} makes the value {value} in {}, which {} cannot hold: alpha over the rank is {}, the \
                         scale {}",
                        term.file,
                        term.tensor,
                        self.name,
                        self.format.as_str(),
                        term.strength.factor,
                        term.strength.scale
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Term<'_> {
    fn add(&self, shape: &[usize], first_row: usize, row_len: usize, data: &mut [f32]) {
        let widened = self.delta.widened();
        let delta = widened.as_deref().unwrap_or(self.delta);
        if let Some((magnitude, axis)) = self.magnitude {
            return magnitude.merge(axis, delta, self.strength, shape, first_row, data);
        }
        let factor = self.strength.scale * self.strength.factor;
        let rows = data.par_chunks_mut(ROWS * row_len).enumerate();
        rows.for_each(|(i, rows)| delta.add(factor, first_row + i * ROWS, row_len, rows));
    }
}

/// Alpha over the rank: of the module's own tensor, else of the file's header, else 1.
fn factor(lora: &Lora, module: &Module, path: &str, rank: Option<usize>) -> Result<f32> {
    Ok(match (rank, module.alpha) {
        (None, _) => 1.0,
        (Some(rank), Some(alpha)) => alpha / rank as f32,
        (Some(rank), None) => {
            lora.settings.factor(module.component, path, rank, &module.name)?.unwrap_or(1.0)
        }
    })
}

/// How the paths of blocks begin, ours and those of the original U-Net.
const OURS: [&str; 3] = ["down_blocks", "mid_block", "up_blocks"];
const THEIRS: [&str; 3] = ["input_blocks", "middle_block", "output_blocks"];

/// The modules of a source by their paths with underscores.
struct Places {
    ours: HashMap<String, Place>,
    /// Of the original U-Net, which kohya's scripts use for SDXL.
    theirs: HashMap<String, Place>,
}

fn places(declarations: &Declarations, source: usize, component: &str) -> Places {
    let mut places: BTreeMap<&str, Place> = BTreeMap::new();
    for (handle, spec) in declarations.specs.iter().enumerate().filter(|(_, spec)| spec.source == source) {
        for (index, part) in spec.parts.iter().enumerate() {
            for name in &part.names {
                let Some((path, end)) = name.rsplit_once('.') else { continue };
                let place = places.entry(path).or_default();
                place.path = path.to_owned();
                match end {
                    "weight" => place.weight = Some((handle, index)),
                    "bias" => place.bias = Some((handle, index)),
                    _ => {}
                }
            }
        }
    }
    let mut theirs = HashMap::new();
    if component == "unet" {
        let originals = unet_modules(places.keys().copied());
        theirs
            .extend(originals.into_iter().map(|(name, path)| (name.replace('.', "_"), places[path].clone())));
    }
    let mut ours = HashMap::new();
    for (path, place) in places {
        // Files of transformers 5 leave the model inside the model out.
        let short = path.strip_prefix("text_model.").map(|path| path.replace('.', "_"));
        ours.extend(short.map(|short| (short, place.clone())));
        ours.insert(path.replace('.', "_"), place);
    }
    Places { ours, theirs }
}
