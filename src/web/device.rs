//! The device that a page asks for.

use wasm_bindgen::JsCast;

use super::request::Options;
use super::threads;
use crate::device::{Device, Known};
use crate::error::Result;
use crate::pipeline::LoadOptions;

/// The device that `options` ask for: device, adapter and software (what is known of it), gather (threads).
pub(super) async fn open(options: &Options, load: &LoadOptions) -> Result<Device> {
    let choice = options.text("device")?;
    let choice = choice.as_deref().unwrap_or("auto");
    // wgpu knows only the adapter's description, which browsers leave empty.
    let software = options.get("software").is_some_and(|v| v.is_truthy());
    let known = options.text("adapter")?.map(|name| Known { name, software });
    let device = Device::open(choice, &load.activations, None, known).await?;
    // Before anything is loaded: a refusal should not wait for a download.
    device.elem(&load.activations)?;
    device.tune(options.text("tuning")?.as_deref().unwrap_or("auto"), choice)?;
    // "auto" waits for a model.
    device.try_tables(&device.target(&load.activations)?, || Ok(0), &|| false).await?;
    if let Device::Cpu = device {
        threads::start(options.get("gather").map(JsCast::unchecked_into)).await;
    }
    Ok(device)
}
