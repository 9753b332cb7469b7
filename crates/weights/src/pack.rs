//! The pack: a model whose weights are already stored as the device wants them.
//!
//! It is a folder in the diffusers layout. In place of a network's checkpoint it has
//! `COMPONENT/tintype.safetensors`, whose tensors are the blobs of [`crate::quant`] in the order in which they are
//! uploaded, and at its root the [`Manifest`] `tintype.json`, which says what made it and the sha256 of every chunk of
//! every other file. Nothing of a pack is used that was not verified.

mod manifest;
mod read;
mod write;

pub use manifest::{CHUNK_BYTES, INDEX, Listed, MANIFEST, MARK, Manifest};
pub use read::fill_packed;
#[cfg(not(target_arch = "wasm32"))]
pub use write::DiskKeep;
pub use write::{Keep, Keeping, Recorded};

use super::declare::{Declarations, Handle, Layout};
use super::source::join;

/// The packed weights of a network.
pub fn packed(component: &str) -> String {
    join(component, "tintype.safetensors")
}

/// A handle's tensor in a pack: the name of the first tensor it was made of, and the first row of it where that is not all.
pub(super) fn name(declarations: &Declarations, handle: Handle) -> String {
    let part = &declarations.specs[handle.0 as usize].parts[0];
    match part.first_taken() {
        None | Some(0) => part.names[0].clone(),
        Some(row) => format!("{}.{row}", part.names[0]),
    }
}

/// What must be alike where a blob is written and where it is read.
fn describe(layout: &Layout) -> String {
    match layout {
        Layout::Matrix(m) => format!("{} {}x{}x{}", m.format.as_str(), m.outputs, m.taps, m.inputs),
        Layout::Vectors { bytes } => format!("vectors {}", bytes / 4),
        Layout::Table { format, rows, width } => format!("table {} {rows}x{width}", format.as_str()),
    }
}
