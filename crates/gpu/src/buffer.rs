//! Memory of the GPU that is freed as soon as it is let go of: a browser would keep it until its garbage collector runs,
//! which knows nothing of the GPU.

use std::ops::Deref;

use super::Gpu;

pub(super) struct Buffer(wgpu::Buffer);

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // What is submitted still has it.
        self.0.destroy();
    }
}

impl Gpu {
    pub(super) fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Buffer {
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        Buffer(self.device.create_buffer(&descriptor))
    }

    /// Writes bytes to a buffer, before what is submitted next.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]) {
        #[cfg(target_arch = "wasm32")]
        if let Some((queue, buffer)) = self.queue.as_webgpu().zip(buffer.as_webgpu()) {
            return crate::host::write_buffer(queue.as_ref(), buffer.as_ref(), at, bytes);
        }
        self.queue.write_buffer(buffer, at, bytes);
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.device.destroy();
    }
}
