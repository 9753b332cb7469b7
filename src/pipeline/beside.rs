//! What works beside a U-Net: each a folder in the diffusers layout, or one file, which names and shapes describe.

use super::networks::Networks;
use super::{FileIn, read_json};
use crate::error::{Error, Result};
use crate::model::config::{ControlNetConfig, IpAdapterConfig};
use crate::weights::{Checkpoint, Folder, Header, Names, Place, control_place, header};

/// The stem of the files of a folder that has one network.
pub(super) const STEM: &str = "diffusion_pytorch_model";

/// A ControlNet that fits, and where its tensors are.
pub(super) async fn control<'a, F: Folder>(
    file: FileIn<'a, F>,
    networks: &Networks,
) -> Result<(ControlNetConfig, Checkpoint<'a, F>)> {
    let FileIn { folder, path } = file;
    let (config, checkpoint) = if path.is_empty() {
        let json = read_json(folder, "config.json").await?;
        let config = ControlNetConfig::from_json(&json, "config.json")?;
        (config, Checkpoint::new(folder, "", STEM))
    } else {
        let header = header(folder, path).await?;
        let place = place_of_control(&header, path)?;
        let of = |name: &str| place.shape(&header, name);
        let attends = |name: &str| name.starts_with(place.prefix) && name.ends_with("attn2.to_k.weight");
        let keys = header.tensors.iter().find(|t| attends(&t.name));
        let context = keys.and_then(|t| t.shape.get(1)).copied();
        let config = ControlNetConfig::of_copy(&networks.config, of, context, path)?;
        (config, Checkpoint::single(folder, path, place))
    };
    let place = if path.is_empty() { folder.describe() } else { path.to_owned() };
    networks.check_control(&config).map_err(|e| Error::new(e.code, format!("{place}: {}", e.message)))?;
    Ok((config, checkpoint))
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
            "{path}: a ControlNet for shuffled pictures pools what it adds (global_pool_conditions), supported is one \
             that does not"
        )));
    }
    control_place(header).ok_or_else(|| {
        let first = header.tensors.first().map_or("none at all", |t| &t.name);
        Error::model(format!(
            "{path}: wanted the tensors of a ControlNet, one of control_model.input_hint_block.0.weight and \
             controlnet_cond_embedding.conv_in.weight, found {first}"
        ))
    })
}

/// An IP-Adapter, and where its tensors are. Its image encoder lies beside its file.
pub(super) async fn ip_adapter<'a, F: Folder>(
    file: FileIn<'a, F>,
) -> Result<(IpAdapterConfig, Checkpoint<'a, F>)> {
    let path = if file.path.is_empty() { "ip-adapter.safetensors" } else { file.path };
    let config = IpAdapterConfig::from_header(&header(file.folder, path).await?, path)?;
    let place = Place { component: "IP-Adapter", prefix: "", names: Names::Ours };
    Ok((config, Checkpoint::single(file.folder, path, place)))
}
