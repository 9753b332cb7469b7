//! LoRAs matched against what a network declares, and added to rows of weights as they stream.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::declare::{Declarations, Handle, Part, Role};
use super::lora::{Adapter, Lora, Module};
use super::original::unet_modules;
use crate::error::{Error, Result};

/// Rows that share one look at `down`, and columns that stay in the nearest cache meanwhile.
const ROWS: usize = 8;
const COLUMNS: usize = 512;

/// What is added to the tensors of one source: to each, by its handle and part, these modules in order.
#[derive(Default)]
pub struct Merge<'a> {
    terms: BTreeMap<(usize, usize), Vec<Term<'a>>>,
}

struct Term<'a> {
    module: &'a Module,
    /// The scale of the caller times that of the module.
    factor: f32,
}

impl<'a> Merge<'a> {
    /// Matches the modules that are for this component. A module that the source has no weight for is an
    /// error, unless it adds nothing: kohya's files have modules of layers that no gradient reached, such as
    /// the last one of SDXL's first text encoder, which is not run.
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
        let weights = weights(declarations, source, component);
        for Adapter { lora, scale } in adapters {
            for module in lora.modules.iter().filter(|m| m.component == component) {
                let Some(&at) = weights.get(&module.path) else {
                    if module.is_nothing() {
                        continue;
                    }
                    return Err(unmatched(lora, module, component));
                };
                check(lora, module, &declarations.specs[at.0].parts[at.1])?;
                let terms = merge.terms.entry(at).or_default();
                // Adding zeros would not be nothing: it makes a positive zero of a negative one.
                if *scale != 0.0 {
                    terms.push(Term { module, factor: scale * module.factor });
                }
            }
        }
        Ok(merge)
    }

    /// The handles that a module is for, whatever its scale is.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.terms.keys().map(|(handle, _)| Handle(*handle as u32))
    }

    /// Whether there is anything to add to this handle and part.
    pub fn has(&self, at: (usize, usize)) -> bool {
        self.terms.get(&at).is_some_and(|terms| !terms.is_empty())
    }

    /// Adds to rows `first_row..` of the weight of this handle and part, `[rows, row_len]`. Each row's sums are
    /// made alone and in one order, so that the slabs do not show in them.
    pub fn add(&self, at: (usize, usize), first_row: usize, row_len: usize, data: &mut [f32]) {
        for term in self.terms.get(&at).into_iter().flatten() {
            let rows = data.par_chunks_mut(ROWS * row_len).enumerate();
            rows.for_each(|(i, rows)| term.add(first_row + i * ROWS, row_len, rows));
        }
    }
}

impl Term<'_> {
    /// W += factor * up @ down
    fn add(&self, first_row: usize, row_len: usize, data: &mut [f32]) {
        let (rank, up, down) = (self.module.rank(), &self.module.up.values, &self.module.down.values);
        let mut sums = [0f32; COLUMNS];
        for begin in (0..row_len).step_by(COLUMNS) {
            let columns = begin..(begin + COLUMNS).min(row_len);
            for (row, weights) in (first_row..).zip(data.chunks_exact_mut(row_len)) {
                let sums = &mut sums[..columns.len()];
                sums.fill(0.0);
                for (u, down) in up[row * rank..][..rank].iter().zip(down.chunks_exact(row_len)) {
                    for (sum, d) in sums.iter_mut().zip(&down[columns.clone()]) {
                        *sum += u * d;
                    }
                }
                for (weight, sum) in weights[columns.clone()].iter_mut().zip(sums) {
                    *weight += self.factor * *sum;
                }
            }
        }
    }
}

/// The weights of a source by their modules' paths with underscores: ours, and those of the original U-Net,
/// which kohya's scripts use for SDXL.
fn weights(declarations: &Declarations, source: usize, component: &str) -> HashMap<String, (usize, usize)> {
    let mut paths: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (handle, spec) in declarations.specs.iter().enumerate().filter(|(_, spec)| spec.source == source) {
        for (index, part) in spec.parts.iter().enumerate() {
            if matches!(part.role, Role::Weight { .. }) {
                let names = part.names.iter().filter_map(|name| name.strip_suffix(".weight"));
                paths.extend(names.map(|path| (path, (handle, index))));
            }
        }
    }
    let mut flat: HashMap<String, (usize, usize)> = HashMap::new();
    if component == "unet" {
        let originals = unet_modules(paths.keys().copied());
        flat.extend(originals.into_iter().map(|(original, path)| (original.replace('.', "_"), paths[path])));
    }
    flat.extend(paths.into_iter().map(|(path, at)| (path.replace('.', "_"), at)));
    flat
}

/// Against the shape of the weight.
fn check(lora: &Lora, module: &Module, part: &Part) -> Result<()> {
    let down = [&[module.rank()][..], &part.shape[1..]].concat();
    let up = vec![part.shape[0], module.rank()];
    for (tensor, wanted) in [(&module.down, down), (&module.up, up)] {
        // A 1x1 convolution is a linear layer: what is beyond two dimensions may be ones or absent.
        let same = (0..tensor.shape.len().max(wanted.len()))
            .all(|i| tensor.shape.get(i).unwrap_or(&1) == wanted.get(i).unwrap_or(&1));
        if !same {
            return Err(Error::model(format!(
                "{}: {}: {} asks for the shape {wanted:?}, the file has {:?}",
                lora.file, tensor.name, part.names[0], tensor.shape
            )));
        }
    }
    Ok(())
}

fn unmatched(lora: &Lora, module: &Module, component: &str) -> Error {
    Error::model(format!(
        "{}: {} is for a module that the {component} does not have: is the LoRA for another family of models?",
        lora.file, module.down.name
    ))
}
