//! The handles' blobs on the GPU, and the tables that stay on the CPU.

use std::collections::{HashMap, HashSet};

use super::Gpu;
use crate::error::{Code, Error, Result};
use crate::weights::{Checkpoint, Declarations, Folder, Handle, Hooks, Layout};

/// Written data waits in staging memory until a submit: after this much there is one.
const FLUSH_BYTES: u64 = 64 << 20;

/// What a model's handles were filled with.
pub struct GpuWeights {
    blobs: Vec<Option<wgpu::Buffer>>,
    tables: HashMap<Handle, Vec<f32>>,
}

/// Writes blobs.
struct Upload<'a> {
    gpu: &'a Gpu,
    /// Bytes written since the queue was last flushed.
    pending: u64,
}

impl GpuWeights {
    /// Streams checkpoints into the handles: as many as the declarations have sources.
    pub async fn load<F: Folder>(
        gpu: &Gpu,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_, F>],
        hooks: Hooks<'_>,
    ) -> Result<GpuWeights> {
        let mut weights = GpuWeights { blobs: vec![None; declarations.specs.len()], tables: HashMap::new() };
        let mut upload = Upload { gpu, pending: 0 };
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let mut insert = |handle, blob| {
                weights.insert(&mut upload, declarations, handle, blob);
                gpu.check()
            };
            let filled = checkpoint.fill(declarations, source, None, hooks, &mut insert).await;
            if let Some(e) = scope.pop().await {
                return Err(Error::new(
                    Code::OutOfMemory,
                    format!("{}: the GPU has no room for the weights: {e}", checkpoint.component),
                ));
            }
            filled?;
        }
        Ok(weights)
    }

    /// Streams handles again into the buffers that they have: sessions hold on to those.
    pub async fn reload<F: Folder>(
        &self,
        gpu: &Gpu,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_, F>],
        handles: &HashSet<Handle>,
        hooks: Hooks<'_>,
    ) -> Result<()> {
        let mut upload = Upload { gpu, pending: 0 };
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let mut replace = |handle, blob: Vec<u8>| {
                upload.write(self.blob(handle), &blob);
                gpu.check()
            };
            if declarations.any_of(source, handles) {
                checkpoint.fill(declarations, source, Some(handles), hooks, &mut replace).await?;
            }
        }
        Ok(())
    }

    /// Puts blobs that were made elsewhere (tests) on the GPU.
    pub fn from_blobs(
        gpu: &Gpu,
        declarations: &Declarations,
        blobs: impl IntoIterator<Item = (Handle, Vec<u8>)>,
    ) -> GpuWeights {
        let mut weights = GpuWeights { blobs: vec![None; declarations.specs.len()], tables: HashMap::new() };
        let mut upload = Upload { gpu, pending: 0 };
        for (handle, blob) in blobs {
            weights.insert(&mut upload, declarations, handle, blob);
        }
        weights
    }

    /// An embedding table, row after row.
    pub fn table(&self, handle: Handle) -> &[f32] {
        &self.tables[&handle]
    }

    pub(super) fn blob(&self, handle: Handle) -> &wgpu::Buffer {
        self.blobs[handle.0 as usize].as_ref().expect("a filled handle")
    }

    fn insert(
        &mut self,
        upload: &mut Upload<'_>,
        declarations: &Declarations,
        handle: Handle,
        blob: Vec<u8>,
    ) {
        let at = handle.0 as usize;
        if let Layout::Table { .. } = declarations.specs[at].layout {
            self.tables.insert(handle, bytemuck::pod_collect_to_vec(&blob));
            return;
        }
        let buffer = upload.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("weights"),
            size: blob.len() as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        upload.write(&buffer, &blob);
        self.blobs[at] = Some(buffer);
    }
}

impl Upload<'_> {
    fn write(&mut self, buffer: &wgpu::Buffer, blob: &[u8]) {
        self.gpu.queue.write_buffer(buffer, 0, blob);
        self.pending += blob.len() as u64;
        if self.pending > FLUSH_BYTES {
            self.gpu.queue.submit([]);
            self.gpu.poll_until_idle();
            self.pending = 0;
        }
    }
}
