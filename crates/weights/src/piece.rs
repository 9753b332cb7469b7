//! What a checkpoint is filled into: pieces of blobs, on their way to a device.

use half::f16;

use super::declare::{Declarations, Handle};
use crate::quant::Format;

/// A piece of a handle's blob never has more bytes than this.
pub const PIECE_BYTES: usize = 8 << 20;

/// Some bytes of a handle's blob, from byte `at` on. The pieces of a blob cover it exactly once, in any order.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    pub handle: Handle,
    pub at: usize,
    pub bytes: &'a [u8],
}

/// Puts pieces together, where a blob is wanted whole.
pub struct Pieces<'a> {
    declarations: &'a Declarations,
    /// What has come of each handle, and how much that is.
    blobs: Vec<(Vec<u8>, usize)>,
}

impl<'a> Pieces<'a> {
    pub fn new(declarations: &'a Declarations) -> Self {
        Pieces { declarations, blobs: vec![(vec![], 0); declarations.specs.len()] }
    }

    /// The blob, if this was the last piece of it.
    pub fn add(&mut self, piece: Piece<'_>) -> Option<(Handle, Vec<u8>)> {
        let at = piece.handle.0 as usize;
        let size = self.declarations.specs[at].layout.bytes();
        let (blob, come) = &mut self.blobs[at];
        blob.resize(size, 0);
        blob[piece.at..piece.at + piece.bytes.len()].copy_from_slice(piece.bytes);
        *come += piece.bytes.len();
        if *come < size {
            return None;
        }
        let (blob, _) = std::mem::take(&mut self.blobs[at]);
        Some((piece.handle, blob))
    }
}

/// Rows that stay on the CPU, of f32 or f16. There are many, of which a prompt wants a few: halves stay as they came.
pub struct Table {
    width: usize,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<u8>),
}

impl Table {
    pub fn new(format: Format, width: usize, blob: Vec<u8>) -> Table {
        let values = match format {
            Format::F32 => Values::F32(bytemuck::pod_collect_to_vec(&blob)),
            _ => Values::F16(blob),
        };
        Table { width, values }
    }

    pub fn rows(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len() / self.width,
            Values::F16(bytes) => bytes.len() / 2 / self.width,
        }
    }

    /// A row, if there are so many.
    pub fn row(&self, index: usize) -> Option<Vec<f32>> {
        let row = |size: usize| Some(index.checked_mul(size)?..index.checked_add(1)?.checked_mul(size)?);
        match &self.values {
            Values::F32(values) => values.get(row(self.width)?).map(<[f32]>::to_vec),
            Values::F16(bytes) => {
                let halves = bytes.get(row(2 * self.width)?)?.chunks_exact(2);
                Some(halves.map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect())
            }
        }
    }

    /// All rows of a table of f32, one after the other.
    pub fn values(&self) -> &[f32] {
        match &self.values {
            Values::F32(values) => values,
            Values::F16(_) => panic!("rows of tokens are gathered one by one"),
        }
    }
}
