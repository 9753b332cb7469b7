//! Executes plans on the CPU: the same steps and buffers as on a GPU, always in f32. For machines without
//! a GPU, where it is many times faster than a software adapter, and as a second opinion in tests.

mod activation;
mod attention;
mod conv;
mod elementwise;
mod gemm;
mod matmul;
mod norm;
mod parallel;
mod session;
mod weights;

pub use session::Session;
pub use weights::Weights;

/// For people: what the loops run on.
pub fn name() -> String {
    let threads = match rayon::current_num_threads() {
        1 => "1 thread".to_owned(),
        several => format!("{several} threads"),
    };
    let relaxed = if cfg!(target_feature = "relaxed-simd") { ", relaxed SIMD" } else { "" };
    format!("CPU, {threads}{relaxed}")
}

/// Products accumulate in f32; a panel of weights that is unpacked at a time has at most this many values.
const PANEL: usize = 1 << 20;

/// Reads a kernel's `Params` from a step.
fn params<T: bytemuck::Pod>(bytes: &[u8]) -> T {
    bytemuck::pod_read_unaligned(bytes)
}
