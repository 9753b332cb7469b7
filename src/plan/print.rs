//! Plans for people: totals, and one line a step.

use std::fmt;

use serde::Serialize;

use super::{Binding, Plan, Step};

/// The totals of a plan. FLOPs count a multiply-add as two; sizes are in bytes.
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

impl Plan {
    pub fn summary(&self) -> Summary {
        let mut weights: Vec<(u32, u64)> = self.steps.iter().flat_map(weights_of).collect();
        weights.sort_unstable();
        weights.dedup();
        Summary {
            model_flops: self.steps.iter().map(|s| s.cost.model_flops).sum(),
            executed_flops: self.steps.iter().map(|s| s.cost.executed_flops).sum(),
            dispatches: self.steps.len(),
            weight_bytes: weights.iter().map(|w| w.1).sum(),
            peak_bytes: self.buffers.iter().sum(),
            bytes_moved: self.steps.iter().map(|s| self.bytes_moved(s)).sum(),
        }
    }
}

fn weights_of(step: &Step) -> impl Iterator<Item = (u32, u64)> {
    step.bindings.iter().filter_map(|b| match b {
        Binding::Weight(handle, bytes) => Some((handle.0, *bytes)),
        _ => None,
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            writeln!(f, "{}:", section.name)?;
            for step in &self.steps[section.steps.clone()] {
                let v = step.variant.get();
                write!(f, "  {:<12} {:<12}", v.kernel, v.name)?;
                for b in &step.bindings {
                    match b {
                        Binding::Tensor(id) => {
                            let t = self.tensors[id.0 as usize];
                            write!(f, " {}@{}", t.shape, self.assignment[id.0 as usize])?;
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
