//! A ControlNet in one file: under the original names, or under diffusers'.

use super::{Count, Names, Place, unet};
use crate::weights::safetensors::Header;

/// Where a ControlNet may be in a file, with a tensor by which it is known.
const PLACES: [(&str, Names, &str); 3] = [
    ("control_model.", Names::ControlNet, "input_hint_block.0.weight"),
    ("", Names::ControlNet, "input_hint_block.0.weight"),
    ("", Names::Ours, "controlnet_cond_embedding.conv_in.weight"),
];

/// Where a file holds a ControlNet, if it does.
pub fn control_place(header: &Header) -> Option<Place> {
    let has = |name: String| header.tensors.iter().any(|t| t.name == name);
    let found = PLACES.iter().find(|(prefix, _, known)| has(format!("{prefix}{known}")));
    found.map(|&(prefix, names, _)| Place { component: "ControlNet", prefix, names })
}

impl Place {
    /// The shape of a tensor of ours, as long as its name depends on no other tensor.
    pub fn shape<'h>(&self, header: &'h Header, ours: &str) -> Option<&'h [usize]> {
        let (original, _) = self.names.original(ours, Count::default()).into_iter().next()?;
        let name = format!("{}{original}", self.prefix);
        header.tensors.iter().find(|t| t.name == name).map(|t| &t.shape[..])
    }
}

/// The down path and the middle are those of the U-Net. The picture's convolutions are numbered with what lies between
/// them.
pub(super) fn control(path: &[&str], count: Count) -> Option<String> {
    let number = |i: &str| i.parse::<usize>().ok();
    Some(match path {
        ["controlnet_cond_embedding", "conv_in", end] => format!("input_hint_block.0.{end}"),
        ["controlnet_cond_embedding", "blocks", i, end] => {
            format!("input_hint_block.{}.{end}", 2 * number(i)? + 2)
        }
        ["controlnet_cond_embedding", "conv_out", end] => {
            format!("input_hint_block.{}.{end}", 2 * count.pictures + 2)
        }
        ["controlnet_down_blocks", i, end] => format!("zero_convs.{i}.0.{end}"),
        ["controlnet_mid_block", end] => format!("middle_block_out.0.{end}"),
        _ => unet(path, count)?.into_iter().next()?,
    })
}
