//! Tintype makes images from words on the user's own GPU: distilled latent diffusion models, in the
//! Hugging Face diffusers layout, by hand-written WGSL kernels through WebGPU; or on the CPU, where there is no
//! GPU.
//!
//! # Four phases
//!
//! ```text
//! declare  pure               config -> layers, each a set of handles (name, shape, layout, format)
//! fill     async, may fail    bytes, in whatever order they stream, -> the handles' buffers
//! record   pure, cannot fail  layers + shapes + Target -> Plan      no GPU, no browser, no Result
//! run      async              Plan + buffers -> pixels              fails only when the device is lost or full
//! ```
//!
//! Everything wrong with the outside world (files, configurations, options) is found while declaring and
//! filling, and said in a sentence with a stable [`error::Code`]. After that a wrong shape is a bug of ours:
//! an `assert!` with both shapes in it, and the code of models has no `?`. A [`plan::Plan`] is plain data;
//! [`plan::Plan::check`] is where a request meets the device's limits. It is a list of operations ([`plan::ops`]); a device
//! lowers them: `crates/gpu/src/lower.rs` to dispatches of kernels, chosen by operation, shape and a table that is data
//! (`tuning.rs`), `crates/device/src/cpu/lower.rs` to loops, and `tests/twin/plan.rs` to formulas in f64.
//!
//! # Rooms
//!
//! A crate each, so that cargo holds the arrows: a room uses none but those above it. All may use `base`; the main arrows:
//!
//! ```text
//! crates/base      errors, warnings, shapes, images, random numbers; the host: a clock, a way to cancel
//! crates/quant     formats of weights: how a matrix lies in its blob
//! crates/cpu       the CPU's loops on slices, which know no plan           <- quant
//! crates/kernels   the table of kernels/*.wgsl, checked by its build script
//! crates/tokenizer tokenizers of large text encoders, by the `tokenizers` crate; in browsers a module of its own
//! crates/text      prompts, tokenizers                                      <- tokenizer, but in browsers
//! crates/schedule  schedulers
//! crates/weights   files of a model folder, read forward, renamed, merged  <- quant, cpu
//! crates/graph     plans and the layers that record them                   <- weights
//! crates/model     networks under diffusers' names                         <- graph, weights, quant
//! crates/gpu       plans on WebGPU: kernels chosen by operation and shape  <- graph, kernels, weights
//! crates/device    a GPU or a CPU: weights, sessions                       <- gpu, cpu, graph, weights, quant
//! src              pipeline (text and images to images), bench, web, the native command
//! ```
//!
//! In the module for browsers `cpu` and `quant` are compiled for speed, the others for size.
//!
//! # Invariants
//!
//! - wgpu is a dependency of `crates/gpu` alone; wasm_bindgen is named only in `src/web`, `crates/base/src/host/web.rs`
//!   and `crates/tokenizer/src/web.rs`.
//! - In a browser everything runs in a worker, where blocking is allowed, unless a page wants its own thread: rayon's
//!   threads are further workers on the same memory. That memory is shared, which most of a browser's functions refuse:
//!   they get copies.
//! - Activations are `[N, H, W, C]`, sequences `[N, T, 1, C]`, C packed by four and padded with zeros.
//! - A kernel's `Params` are written once, in WGSL; its build script makes the Rust struct. Its first word is the
//!   first thread in y, so that any dispatch can be cut into bands.
//! - Weights and sessions own their device: a session runs where its weights are.
//! - No buffer is read and written in one dispatch; tensors share whole buffers by lifetime.
//! - The name in the checkpoint is the name in the code; tables rename single files (`crates/weights/src/original.rs`).
//! - Reductions have a fixed order: the same device and driver give the same bits.
//!
//! # How to add a kernel
//!
//! 1. `kernels/x.wgsl`: its formula, shapes, grid; entry point `x`. Slots are `//# use elem weight`,
//!    constants `//# const NAME`; what fills them is one line in `kernels/variants.txt`.
//! 2. `crates/graph/src/plan/ops/x.rs`: the operation's fields, shape rule and cost, and a line in `operations!`. The compiler then
//!    asks for what lowers it: `crates/gpu/src/lower` (variant, params, threads), `crates/device/src/cpu/lower.rs`, `tests/twin/plan.rs`.
//! 3. `tests/twin/x.rs`, the formula in plain Rust, and `tests/ops/x.rs`, the comparison.
//!
//! Another kernel for an operation that is there is its file, a line in `variants.txt`, and what chooses it: a row in
//! `tuning.rs` and an arm in the operation's file in `lower`.
//!
//! The build script of `crates/kernels` checks every variant with naga and against the limits that all devices have; a browser test
//! compiles every variant in Chromium.
//!
//! # How to add a scheduler, a task, a block
//!
//! - A scheduler is a file in `crates/schedule/src`, from a configuration to the coefficients of every step, and a line in
//!   `SCHEDULERS`.
//! - A task is a file in `src/pipeline/start`, which makes what denoising begins with, and a line in
//!   `Pipeline::start`.
//! - A family of models is a file in `src/pipeline/family` and a row in `FAMILIES`.
//! - A kind of U-Net block is a file in `crates/model/src/unet`, the module after its resnets, and a line in `KINDS`.
//!
//! Each wants its case in `tests/golden` (`make.py`, `later.py`).

pub mod bench;
pub mod pipeline;
#[cfg(target_arch = "wasm32")]
mod web;

pub use tintype_base::{error, host, image, json, rng, shape, warning};
pub use tintype_device as device;
pub use tintype_device::cpu;
pub use tintype_gpu as gpu;
pub use tintype_graph::{nn, plan};
pub use tintype_kernels as kernels;
pub use tintype_model as model;
pub use tintype_quant as quant;
pub use tintype_schedule as schedule;
pub use tintype_text::{chat, prompt, tokenizer};
pub use tintype_weights as weights;
