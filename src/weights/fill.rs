//! From a checkpoint's bytes, in whatever order they come, to the handles' blobs.

use std::collections::{HashMap, HashSet};

use super::declare::{Declarations, Handle, Layout, Part, Role};
use super::merge::Merge;
use super::safetensors::TensorInfo;
use super::stream::Sink;
use crate::error::{Error, Result};
use crate::quant::store_f32;

/// Takes slabs of the tensors of one checkpoint and hands out each blob as soon as it is whole.
pub struct Filler<'a> {
    declarations: &'a Declarations,
    /// Which handles are filled.
    wanted: Vec<bool>,
    merge: Merge<'a>,
    /// Rows that something was added to.
    merged: Vec<f32>,
    /// Checkpoint name -> handle and part.
    by_name: HashMap<&'a str, (usize, usize)>,
    /// The name under which each part was found.
    found: HashMap<(usize, usize), String>,
    blobs: Vec<Option<Vec<u8>>>,
    /// Parts of a handle that are still to come.
    missing: Vec<usize>,
    upload: Box<dyn FnMut(Handle, Vec<u8>) -> Result<()> + 'a>,
}

impl<'a> Filler<'a> {
    /// For the declarations that lie in this one of their checkpoints.
    pub fn new(
        declarations: &'a Declarations,
        source: usize,
        upload: impl FnMut(Handle, Vec<u8>) -> Result<()> + 'a,
    ) -> Self {
        let mut by_name = HashMap::new();
        let wanted: Vec<bool> = declarations.specs.iter().map(|spec| spec.source == source).collect();
        for (h, spec) in declarations.specs.iter().enumerate().filter(|(h, _)| wanted[*h]) {
            for (p, part) in spec.parts.iter().enumerate() {
                for name in &part.names {
                    let known = by_name.insert(name.as_str(), (h, p));
                    assert!(known.is_none(), "{name} is declared twice");
                }
            }
        }
        let missing = declarations.specs.iter().map(|s| s.parts.len()).collect();
        let blobs = vec![None; declarations.specs.len()];
        let (merge, merged, found) = (Merge::default(), vec![], HashMap::new());
        Filler {
            declarations,
            wanted,
            merge,
            merged,
            by_name,
            found,
            blobs,
            missing,
            upload: Box::new(upload),
        }
    }

    /// Adds LoRAs to the rows before they are stored.
    pub fn merging(self, merge: Merge<'a>) -> Self {
        Filler { merge, ..self }
    }

    /// Fills these handles alone.
    pub fn only(mut self, handles: &HashSet<Handle>) -> Self {
        self.by_name.retain(|_, (h, _)| handles.contains(&Handle(*h as u32)));
        for (h, wanted) in self.wanted.iter_mut().enumerate() {
            *wanted &= handles.contains(&Handle(h as u32));
        }
        self
    }

    /// After the last file: every tensor must have come.
    pub fn finish(self, component: &str) -> Result<()> {
        let mut absent = vec![];
        for (h, spec) in self.declarations.specs.iter().enumerate().filter(|(h, _)| self.wanted[*h]) {
            for (p, part) in spec.parts.iter().enumerate() {
                if !self.found.contains_key(&(h, p)) {
                    absent.push(part.names[0].as_str());
                }
            }
        }
        match absent[..] {
            [] => Ok(()),
            [one] => Err(Error::model(format!("{component}: the checkpoint lacks the tensor {one}"))),
            [first, ..] => Err(Error::model(format!(
                "{component}: the checkpoint lacks {} tensors, the first is {first}",
                absent.len()
            ))),
        }
    }
}

fn without_trailing_ones(shape: &[usize]) -> &[usize] {
    let keep = shape.iter().rposition(|&d| d != 1).map_or(0, |i| i + 1);
    &shape[..keep.max(1).min(shape.len())]
}

impl Sink for Filler<'_> {
    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        let Some(&(h, p)) = self.by_name.get(info.name.as_str()) else { return Ok(false) };
        let part = &self.declarations.specs[h].parts[p];
        if without_trailing_ones(&part.shape) != without_trailing_ones(&info.shape) {
            return Err(Error::model(format!(
                "{}: the configuration asks for the shape {:?}, the file has {:?}",
                info.name, part.shape, info.shape
            )));
        }
        if let Some(other) = self.found.insert((h, p), info.name.clone()) {
            return Err(Error::model(format!("{other} and {} are two names of one tensor", info.name)));
        }
        Ok(true)
    }

    fn slab(&mut self, info: &TensorInfo, first_row: usize, rows: usize, data: &[f32]) -> Result<()> {
        let (h, p) = self.by_name[info.name.as_str()];
        let row_len = data.len() / rows;
        let mut merged = std::mem::take(&mut self.merged);
        let data = if self.merge.has((h, p)) {
            merged.clear();
            merged.extend_from_slice(data);
            self.merge.add((h, p), first_row, row_len, &mut merged);
            &merged[..]
        } else {
            data
        };
        let spec = &self.declarations.specs[h];
        let part: &Part = &spec.parts[p];
        let blob = self.blobs[h].get_or_insert_with(|| vec![0; spec.layout.bytes()]);
        for (row, values) in (first_row as u32..).zip(data.chunks_exact(row_len)) {
            match (part.role, &spec.layout) {
                (Role::Weight { rows, columns }, Layout::Matrix(m)) => {
                    m.store_row(blob, rows.place(row), values, |c| columns.place(c));
                }
                (Role::Bias { rows }, Layout::Matrix(m)) => m.store_bias(blob, rows.place(row), values[0]),
                (Role::Vector { at }, _) => store_f32(blob, (at + row) as usize, values[0]),
                (Role::Table, Layout::Table { width, .. }) => {
                    let at = row as usize * width * 4;
                    blob[at..at + width * 4].copy_from_slice(bytemuck::cast_slice(values));
                }
                (role, layout) => unreachable!("{role:?} in {layout:?}"),
            }
        }
        self.merged = merged;
        if first_row + rows == info.shape.first().copied().unwrap_or(1) {
            self.missing[h] -= 1;
            if self.missing[h] == 0 {
                let blob = self.blobs[h].take().unwrap_or_default();
                (self.upload)(Handle(h as u32), blob)?;
            }
        }
        Ok(())
    }
}
