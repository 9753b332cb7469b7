//! Executes plans on WebGPU, natively and in the browser. The only room that names wgpu.

mod buffer;
mod compile;
mod context;
mod failure;
mod lower;
mod profile;
mod program;
mod readback;
mod session;
mod tuning;
mod wait;
mod weights;

pub use context::{AdapterInfo, Gpu};
pub use lower::lower;
pub use program::{Binding, Dispatch, Program, Summary};
pub use readback::decode;
pub use session::Session;
pub use tuning::{Block, Rule, Tier, Tuning};
pub use weights::GpuWeights;
