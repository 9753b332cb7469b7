//! Which weights of 3x3 convolutions are kept as Winograd's transforms want them, in place of the weights: more memory,
//! and nothing to transform at a call.

use std::collections::HashMap;

use tintype_cpu::Form;
use tintype_cpu::conv::{Shape, Way};
use tintype_cpu::winograd::Kind;

use super::lower::convolutions;
use crate::plan::Plan;
use crate::quant::Format;
use crate::weights::{Declarations, Handle, Layout};

/// What a network's weights may take more where nobody says what there is, in hundredths of them.
const USUAL: u64 = 35;

pub fn usual(declarations: &Declarations) -> u64 {
    let bytes: u64 = declarations.specs.iter().map(|spec| spec.layout.bytes() as u64).sum();
    bytes * USUAL / 100
}

/// Says in the declarations which weights are kept in which form, as far as `spare` bytes more allow; returns what they
/// take more. `plan` is of the usual size: where another is drawn the weights stay as they are, a little slower.
///
/// What is transformed at a call anyhow is kept first as F(2x2), for the least memory; then as F(4x4) where that is what
/// a call makes; then as F(4x4) in place of F(2x2). Of one kind those with the fewest tiles come first, for which a
/// transform weighs most.
pub fn keep(declarations: &mut Declarations, plan: &Plan, spare: u64) -> u64 {
    let mut shapes: HashMap<Handle, Shape> = HashMap::new();
    for (handle, shape) in convolutions(plan) {
        let found = shapes.entry(handle).or_insert(shape);
        if shape.tiles(Kind::F4) > found.tiles(Kind::F4) {
            *found = shape;
        }
    }
    let plain = |handle: Handle| match declarations.specs[handle.0 as usize].layout {
        Layout::Matrix(matrix) if matrix.format == Format::F32 => Some(matrix.size()),
        _ => None,
    };
    let mut found: Vec<(Handle, Shape, u64)> = shapes
        .into_iter()
        .filter_map(|(handle, shape)| plain(handle).map(|bytes| (handle, shape, bytes)))
        .collect();
    found.sort_by_key(|(handle, shape, _)| (shape.tiles(Kind::F2), handle.0));
    let mut taken = 0;
    for (from, way, to) in [
        (Form::Plain, Way::Winograd(Kind::F2), Kind::F2),
        (Form::Plain, Way::Winograd(Kind::F4), Kind::F4),
        (Form::Winograd(Kind::F2), Way::Winograd(Kind::F2), Kind::F4),
    ] {
        for (handle, shape, bytes) in &found {
            let spec = &mut declarations.specs[handle.0 as usize];
            let enough = to != Kind::F4 || shape.tiles(Kind::F4) >= tintype_cpu::conv::KEPT_F4;
            let more = more(*bytes, to) - if from == Form::Plain { 0 } else { more(*bytes, Kind::F2) };
            if spec.form == from && shape.way() == way && enough && taken + more <= spare {
                (spec.form, taken) = (Form::Winograd(to), taken + more);
            }
        }
    }
    taken
}

/// Bytes that the steps of a plan share beside its buffers.
pub fn scratch(declarations: &Declarations, plan: &Plan) -> u64 {
    let of = |(handle, shape): (Handle, Shape)| shape.scratch(declarations.specs[handle.0 as usize].form);
    convolutions(plan).map(of).max().unwrap_or(0)
}

/// What transformed weights take more than `bytes` of weights.
fn more(bytes: u64, kind: Kind) -> u64 {
    // A little room keeps elements apart.
    bytes * kind.elements() as u64 / 9 * 101 / 100 - bytes
}
