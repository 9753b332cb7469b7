//! Where plans run: on a GPU, or on the CPU of a machine that has none.

pub mod cpu;

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use crate::error::{Code, Error, Result};
use crate::gpu::Gpu;
use crate::host::Cancel;
use crate::plan::{Faults, Limits, Plan, Target, WATCH};
use crate::shape::Elem;
use crate::weights::{Checkpoint, Declarations, Handle, Hooks, Table};

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, host, shape};
use tintype_gpu as gpu;
use tintype_graph::plan;
use tintype_quant as quant;
use tintype_weights as weights;

/// A handle: what is made on a device holds one.
#[derive(Clone)]
pub enum Device {
    Gpu(Rc<Gpu>),
    Cpu,
}

/// What a CPU makes of memory: which weights of convolutions are kept transformed, and what steps share.
pub use cpu::forms as on_cpu;

/// What plans cost on a GPU of the base tuning.
pub use gpu::{Program, Summary};

pub fn program(plan: &Plan) -> Program {
    gpu::lower(plan.clone(), &gpu::Tuning::BASE)
}

/// Bytes of a plan's activations.
pub fn activation_bytes(plan: &Plan) -> u64 {
    program(plan).buffers.sizes.iter().sum()
}

/// What is known of a GPU beforehand: wgpu learns little from most browsers.
pub struct Known {
    /// For people.
    pub name: String,
    /// A software adapter; the name may show it too.
    pub software: bool,
}

impl Device {
    /// "gpu"; "cpu"; or "auto": the GPU, unless there is none or only a software adapter, which is many
    /// times slower than the CPU backend. `adapter` is part of the name of the GPU that is wanted; naming one,
    /// or `activations` that only a GPU has, is a choice of the GPU.
    pub async fn open(
        choice: &str,
        activations: &str,
        adapter: Option<&str>,
        known: Option<Known>,
    ) -> Result<Device> {
        let free = choice == "auto" && adapter.is_none() && !matches!(activations, "f16" | "pack16");
        match choice {
            "cpu" => Ok(Device::Cpu),
            "gpu" | "auto" => {
                let mut gpu = match Gpu::new(adapter).await {
                    Err(_) if free => return Ok(Device::Cpu),
                    found => found?,
                };
                if let Some(known) = known {
                    gpu.learn(known.name, known.software);
                }
                if free && gpu.info.software { Ok(Device::Cpu) } else { Ok(Device::Gpu(Rc::new(gpu))) }
            }
            other => Err(Error::option(format!("device: wanted auto, gpu or cpu, found {other:?}"))),
        }
    }

    /// "gpu" or "cpu".
    pub fn kind(&self) -> &'static str {
        match self {
            Device::Gpu(_) => "gpu",
            Device::Cpu => "cpu",
        }
    }

    /// For people.
    pub fn name(&self) -> String {
        match self {
            Device::Gpu(gpu) => gpu.info.name.clone(),
            Device::Cpu => cpu::name(),
        }
    }

    /// The name of the table that chooses kernels by shape; a CPU has none.
    pub fn tuning(&self) -> Option<&'static str> {
        match self {
            Device::Gpu(gpu) => Some(gpu.tuning.get().name),
            Device::Cpu => None,
        }
    }

    /// Takes the table of this name in place of the one that fits the device, so that the same seed gives the same bits
    /// wherever that table is taken; "auto" and "measured" leave it to [`Device::try_tables`]. A CPU that stands in for a GPU
    /// has none, as [`Device::tuning`] says.
    ///
    /// Errors: `invalid-option` for a name that no table has, `unsupported` where `choice` of the device is "cpu".
    pub fn tune(&self, name: &str, choice: &str) -> Result<()> {
        match (self, gpu::Tuning::find(name)) {
            _ if name == "auto" => Ok(()),
            (_, None) if name != "measured" => Err(Error::option(format!(
                "tuning: wanted auto, measured, {}, found {name:?}",
                gpu::Tuning::names()
            ))),
            (Device::Gpu(gpu), tuning) => {
                gpu.tuning.set(tuning.unwrap_or(gpu.tuning.get()));
                gpu.choice.set(if tuning.is_some() { gpu::Choice::Made } else { gpu::Choice::Measured });
                Ok(())
            }
            (Device::Cpu, _) if choice != "cpu" => Ok(()),
            (Device::Cpu, _) => {
                Err(Error::unsupported(format!("tuning {name}: the CPU has no kernels to choose; use auto")))
            }
        }
    }

    /// Tries the tables that may fit a GPU and takes the fastest that computes what the one at hand does: once, for
    /// activations of this storage; where no table was named, on a GPU that is not software, for a model whose images
    /// take enough `flops`; or where "measured" was asked for.
    pub async fn try_tables(
        &self,
        target: &Target,
        flops: impl FnOnce() -> Result<u64>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        match self {
            Device::Gpu(gpu) => gpu.try_tables(target.elem, flops, cancelled).await,
            Device::Cpu => Ok(()),
        }
    }

    /// Has kernels take as little workspace as they may: what a model needs of memory is known without it.
    pub fn save_workspace(&self) {
        if let Device::Gpu(gpu) = self {
            gpu.tuning.set(gpu.tuning.get().saving());
        }
    }

    /// The storage that `activations` asks for: "auto", "f32", "f16" or "pack16".
    pub fn elem(&self, activations: &str) -> Result<Elem> {
        match (self, activations) {
            (Device::Gpu(gpu), _) => gpu.elem(activations),
            (Device::Cpu, "auto" | "f32") => Ok(Elem::F32),
            (Device::Cpu, "f16" | "pack16") => Err(Error::unsupported(format!(
                "activations {activations}: the CPU computes in f32; use auto"
            ))),
            (Device::Cpu, other) => {
                Err(Error::option(format!("activations: wanted auto, f32, f16 or pack16, found {other:?}")))
            }
        }
    }

    /// What plans are recorded for, with the storage that `activations` asks for.
    pub fn target(&self, activations: &str) -> Result<Target> {
        Ok(Target::new(self.elem(activations)?))
    }

    /// Bytes that a program can have in its own memory: in a browser it has 4 GiB of addresses, and one that asks for more is
    /// ended.
    pub const OWN_MEMORY: Option<u64> =
        if cfg!(target_pointer_width = "32") { Some(usize::MAX as u64 / 4 * 3) } else { None };

    /// How many kernels of these plans were not compiled yet. A CPU has none.
    pub fn uncompiled(&self, plans: &[&Plan]) -> usize {
        match self {
            Device::Gpu(gpu) => gpu.uncompiled(plans).len(),
            Device::Cpu => 0,
        }
    }

    /// Compiles them. `progress` gets how many are compiled, from 0 on, and their number, if there are any; between two
    /// of them `cancelled` is asked.
    pub async fn compile(
        &self,
        plans: &[&Plan],
        progress: &dyn Fn(usize, usize),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        match self {
            Device::Gpu(gpu) => gpu.settle(gpu.compile_all(plans, progress, cancelled).await).await,
            Device::Cpu => Ok(()),
        }
    }

    pub fn limits(&self) -> Limits {
        match self {
            Device::Gpu(gpu) => gpu.info.limits,
            // The most that one allocation of a 32-bit machine can have.
            Device::Cpu => Limits { binding: i32::MAX as u64, buffer: i32::MAX as u64 },
        }
    }
}

/// What a model's handles were filled with.
pub enum Weights {
    Gpu(gpu::GpuWeights),
    Cpu(Rc<cpu::Weights>),
}

impl Weights {
    /// Streams checkpoints into the handles: as many as the declarations have sources.
    pub async fn load(
        device: &Device,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_>],
        hooks: Hooks<'_>,
    ) -> Result<Weights> {
        declarations.check(checkpoints.first().map_or("", |checkpoint| checkpoint.component))?;
        Ok(match device {
            Device::Gpu(gpu) => {
                let loaded = gpu::GpuWeights::load(gpu, declarations, checkpoints, hooks).await;
                Weights::Gpu(gpu.settle(loaded).await?)
            }
            Device::Cpu => Weights::Cpu(Rc::new(cpu::Weights::load(declarations, checkpoints, hooks).await?)),
        })
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        match self {
            Weights::Gpu(weights) => Device::Gpu(weights.gpu.clone()),
            Weights::Cpu(_) => Device::Cpu,
        }
    }

    /// Streams these handles again, where something that is added to them has changed
    /// ([`Checkpoint::touched`]). Sessions go on with the new values. After an error some are new and some old,
    /// and the same call may be made again.
    pub async fn reload(
        &self,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_>],
        handles: &HashSet<Handle>,
        hooks: Hooks<'_>,
    ) -> Result<()> {
        match self {
            Weights::Gpu(weights) => {
                let reloaded = weights.reload(declarations, checkpoints, handles, hooks).await;
                weights.gpu.settle(reloaded).await
            }
            Weights::Cpu(weights) => weights.reload(declarations, checkpoints, handles, hooks).await,
        }
    }

    /// Blobs that were made elsewhere (tests, bench).
    pub fn from_blobs(
        device: &Device,
        declarations: &Declarations,
        blobs: impl IntoIterator<Item = (Handle, Vec<u8>)>,
    ) -> Weights {
        match device {
            Device::Gpu(gpu) => Weights::Gpu(gpu::GpuWeights::from_blobs(gpu, declarations, blobs)),
            Device::Cpu => Weights::Cpu(Rc::new(cpu::Weights::from_blobs(declarations, blobs))),
        }
    }

    /// [`Self::from_blobs`], with an error where the device has no room.
    pub async fn try_from_blobs(
        device: &Device,
        declarations: &Declarations,
        blobs: impl IntoIterator<Item = (Handle, Vec<u8>)>,
    ) -> Result<Weights> {
        let room = Device::OWN_MEMORY.unwrap_or(u64::MAX);
        let bytes: u64 = declarations.specs.iter().map(|spec| spec.layout.bytes() as u64).sum();
        let make = || Weights::from_blobs(device, declarations, blobs);
        match device {
            Device::Gpu(gpu) => gpu.allocate(make).await,
            Device::Cpu if bytes > room => Err(Error::new(
                Code::OutOfMemory,
                format!("weights of {} MiB, a program here has at most {}", bytes >> 20, room >> 20),
            )),
            Device::Cpu => Ok(make()),
        }
    }

    pub fn table(&self, handle: Handle) -> Rc<Table> {
        match self {
            Weights::Gpu(weights) => weights.table(handle),
            Weights::Cpu(weights) => weights.table(handle),
        }
    }
}

/// A plan made ready on a device.
pub enum Session {
    Gpu(gpu::Session),
    Cpu(cpu::Session),
}

impl Session {
    /// On the device of the weights.
    pub async fn new(plan: Plan, weights: &Weights) -> Result<Session> {
        Ok(match weights {
            Weights::Gpu(weights) => {
                Session::Gpu(weights.gpu.settle(gpu::Session::new(plan, weights).await).await?)
            }
            Weights::Cpu(weights) => Session::Cpu(cpu::Session::new(plan, weights.clone())),
        })
    }

    pub fn plan(&self) -> &Plan {
        match self {
            Session::Gpu(session) => session.plan(),
            Session::Cpu(session) => &session.plan,
        }
    }

    /// Writes `[N, H, W, C]` values to an input.
    pub fn write(&self, name: &str, values: &[f32]) {
        match self {
            Session::Gpu(session) => session.write(name, values),
            Session::Cpu(session) => session.write(name, values),
        }
    }

    /// Reads an output, or what has become of an input, as `[N, H, W, C]` values.
    pub async fn read(&self, name: &str) -> Result<Vec<f32>> {
        match self {
            Session::Gpu(session) => session.gpu.settle(session.read(name).await).await,
            Session::Cpu(session) => Ok(session.read(name)),
        }
    }

    /// Reads the stored bytes of an output.
    pub async fn read_bytes(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Session::Gpu(session) => session.gpu.settle(session.read_bytes(name).await).await,
            Session::Cpu(session) => Ok(session.read_bytes(name)),
        }
    }

    /// Sets the counters of what is wrong with a network's values to zero.
    pub fn reset_watch(&self) {
        if self.plan().inputs.contains_key(WATCH) {
            self.write(WATCH, &[0.0; 4]);
        }
    }

    /// Reads as [`Self::read`], and what was wrong with the network's values since [`Self::reset_watch`], in one turn.
    pub async fn read_watched(&self, name: &str) -> Result<(Vec<f32>, Faults)> {
        match self {
            Session::Gpu(session) => {
                let (bytes, faults) = session.gpu.settle(session.read_watched(name).await).await?;
                Ok((gpu::decode(session.plan().named(name), &bytes), faults))
            }
            Session::Cpu(session) => Ok((session.read(name), session.faults())),
        }
    }

    /// Reads as [`Self::read_bytes`], and as [`Self::read_watched`].
    pub async fn read_bytes_watched(&self, name: &str) -> Result<(Vec<u8>, Faults)> {
        match self {
            Session::Gpu(session) => session.gpu.settle(session.read_watched(name).await).await,
            Session::Cpu(session) => Ok((session.read_bytes(name), session.faults())),
        }
    }

    /// Seconds of `repeats` executions of these steps, one after the other.
    pub async fn time(&self, steps: Range<usize>, repeats: usize) -> Result<f64> {
        match self {
            Session::Gpu(session) => session.gpu.settle(session.time(steps, repeats).await).await,
            Session::Cpu(session) => Ok(session.time(steps, repeats)),
        }
    }

    /// Seconds that encoding one dispatch of these steps takes; a CPU encodes nothing.
    pub fn encode_seconds(&self, steps: Range<usize>) -> Option<f64> {
        match self {
            Session::Gpu(session) => Some(session.encode_seconds(steps)),
            Session::Cpu(_) => None,
        }
    }

    /// Runs a section. `progress` gets the fraction of its work that is done, from 0 to 1.
    pub async fn run(&self, section: &str, cancel: &Cancel, progress: &dyn Fn(f64)) -> Result<()> {
        match self {
            Session::Gpu(session) => session.gpu.settle(session.run(section, cancel, progress).await).await,
            Session::Cpu(session) => session.run(section, cancel, progress).await,
        }
    }
}
