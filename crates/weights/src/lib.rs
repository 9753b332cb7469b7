//! Weights as they come from outside: files of a model folder, read forward and handed on in slabs.
//!
//! [`stream()`] finds the safetensors files of one component and delivers its tensors, as f32 and in
//! the order of the file, to a [`Sink`]. Names go through unchanged: the name in the checkpoint is the
//! name in the code; single files with the original names are renamed by one table. Nothing here keeps a
//! whole tensor, let alone a whole file, in memory, except the small files that are added to a model: a
//! [`Lora`], an [`Embedding`].
//!
//! A [`Folder`] is where the files are: [`DiskFolder`], [`MemoryFolder`] or, in a browser, a URL.

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, host, json, warning};
use tintype_quant as quant;

mod checked;
mod checkpoint;
mod declare;
mod embedding;
mod fill;
mod finite;
mod head;
mod index;
mod limits;
mod lora;
mod merge;
mod original;
mod pack;
mod pickle;
mod piece;
mod place;
mod safetensors;
mod scaled;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod widen;

pub use checkpoint::{Checkpoint, Files};
pub use declare::{Columns, Declarations, Handle, Layout, Part, Role, Rows, Spec, Weight, weight_and_bias};
pub use embedding::{Embedding, is_embedding};
pub use fill::Filler;
pub use head::{header, header_and};
pub use limits::MAX_HEADER_BYTES;
pub use lora::{Adapter, Lora, addend};
pub use merge::Merge;
pub use original::{Names, Renamed};
pub use original::{control_place, t2i_place};
#[cfg(not(target_arch = "wasm32"))]
pub use pack::DiskKeep;
pub use pack::{CHUNK_BYTES, INDEX, Keep, Keeping, Listed, MANIFEST, MARK, Manifest, Recorded, packed};
pub use pickle::refuse_pickle;
pub use piece::{PIECE_BYTES, Piece, Pieces, Table};
pub use place::{Place, kind, places};
pub use safetensors::{Dtype, Header, TensorInfo};
pub use scaled::is_scale;
pub use source::{ByteStream, Folder, MemoryFile, MemoryFolder, OpenFile, SingleFile, join};
#[cfg(not(target_arch = "wasm32"))]
pub use source::{DiskFile, DiskFolder};
pub use stream::{Hooks, SLAB_BYTES, SLAB_ROWS, Sink, Streamed, stream, stream_file};
