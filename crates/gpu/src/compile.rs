//! Kernels to pipelines.

use std::collections::HashSet;

use super::Gpu;
use super::lower::variants;
use crate::error::{Code, Error, Result};
use crate::host::breathe;
use crate::kernels::{Access, VariantId};
use crate::plan::Plan;

/// A kernel's pipeline and the layout of its bindings.
#[derive(Clone)]
pub(super) struct Compiled {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Gpu {
    /// The variants of these plans that were not compiled yet, in the order of their first use.
    pub fn uncompiled(&self, plans: &[&Plan]) -> Vec<VariantId> {
        let compiled = self.kernels.borrow();
        let mut seen: HashSet<VariantId> = compiled.keys().copied().collect();
        let tuning = self.tuning.get();
        let all = plans.iter().flat_map(|plan| variants(plan, &tuning));
        all.filter(|variant| seen.insert(*variant)).collect()
    }

    /// Compiles them, as `Device::compile` says.
    pub async fn compile_all(
        &self,
        plans: &[&Plan],
        progress: &dyn Fn(usize, usize),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let variants = self.uncompiled(plans);
        for (done, variant) in variants.iter().enumerate() {
            progress(done, variants.len());
            // A driver may take seconds for each.
            breathe().await;
            if cancelled() {
                return Err(Error::cancelled());
            }
            self.kernel(*variant).await?;
        }
        if !variants.is_empty() {
            progress(variants.len(), variants.len());
        }
        Ok(())
    }

    /// The pipeline of a variant, compiled on first use.
    pub(super) async fn kernel(&self, id: VariantId) -> Result<Compiled> {
        if let Some(kernel) = self.kernels.borrow().get(&id) {
            return Ok(kernel.clone());
        }
        // What a driver makes nothing of is an internal error.
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let invalid = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let compiled = self.compile(id);
        let (invalid, internal) = (invalid.pop(), internal.pop());
        let error = invalid.await.or(internal.await);
        // On a lost device everything seems well.
        self.check()?;
        if let Some(e) = error {
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
