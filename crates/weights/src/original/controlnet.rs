//! A ControlNet in one file: under the original names, or under diffusers'.

use super::{Count, Names, Place, unet};
use crate::safetensors::Header;

/// Where a file holds a ControlNet, if it does.
pub fn control_place(header: &Header) -> Option<Place> {
    let has = |name: &str| header.tensors.iter().any(|t| t.name == name);
    if has("controlnet_cond_embedding.conv_in.weight") {
        return Some(Place::of_network("ControlNet", "", Names::Ours));
    }
    // The image's convolutions are numbered with the activations between them.
    let picture = |prefix: &str, i: usize| has(&format!("{prefix}input_hint_block.{i}.weight"));
    let prefix = ["control_model.", ""].into_iter().find(|prefix| picture(prefix, 0))?;
    let last = (0..).step_by(2).take_while(|&i| picture(prefix, i)).last()?;
    Some(Place::of_network("ControlNet", prefix, Names::ControlNet { last }))
}

/// The down path and the middle are those of the U-Net.
pub(super) fn control(path: &[&str], count: Count, last: usize) -> Option<String> {
    Some(match path {
        ["controlnet_cond_embedding", "conv_in", end] => format!("input_hint_block.0.{end}"),
        ["controlnet_cond_embedding", "blocks", i, end] => {
            format!("input_hint_block.{}.{end}", 2 * i.parse::<usize>().ok()? + 2)
        }
        ["controlnet_cond_embedding", "conv_out", end] => format!("input_hint_block.{last}.{end}"),
        ["controlnet_down_blocks", i, end] => format!("zero_convs.{i}.0.{end}"),
        ["controlnet_mid_block", end] => format!("middle_block_out.0.{end}"),
        _ => unet(path, count)?.into_iter().next()?,
    })
}
