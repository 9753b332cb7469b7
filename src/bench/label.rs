//! A step's name: its kernel, variant and shapes.

use crate::kernels::Access;
use crate::plan::{Binding, Plan};

/// "conv 3 [1, 64, 64, 320] [1, 64, 64, 320] > [1, 64, 64, 320]": what it reads of activations, and what it writes.
/// The storage is left out, so that the same step under two settings has one name.
pub fn of(plan: &Plan, index: usize) -> String {
    let step = &plan.steps[index];
    let v = step.variant.get();
    let shapes = |access: Access| {
        let tensors = step.bindings.iter().zip(v.bindings).filter(move |(_, a)| **a == access);
        let names = tensors.filter_map(|(b, _)| match b {
            Binding::Tensor(id) => Some(plan.tensors[id.0 as usize].shape.to_string()),
            Binding::Weight(..) | Binding::Unused => None,
        });
        names.collect::<Vec<_>>().join(" ")
    };
    let constant: String = v.constants().iter().map(|(_, value)| format!(" {value}")).collect();
    format!("{}{constant} {} > {}", v.kernel, shapes(Access::Read), shapes(Access::ReadWrite))
}
