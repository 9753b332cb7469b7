//! Executes plans on the CPU: the same steps and buffers as on a GPU, always in f32. For machines without
//! a GPU, where it is many times faster than a software adapter, and as a second opinion in tests. The loops are those of
//! the crate `tintype-cpu`.

pub mod forms;
mod lower;
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
