//! Executes plans on WebGPU, natively and in the browser. The only room that names wgpu.

mod buffer;
mod compile;
mod context;
mod failure;
mod profile;
mod readback;
mod session;
mod wait;
mod weights;

pub use context::{AdapterInfo, Gpu};
pub use readback::decode;
pub use session::Session;
pub use weights::GpuWeights;
