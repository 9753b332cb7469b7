//! The device: choosing an adapter, compiling kernels, keeping the measured rate.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use super::compile::Compiled;
use super::failure::Failure;
use super::tuning::{Tier, Tuning};
use crate::error::{Code, Error, Result};
use crate::kernels::VariantId;
use crate::plan::Limits;
use crate::shape::Elem;

/// What was found out about the adapter.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    pub name: String,
    /// A software adapter: SwiftShader, llvmpipe, WARP.
    pub software: bool,
    /// Has `shader-f16`.
    pub f16: bool,
    /// Tells when a pass began and ended.
    pub timestamps: bool,
    pub limits: Limits,
}

fn is_software(name: &str) -> bool {
    ["swiftshader", "llvmpipe", "basic render"].iter().any(|s| name.to_lowercase().contains(s))
}

/// Who chooses the table of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It was named, or tried.
    Made,
    /// A trial on a GPU that is not software, once there is a model for which it is worth it.
    Auto,
    /// A trial on any GPU.
    Measured,
}

pub struct Gpu {
    pub info: AdapterInfo,
    /// Which kernels compute what.
    pub tuning: Cell<Tuning>,
    /// Whether that may still change.
    pub choice: Cell<Choice>,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) kernels: RefCell<HashMap<VariantId, Compiled>>,
    /// Work a second, as `Session` counts work; starts as a careful guess and follows what is measured.
    pub(super) rate: Cell<f64>,
    pub(super) failure: Failure,
}

impl Gpu {
    /// Takes what was found out elsewhere: wgpu learns no name from most browsers.
    pub fn learn(&mut self, name: String, software: bool) {
        self.info.software |= software || is_software(&name);
        self.tuning.set(Tier::of(&name, self.info.f16).tuning());
        self.info.name = name;
    }

    /// Takes the first adapter whose name contains `name` (case-insensitive), or the platform's choice.
    pub async fn new(name: Option<&str>) -> Result<Gpu> {
        let adapter = adapter(name).await?;
        let offered = adapter.limits();
        let wanted = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let features = adapter.features() & (wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY);
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("tintype"),
                required_features: features,
                required_limits: wanted,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::new(Code::NoAdapter, format!("the GPU gave no device: {e}")))?;

        let failure = Failure::default();
        let lost = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            lost.note(Code::DeviceLost, format!("the GPU device was lost: {reason:?} {message}"));
        });
        let uncaptured = failure.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            let code = match e {
                wgpu::Error::OutOfMemory { .. } => Code::OutOfMemory,
                _ => Code::Internal,
            };
            uncaptured.note(code, format!("the GPU reported: {e}"));
        }));

        let info = adapter.get_info();
        let software = info.device_type == wgpu::DeviceType::Cpu || is_software(&info.name);
        let name = if info.name.is_empty() { "unnamed adapter".to_owned() } else { info.name };
        let limits = device.limits();
        let f16 = features.contains(wgpu::Features::SHADER_F16);
        Ok(Gpu {
            tuning: Cell::new(Tier::of(&name, f16).tuning()),
            choice: Cell::new(Choice::Auto),
            info: AdapterInfo {
                name,
                software,
                f16,
                timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
                limits: Limits {
                    binding: limits.max_storage_buffer_binding_size,
                    buffer: limits.max_buffer_size,
                },
            },
            device,
            queue,
            kernels: RefCell::default(),
            rate: Cell::new(if software { 1e9 } else { 2e10 }),
            failure,
        })
    }

    /// The storage that `activations` asks for: "auto", "f32", "f16" or "pack16".
    pub fn elem(&self, activations: &str) -> Result<Elem> {
        match activations {
            // 16 bits halve the memory of a GPU; on a CPU unpacking them costs more than it saves.
            "auto" if self.info.software => Ok(Elem::F32),
            "auto" if self.info.f16 => Ok(Elem::F16),
            "auto" => Ok(Elem::Pack16),
            "f32" => Ok(Elem::F32),
            "pack16" => Ok(Elem::Pack16),
            "f16" if self.info.f16 => Ok(Elem::F16),
            "f16" => Err(Error::unsupported(format!(
                "activations f16: {} lacks shader-f16; use auto, pack16 or f32",
                self.info.name
            ))),
            other => {
                Err(Error::option(format!("activations: wanted auto, f32, f16 or pack16, found {other:?}")))
            }
        }
    }

    /// Presumes a rate, in units of work a second, until it is measured again: a low one cuts new sessions
    /// into many small pieces.
    pub fn set_rate(&self, rate: f64) {
        self.rate.set(rate);
    }

    /// Runs `make`, catching the GPU's refusal for lack of memory.
    pub async fn allocate<T>(&self, make: impl FnOnce() -> T) -> Result<T> {
        // What is done with a buffer that could not be made is refused as well.
        let after = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let made = make();
        let (memory, after) = (scope.pop(), after.pop());
        let (memory, after) = (memory.await, after.await);
        self.check()?;
        match (memory, after) {
            (None, None) => Ok(made),
            (Some(e), _) => Err(Error::new(Code::OutOfMemory, format!("the GPU is out of memory: {e}"))),
            (None, Some(e)) => Err(Error::new(Code::Internal, format!("the GPU reported: {e}"))),
        }
    }
}

async fn adapter(name: Option<&str>) -> Result<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    if let Some(name) = name {
        let adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
        let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
        let found = names.iter().position(|n| n.to_lowercase().contains(&name.to_lowercase()));
        return found.and_then(|i| adapters.into_iter().nth(i)).ok_or_else(|| {
            Error::new(
                Code::NoAdapter,
                format!("no GPU adapter has {name:?} in its name; there are: {}", names.join(", ")),
            )
        });
    }
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    instance
        .request_adapter(&options)
        .await
        .map_err(|e| Error::new(Code::NoAdapter, format!("there is no WebGPU adapter: {e}")))
}
