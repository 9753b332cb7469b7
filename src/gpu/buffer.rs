//! A buffer whose memory ends with it. Browsers alone would keep it until their garbage is collected, which does not
//! know how large it is.

use std::ops::Deref;

use super::Gpu;

pub(super) struct Buffer(wgpu::Buffer);

impl Buffer {
    pub fn new(gpu: &Gpu, label: &str, size: u64, usage: wgpu::BufferUsages) -> Buffer {
        Buffer(gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        }))
    }
}

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.destroy();
    }
}
