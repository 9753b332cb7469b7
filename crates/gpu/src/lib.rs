//! Executes plans on WebGPU, natively and in the browser. The only room that names wgpu.

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, host, shape};
use tintype_graph::plan;
use tintype_kernels as kernels;

mod buffer;
mod compile;
mod context;
mod failure;
mod lower;
mod profile;
mod program;
mod readback;
mod session;
mod trial;
mod tuning;
mod wait;
mod weights;

pub use context::{AdapterInfo, Choice, Gpu};
pub use lower::lower;
pub use program::{Binding, Dispatch, Program, Summary};
pub use readback::decode;
pub use session::Session;
pub use trial::Trial;
pub use tuning::{Block, Rule, Tier, Tile, Tuning, Winograd};
pub use weights::GpuWeights;
