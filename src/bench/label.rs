//! A step's name: its operation and shapes.

use crate::plan::ops::Op;
use crate::plan::{Step, Tensor};

/// "conv 3 [1, 64, 64, 320] [1, 64, 64, 320] > [1, 64, 64, 320]": what it reads of activations, and what it writes.
/// The storage is left out, so that the same step under two settings has one name.
pub fn of(step: &Step) -> String {
    let shapes = |tensors: &[Tensor]| {
        let names: Vec<String> = tensors.iter().map(|t| t.shape.to_string()).collect();
        names.join(" ")
    };
    let kind = match &step.op {
        Op::Conv(conv) => format!(" {}", conv.kernel()),
        Op::Attention(attention) => format!(" {}", attention.padded / 4),
        _ => String::new(),
    };
    format!("{}{kind} {} > {}", step.op.name(), shapes(&step.op.reads()), step.y.shape)
}
