//! The device: choosing an adapter, compiling kernels, keeping the measured rate.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::error::{Code, Error, Result};
use crate::kernels::{Access, VariantId};
use crate::plan::{Block, Limits};
use crate::shape::Elem;

/// What was found out about the adapter.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    pub name: String,
    /// A CPU pretends to be a GPU.
    pub software: bool,
    /// Has `shader-f16`.
    pub f16: bool,
    /// Tells when a pass began and ended.
    pub timestamps: bool,
    pub limits: Limits,
}

impl AdapterInfo {
    /// Takes what was found out elsewhere: wgpu learns no name from most browsers.
    pub fn learn(&mut self, name: String, software: bool) {
        self.software |= software || is_software(&name);
        self.name = name;
    }
}

fn is_software(name: &str) -> bool {
    ["swiftshader", "llvmpipe", "basic render"].iter().any(|s| name.to_lowercase().contains(s))
}

pub struct Gpu {
    pub info: AdapterInfo,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    kernels: RefCell<HashMap<VariantId, Compiled>>,
    /// Work a second, as `Session` counts work; starts as a careful guess and follows what is measured.
    pub(super) rate: Cell<f64>,
    failure: Arc<Mutex<Option<Error>>>,
}

/// A kernel's pipeline and the layout of its bindings.
#[derive(Clone)]
pub(super) struct Compiled {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Gpu {
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

        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Arc<Mutex<Option<Error>>>, code, message| {
            failure.lock().expect("no panic while held").get_or_insert(Error::new(code, message));
        };
        let lost = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            note(&lost, Code::DeviceLost, format!("the GPU device was lost: {reason:?} {message}"));
        });
        let uncaptured = failure.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            let code = match e {
                wgpu::Error::OutOfMemory { .. } => Code::OutOfMemory,
                _ => Code::Internal,
            };
            note(&uncaptured, code, format!("the GPU reported: {e}"));
        }));

        let info = adapter.get_info();
        let software = info.device_type == wgpu::DeviceType::Cpu || is_software(&info.name);
        let name = if info.name.is_empty() { "unnamed adapter".to_owned() } else { info.name };
        let limits = device.limits();
        Ok(Gpu {
            info: AdapterInfo {
                name,
                software,
                f16: features.contains(wgpu::Features::SHADER_F16),
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

    /// How much of a product a thread makes.
    pub fn block(&self, elem: Elem) -> Block {
        // SwiftShader loads lane by lane, and hardly optimises what it compiles. lavapipe loads whole vectors, and
        // takes ten seconds to compile a large block.
        let large = elem == Elem::F32 && self.info.name.to_lowercase().contains("swiftshader");
        if large { Block::Large } else { Block::Small }
    }

    /// Presumes a rate, in units of work a second, until it is measured again: a low one cuts new sessions
    /// into many small pieces.
    pub fn set_rate(&self, rate: f64) {
        self.rate.set(rate);
    }

    /// What the device reported since it was made, if it is broken.
    pub(super) fn check(&self) -> Result<()> {
        match self.failure.lock().expect("no panic while held").clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Runs `make`, catching the GPU's refusal for lack of memory.
    pub async fn allocate<T>(&self, make: impl FnOnce() -> T) -> Result<T> {
        // What is done with a buffer that could not be made is refused as well.
        let after = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let made = make();
        let [memory, after] = [scope.pop().await, after.pop().await];
        match (memory, after) {
            (None, None) => Ok(made),
            (Some(e), _) => Err(Error::new(Code::OutOfMemory, format!("the GPU is out of memory: {e}"))),
            (None, Some(e)) => Err(Error::new(Code::Internal, format!("the GPU reported: {e}"))),
        }
    }

    /// The pipeline of a variant, compiled on first use.
    pub(super) async fn kernel(&self, id: VariantId) -> Result<Compiled> {
        if let Some(kernel) = self.kernels.borrow().get(&id) {
            return Ok(kernel.clone());
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let compiled = self.compile(id);
        if let Some(e) = scope.pop().await {
            let v = id.get();
            return Err(Error::new(Code::Internal, format!("kernel {} {}: {e}", v.kernel, v.name)));
        }
        self.kernels.borrow_mut().insert(id, compiled.clone());
        Ok(compiled)
    }

    fn compile(&self, id: VariantId) -> Compiled {
        let v = id.get();
        let entry = |binding, ty, has_dynamic_offset, size| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: size },
            count: None,
        };
        let size = std::num::NonZeroU64::new(v.params_size as u64);
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, size)];
        for (i, access) in v.bindings.iter().enumerate() {
            let ty = wgpu::BufferBindingType::Storage { read_only: *access == Access::Read };
            entries.push(entry(i as u32 + 1, ty, false, None));
        }
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(v.kernel),
            entries: &entries,
        });
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(v.kernel),
            source: wgpu::ShaderSource::Wgsl(v.source().into()),
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(v.kernel),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(v.kernel),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(v.kernel),
            compilation_options: Default::default(),
            cache: None,
        });
        Compiled { pipeline, layout }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // For browsers, as in `Buffer`.
        self.device.destroy();
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
