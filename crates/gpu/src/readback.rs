//! Between f32 in the host's order and a tensor's bytes; reading buffers back.

use half::f16;

use super::Gpu;
use super::wait::signal;
use crate::error::{Code, Error, Result};
use crate::plan::Tensor;
use crate::shape::Elem;

/// `[N, H, W, C]` values to the tensor's stored bytes; channels are padded with zeros.
pub fn encode(tensor: &Tensor, values: &[f32]) -> Vec<u8> {
    let c = tensor.shape.c as usize;
    let padded = tensor.shape.c4() as usize * 4;
    assert!(values.len() == tensor.shape.rows() as usize * c, "{} values for {}", values.len(), tensor.shape);
    let rows = values.chunks_exact(c).flat_map(|row| row.iter().copied().chain(vec![0.0; padded - c]));
    match tensor.elem {
        Elem::F32 => rows.flat_map(f32::to_le_bytes).collect(),
        Elem::F16 | Elem::Pack16 => rows.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
    }
}

/// The reverse of [`encode`].
pub fn decode(tensor: &Tensor, bytes: &[u8]) -> Vec<f32> {
    let values: Vec<f32> = match tensor.elem {
        Elem::F32 => bytemuck::pod_collect_to_vec(bytes),
        Elem::F16 | Elem::Pack16 => {
            bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
    };
    let (c, padded) = (tensor.shape.c as usize, tensor.shape.c4() as usize * 4);
    values.chunks_exact(padded).flat_map(|row| &row[..c]).copied().collect()
}

impl Gpu {
    /// The first `size` bytes of a buffer.
    pub(super) async fn read(&self, buffer: &wgpu::Buffer, size: u64) -> Result<Vec<u8>> {
        self.read_together(&[(buffer, size)]).await
    }

    /// The first bytes of several buffers, one behind the other, in one turn.
    pub(super) async fn read_together(&self, parts: &[(&wgpu::Buffer, u64)]) -> Result<Vec<u8>> {
        let size = parts.iter().map(|(_, size)| size).sum();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.allocate(|| self.buffer("readback", size, usage)).await?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, size) in parts {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, *size);
            at += size;
        }
        self.queue.submit([encoder.finish()]);
        let (sender, mapped) = signal();
        staging.map_async(wgpu::MapMode::Read, .., move |result| sender.send(result));
        self.poll_until_idle();
        let lost = |e: String| Error::new(Code::DeviceLost, format!("reading from the GPU failed: {e}"));
        let result = self.wait(mapped).await?;
        self.check()?;
        result.map_err(|e| lost(e.to_string()))?;
        let bytes = staging.get_mapped_range(..).map_err(|e| lost(e.to_string()))?.to_vec();
        staging.unmap();
        Ok(bytes)
    }

    /// Natively, waits for all work; a browser polls by itself.
    pub(super) fn poll_until_idle(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        // An error here is a lost device, which `check` reports.
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
    }
}
