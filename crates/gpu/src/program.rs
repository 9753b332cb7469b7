//! A plan as a GPU runs it: dispatches of kernels on shared buffers. Plain data too, made without a GPU.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::kernels::VariantId;
use crate::plan::{Buffers, Cost, Plan, Tensor, TensorId};
use tintype_weights::Handle;

/// What a kernel's binding holds.
#[derive(Clone, Copy, Debug)]
pub enum Binding {
    Tensor(TensorId),
    /// The blob of a handle and its size in bytes.
    Weight(Handle, u64),
    /// Nothing: the kernel's flags say that it is not read.
    Unused,
}

impl From<Tensor> for Binding {
    fn from(t: Tensor) -> Binding {
        Binding::Tensor(t.id)
    }
}

impl From<Option<Tensor>> for Binding {
    fn from(t: Option<Tensor>) -> Binding {
        t.map_or(Binding::Unused, Into::into)
    }
}

#[derive(Clone, Debug)]
pub struct Dispatch {
    pub variant: VariantId,
    /// The bytes of the kernel's `Params`; its first word is the first thread in y.
    pub params: Vec<u8>,
    pub bindings: Vec<Binding>,
    /// Threads in x and y.
    pub threads: [u32; 2],
    pub cost: Cost,
    /// What it reads and writes.
    pub bytes_moved: u64,
}

#[derive(Clone, Debug)]
pub struct Program {
    pub plan: Plan,
    pub dispatches: Vec<Dispatch>,
    /// The first dispatch of each of the plan's steps, and the number of all.
    pub starts: Vec<usize>,
    /// The plan's tensors, then workspace.
    pub tensors: Vec<Tensor>,
    pub buffers: Buffers,
}

/// The totals of a program. FLOPs count a multiply-add as two; sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub model_flops: u64,
    pub executed_flops: u64,
    pub dispatches: usize,
    pub weight_bytes: u64,
    /// Activations: all shared buffers together.
    pub peak_bytes: u64,
    pub bytes_moved: u64,
}

impl Program {
    /// The dispatches of some steps of the plan.
    pub fn of(&self, steps: Range<usize>) -> Range<usize> {
        self.starts[steps.start]..self.starts[steps.end]
    }

    pub fn summary(&self) -> Summary {
        let mut weights: Vec<(u32, u64)> = self.dispatches.iter().flat_map(weights_of).collect();
        weights.sort_unstable();
        weights.dedup();
        Summary {
            model_flops: self.dispatches.iter().map(|d| d.cost.model_flops).sum(),
            executed_flops: self.dispatches.iter().map(|d| d.cost.executed_flops).sum(),
            dispatches: self.dispatches.len(),
            weight_bytes: weights.iter().map(|w| w.1).sum(),
            peak_bytes: self.buffers.sizes.iter().sum(),
            bytes_moved: self.dispatches.iter().map(|d| d.bytes_moved).sum(),
        }
    }
}

fn weights_of(dispatch: &Dispatch) -> impl Iterator<Item = (u32, u64)> {
    dispatch.bindings.iter().filter_map(|b| match b {
        Binding::Weight(handle, bytes) => Some((handle.0, *bytes)),
        _ => None,
    })
}

/// One line a dispatch, and the totals.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.plan.sections {
            writeln!(f, "{}:", section.name)?;
            for dispatch in &self.dispatches[self.of(section.steps.clone())] {
                let v = dispatch.variant.get();
                write!(f, "  {:<12} {:<12}", v.kernel, v.name)?;
                for b in &dispatch.bindings {
                    match b {
                        Binding::Tensor(id) => {
                            let t = self.tensors[id.0 as usize];
                            write!(f, " {}@{}", t.shape, self.buffers.at(*id))?;
                        }
                        Binding::Weight(handle, _) => write!(f, " w{}", handle.0)?,
                        Binding::Unused => write!(f, " -")?,
                    }
                }
                writeln!(f)?;
            }
        }
        let s = self.summary();
        writeln!(
            f,
            "{} dispatches, {} model FLOPs, {} executed, weights {} B, peak {} B, moved {} B",
            s.dispatches, s.model_flops, s.executed_flops, s.weight_bytes, s.peak_bytes, s.bytes_moved
        )
    }
}
