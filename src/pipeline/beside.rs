//! What works beside a U-Net: each a folder in the diffusers layout, or one file, which names and shapes describe.

use super::{FileIn, read_json};
use crate::error::{Error, Result};
use crate::model::config::{
    ClipVisionConfig, ControlNetConfig, IpAdapterConfig, T2iAdapterConfig, TextTime, UnetConfig,
};
use crate::model::unet::Networks;
use crate::weights::{Checkpoint, Header, Names, Place, control_place, header, t2i_place};

/// The stem of the files of a folder that has one network.
pub(super) const STEM: &str = "diffusion_pytorch_model";

/// A ControlNet that fits, and where its tensors are.
pub(super) async fn control<'a>(
    file: FileIn<'a>,
    networks: &Networks,
) -> Result<(ControlNetConfig, Checkpoint<'a>)> {
    let FileIn { folder, path } = file;
    let (config, checkpoint) = if path.is_empty() {
        let json = read_json(folder, "config.json").await?;
        let config = ControlNetConfig::from_json(&json, "config.json")?;
        (config, Checkpoint::new(folder, "", STEM))
    } else {
        let header = header(folder, path).await?;
        let place = place_of_control(&header, path)?;
        let attends = |name: &str| name.starts_with(place.prefix) && name.ends_with("attn2.to_k.weight");
        let keys = header.tensors.iter().find(|t| attends(&t.name));
        let context = keys.and_then(|t| t.shape.get(1)).copied();
        let config =
            ControlNetConfig::of_copy(&networks.config, |name| place.shape_of(&header, name), context, path)?;
        (config, Checkpoint::single(folder, path, place))
    };
    check_control(networks, &config).map_err(|e| of(file, e))?;
    Ok((config, checkpoint))
}

/// An error about a network as a whole.
fn of(file: FileIn<'_>, e: Error) -> Error {
    let place = if file.path.is_empty() { file.folder.describe() } else { file.path.to_owned() };
    Error::new(e.code, format!("{place}: {}", e.message))
}

fn place_of_control(header: &Header, path: &str) -> Result<Place> {
    if header.tensors.iter().any(|t| t.name == "difference") {
        return Err(Error::unsupported(format!(
            "{path}: the tensor difference says that the ControlNet's weights are those of a U-Net less; \
             supported are whole weights"
        )));
    }
    // The only ControlNet that pools what it adds is told by its name alone, in all tools.
    if path.contains("_shuffle") {
        return Err(Error::unsupported(format!(
            "{path}: a ControlNet for shuffled images pools what it adds (global_pool_conditions), supported is one \
             that does not"
        )));
    }
    control_place(header).ok_or_else(|| {
        no_such(
            header,
            path,
            "ControlNet",
            "input_hint_block.0.weight or controlnet_cond_embedding.conv_in.weight",
        )
    })
}

fn no_such(header: &Header, path: &str, what: &str, tensors: &str) -> Error {
    let first = header.tensors.first().map_or("none at all", |t| &t.name);
    Error::model(format!(
        "{path}: wanted a {what}, which has the tensor {tensors}, found {first} and no such one"
    ))
}

/// A T2I-Adapter that fits, and where its tensors are.
pub(super) async fn t2i_adapter<'a>(
    file: FileIn<'a>,
    networks: &Networks,
) -> Result<(T2iAdapterConfig, Checkpoint<'a>)> {
    let FileIn { folder, path } = file;
    let (config, checkpoint) = if path.is_empty() {
        let json = read_json(folder, "config.json").await?;
        (T2iAdapterConfig::from_json(&json, "config.json")?, Checkpoint::new(folder, "", STEM))
    } else {
        let header = header(folder, path).await?;
        let place = t2i_place(&header).ok_or_else(|| {
            no_such(
                &header,
                path,
                "T2I-Adapter",
                "body.0.block1.weight or adapter.body.0.resnets.0.block1.weight",
            )
        })?;
        let config = T2iAdapterConfig::of_shapes(|name| place.shape_of(&header, name), path)?;
        (config, Checkpoint::single(folder, path, place))
    };
    check_adapter(networks, &config).map_err(|e| of(file, e))?;
    Ok((config, checkpoint))
}

/// An IP-Adapter that fits, and where its tensors are. Its image encoder lies beside its file.
pub(super) async fn ip_adapter<'a>(
    file: FileIn<'a>,
    networks: &Networks,
    encoder: &ClipVisionConfig,
) -> Result<(IpAdapterConfig, Checkpoint<'a>)> {
    let path = if file.path.is_empty() { "ip-adapter.safetensors" } else { file.path };
    let header = header(file.folder, path).await?;
    let config = IpAdapterConfig::from_header(&header, path)?;
    config.check(&header, path, networks.config.cross_attention_dim, encoder)?;
    let place = Place::of_network("IP-Adapter", "", Names::Ours);
    Ok((config, Checkpoint::single(file.folder, path, place)))
}

/// Whether a ControlNet was made for such a U-Net.
fn check_control(networks: &Networks, control: &ControlNetConfig) -> Result<()> {
    let (unet, copy) = (&networks.config, &control.encoder);
    let blocks = |c: &UnetConfig| {
        let kinds: Vec<&str> = c.down_blocks.iter().map(|kind| kind.names[0]).collect();
        format!("{:?}, {} layers of {}", c.block_out_channels, c.layers_per_block, kinds.join(", "))
    };
    let added = |c: &UnetConfig| {
        let numbers = |t: &TextTime| format!("{}, of them {} of each size", t.inputs, t.size_features);
        c.text_time.as_ref().map_or("none".to_owned(), numbers)
    };
    if ![1, 3].contains(&control.conditioning_channels) {
        return Err(Error::unsupported(format!(
            "conditioning_channels of a ControlNet: supported are 1 and 3, found {}",
            control.conditioning_channels
        )));
    }
    for (key, wanted, found) in [
        ("block_out_channels and the blocks", blocks(unet), blocks(copy)),
        ("cross_attention_dim", unet.cross_attention_dim.to_string(), copy.cross_attention_dim.to_string()),
        ("in_channels", unet.out_channels.to_string(), copy.in_channels.to_string()),
        ("numbers of pooled text and sizes", added(unet), added(copy)),
    ] {
        if wanted != found {
            return Err(Error::model(format!(
                "the ControlNet is not for this U-Net: {key} wanted {wanted}, found {found}"
            )));
        }
    }
    Ok(())
}

/// Whether a T2I-Adapter was made for such a U-Net.
fn check_adapter(networks: &Networks, adapter: &T2iAdapterConfig) -> Result<()> {
    let (wanted, found) = (&networks.config.block_out_channels, &adapter.channels);
    if found.get(..wanted.len()) != Some(&wanted[..]) {
        return Err(Error::model(format!(
            "the T2I-Adapter is not for this U-Net: channels wanted {wanted:?}, found {found:?}"
        )));
    }
    Ok(())
}
