//! A T2I-Adapter in one file: under the original names, which count the resnets of all levels through, or under
//! diffusers'.

use super::{Names, Place};
use crate::safetensors::Header;

/// Resnets of a level in every published adapter that is not a light one.
const RESNETS: usize = 2;

/// By a tensor that each kind has.
const KINDS: [(&str, Names); 3] = [
    ("body.0.block1.weight", Names::T2iAdapter { light: false }),
    ("body.0.body.0.block1.weight", Names::T2iAdapter { light: true }),
    ("adapter.body.0.resnets.0.block1.weight", Names::Ours),
];

/// Where a file holds a T2I-Adapter, if it does.
pub fn t2i_place(header: &Header) -> Option<Place> {
    let has = |name: &str| header.tensors.iter().any(|t| t.name == name);
    let found = KINDS.iter().find(|(known, _)| has(known));
    found.map(|&(_, names)| Place::of_network("T2I-Adapter", "", names))
}

pub(super) fn t2i(path: &[&str], light: bool) -> Option<String> {
    let number = |i: &str| i.parse::<usize>().ok();
    Some(match (path, light) {
        (["adapter", "conv_in", end], _) => format!("conv_in.{end}"),
        (["adapter", "body", i, "resnets", j, rest @ ..], true) => {
            format!("body.{i}.body.{j}.{}", rest.join("."))
        }
        (["adapter", "body", i, "resnets", j, rest @ ..], false) => {
            let j = number(j).filter(|j| *j < RESNETS)?;
            format!("body.{}.{}", RESNETS * number(i)? + j, rest.join("."))
        }
        (["adapter", "body", i, "in_conv", end], false) => {
            format!("body.{}.in_conv.{end}", RESNETS * number(i)?)
        }
        (["adapter", rest @ ..], _) => rest.join("."),
        _ => return None,
    })
}
