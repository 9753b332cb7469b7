//! From a checkpoint's bytes, in whatever order they come, to the handles' blobs.
//!
//! A matrix that is one tensor of the checkpoint, row for row, goes on slab by slab; one that is made of several, or
//! with heads that are padded, waits until it is whole.

use std::collections::{HashMap, HashSet};

use super::declare::{Columns, Declarations, Handle, Layout, Part, Role, Rows, Spec};
use super::merge::Merge;
use super::piece::{PIECE_BYTES, Piece};
use super::safetensors::TensorInfo;
use super::stream::{SLAB_BYTES, SLAB_ROWS, Sink};
use crate::error::{Error, Result};
use crate::quant::{Format, Matrix, Scales, floats, store_f32};

/// Takes slabs of the tensors of one checkpoint and hands out the blobs in pieces, as soon as they are ready.
pub struct Filler<'a> {
    declarations: &'a Declarations,
    /// Which handles are filled.
    wanted: Vec<bool>,
    merge: Merge<'a>,
    /// Checkpoint name -> handle and part; of a tensor whose rows go to several handles all of them.
    by_name: HashMap<&'a str, Vec<(usize, usize)>>,
    /// The name under which each part was found.
    found: HashMap<(usize, usize), String>,
    /// What waits for the rest of its handle: the whole blob, or of one that goes on slab by slab its tail, which has
    /// the scales and the bias.
    waiting: Vec<Vec<u8>>,
    /// Parts of a handle that are still to come.
    missing: Vec<usize>,
    upload: Box<dyn FnMut(Piece<'_>) -> Result<()> + 'a>,
}

impl<'a> Filler<'a> {
    /// For the declarations that lie in this one of their checkpoints.
    pub fn new(
        declarations: &'a Declarations,
        source: usize,
        upload: impl FnMut(Piece<'_>) -> Result<()> + 'a,
    ) -> Self {
        let mut by_name = HashMap::<_, Vec<_>>::new();
        let wanted: Vec<bool> = declarations.specs.iter().map(|spec| spec.source == source).collect();
        for (h, spec) in declarations.specs.iter().enumerate().filter(|(h, _)| wanted[*h]) {
            for (p, part) in spec.parts.iter().enumerate() {
                for name in &part.names {
                    let known = by_name.entry(name.as_str()).or_default();
                    assert!(known.is_empty() || part.first_taken().is_some(), "{name} is declared twice");
                    known.push((h, p));
                }
            }
        }
        let missing = declarations.specs.iter().map(|s| s.parts.len()).collect();
        let waiting = vec![vec![]; declarations.specs.len()];
        let (merge, found) = (Merge::default(), HashMap::new());
        Filler { declarations, wanted, merge, by_name, found, waiting, missing, upload: Box::new(upload) }
    }

    /// Adds LoRAs to the rows before they are stored.
    pub fn merging(self, merge: Merge<'a>) -> Self {
        Filler { merge, ..self }
    }

    /// Fills these handles alone.
    pub fn only(mut self, handles: &HashSet<Handle>) -> Self {
        self.by_name.retain(|_, all| {
            all.retain(|(h, _)| handles.contains(&Handle(*h as u32)));
            !all.is_empty()
        });
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
        let Some(all) = self.by_name.get(info.name.as_str()) else { return Ok(false) };
        let (h, p) = all[0];
        let part = &self.declarations.specs[h].parts[p];
        if without_trailing_ones(&part.shape) != without_trailing_ones(&info.shape) {
            return Err(Error::model(format!(
                "{}: the configuration asks for the shape {:?}, the file has {:?}",
                info.name, part.shape, info.shape
            )));
        }
        if matches!(part.role, Role::Table) && self.found.contains_key(&(h, p)) {
            // A table that is tied to another one is stored under both names by some.
            return Ok(false);
        }
        for &at in all {
            if let Some(other) = self.found.insert(at, info.name.clone()) {
                return Err(Error::model(format!("{other} and {} are two names of one tensor", info.name)));
            }
        }
        Ok(true)
    }

    fn stored_in(&self, info: &TensorInfo) -> Format {
        let (h, p) = self.by_name[info.name.as_str()][0];
        let spec = &self.declarations.specs[h];
        spec.parts[p].format(&spec.layout)
    }

    fn slab(&mut self, info: &TensorInfo, first_row: usize, rows: usize, data: &[f32]) -> Result<()> {
        let mut merge = std::mem::take(&mut self.merge);
        let row_len = data.len() / rows;
        for i in 0..self.by_name[info.name.as_str()].len() {
            let at = self.by_name[info.name.as_str()][i];
            merge.slab(at, first_row, row_len, data, &mut |first_row, data| {
                self.store(at, first_row, data, row_len, info.rows())
            })?;
        }
        self.merge = merge;
        Ok(())
    }
}

impl Filler<'_> {
    /// Stores rows of a tensor which has `all` of them.
    fn store(
        &mut self,
        (h, p): (usize, usize),
        first_row: usize,
        data: &[f32],
        row_len: usize,
        all: usize,
    ) -> Result<()> {
        let spec = &self.declarations.specs[h];
        let (part, handle) = (&spec.parts[p], Handle(h as u32));
        let plain = plain(spec);
        // Of a plain matrix only the tail waits: a matrix of no inputs.
        let begin = plain.map_or(0, |m| m.scale_at() as usize * 16);
        let tail = plain.map(|m| Layout::Matrix(Matrix { inputs: 0, ..m }));
        let waiting = &mut self.waiting[h];
        waiting.resize(spec.layout.bytes() - begin, 0);
        match (plain, part.role) {
            (Some(m), Role::Weight { columns, .. }) => {
                let (at, codes) = store_slab(m, columns, first_row, data, row_len, waiting);
                (self.upload)(Piece { handle, at, bytes: &codes })?;
            }
            _ => {
                for (row, values) in (first_row as u32..).zip(data.chunks_exact(row_len)) {
                    store_row(part, tail.as_ref().unwrap_or(&spec.layout), row, values, waiting);
                }
            }
        }
        if first_row + data.len() / row_len == all {
            self.missing[h] -= 1;
            if self.missing[h] == 0 {
                let rest = std::mem::take(&mut self.waiting[h]);
                for (i, bytes) in rest.chunks(PIECE_BYTES).enumerate() {
                    (self.upload)(Piece { handle, at: begin + i * PIECE_BYTES, bytes })?;
                }
            }
        }
        Ok(())
    }
}

/// The matrix of a handle whose rows are those of one tensor, and come in slabs of whole quads.
fn plain(spec: &Spec) -> Option<Matrix> {
    let Layout::Matrix(matrix) = spec.layout else { return None };
    let mut rows = spec.parts.iter().filter_map(|part| match part.role {
        Role::Weight { rows, .. } => Some((rows, part.shape[0])),
        _ => None,
    });
    match (rows.next(), rows.next()) {
        (Some((Rows::From(0), count)), None) => {
            let whole_slabs = matrix.depth() <= SLAB_BYTES / 4 / SLAB_ROWS;
            (whole_slabs && count == matrix.outputs as usize).then_some(matrix)
        }
        _ => None,
    }
}

/// Stores a slab of rows of a plain matrix: returns where in the blob its codes begin, and the codes; the scales go to
/// the tail. Slabs begin at multiples of [`SLAB_ROWS`], where the groups of every format begin too.
fn store_slab(
    m: Matrix,
    columns: Columns,
    first_row: usize,
    data: &[f32],
    row_len: usize,
    tail: &mut [u8],
) -> (usize, Vec<u8>) {
    let rows = data.len() / row_len;
    let slab = Matrix { outputs: rows as u32, ..m };
    let mut blob = vec![0; slab.bytes()];
    let columns: Vec<u32> = (0..row_len as u32 / m.taps).map(|c| columns.place(c)).collect();
    for (row, values) in (0..).zip(data.chunks_exact(row_len)) {
        slab.store_columns(&mut blob, row, values, &columns, Scales::Chosen);
    }
    let codes = slab.scale_at() as usize * 16;
    if m.format == Format::Q8 {
        tail[first_row * 4..][..rows * 4].copy_from_slice(&blob[codes..][..rows * 4]);
    }
    blob.truncate(codes);
    (Matrix { outputs: first_row as u32, ..m }.scale_at() as usize * 16, blob)
}

/// Stores a row of a tensor that is no plain matrix's weight.
fn store_row(part: &Part, layout: &Layout, row: u32, values: &[f32], blob: &mut [u8]) {
    match (part.role, layout) {
        (Role::Weight { rows, columns }, Layout::Matrix(m)) => {
            if !rows.taken(part.shape[0]).contains(&row) {
                return;
            }
            m.store_row(blob, rows.place(row), values, |c| columns.place(c), Scales::Chosen);
        }
        (Role::Bias { rows }, Layout::Matrix(m)) => m.store_bias(blob, rows.place(row), values[0]),
        (Role::Vector { rows, each }, _) => {
            for (i, value) in (0..).zip(values) {
                store_f32(blob, (rows.place(row) + i * each) as usize, *value);
            }
        }
        (Role::VectorFromOne { at }, _) => store_f32(blob, (at + row) as usize, 1.0 + values[0]),
        (Role::Table, Layout::Table { format: Format::F32, width, .. }) => {
            let at = row as usize * width * 4;
            blob[at..at + width * 4].copy_from_slice(bytemuck::cast_slice(values));
        }
        (Role::Table, Layout::Table { width, .. }) => {
            let at = row as usize * width * 2;
            floats::to_f16(values, &mut blob[at..at + width * 2]);
        }
        (role, layout) => unreachable!("{role:?} in {layout:?}"),
    }
}
