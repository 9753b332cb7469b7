//! How long steps of a session take, and how long it takes to encode them.

use std::ops::Range;

use super::buffer::Buffer;
use super::wait::signal;
use super::{Gpu, Session};
use crate::error::Result;
use crate::host::now;

impl Session {
    /// Seconds of `repeats` executions of these steps in one submit: by the GPU's own clock where it has
    /// one, else from the submit to its end.
    pub async fn time(&self, steps: Range<usize>, repeats: usize) -> Result<f64> {
        let gpu = &*self.gpu;
        let clock = gpu.info.timestamps.then(|| Clock::new(gpu));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        self.encode(&mut encoder, clock.as_ref(), steps, repeats);
        if let Some(clock) = &clock {
            encoder.resolve_query_set(&clock.queries, 0..2, &clock.ticks, 0);
        }
        let buffer = encoder.finish();
        let begin = now();
        gpu.queue.submit([buffer]);
        let (sender, done) = signal();
        gpu.queue.on_submitted_work_done(move || sender.send(()));
        gpu.poll_until_idle();
        gpu.wait(done).await?;
        let seconds = now() - begin;
        gpu.check()?;
        match clock {
            Some(clock) => Ok(clock.seconds(gpu).await?.unwrap_or(seconds)),
            None => Ok(seconds),
        }
    }

    /// Seconds that encoding one dispatch of these steps takes the CPU.
    pub fn encode_seconds(&self, steps: Range<usize>) -> f64 {
        let dispatches: usize =
            self.dispatches[self.program.of(steps.clone())].iter().map(|d| d.bands.len()).sum();
        let repeats = 2000 / dispatches.max(1) + 1;
        let begin = now();
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        self.encode(&mut encoder, None, steps, repeats);
        // Finished, because some of the work is left until then; never submitted.
        drop(encoder.finish());
        (now() - begin) / (repeats * dispatches.max(1)) as f64
    }

    fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        clock: Option<&Clock>,
        steps: Range<usize>,
        repeats: usize,
    ) {
        let timestamp_writes = clock.map(|clock| wgpu::ComputePassTimestampWrites {
            query_set: &clock.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        for _ in 0..repeats {
            for dispatch in &self.dispatches[self.program.of(steps.clone())] {
                dispatch.bands.iter().for_each(|band| dispatch.encode(&mut pass, band));
            }
        }
    }
}

/// When a pass began and ended, in ticks of the GPU.
struct Clock {
    queries: wgpu::QuerySet,
    ticks: Buffer,
}

impl Clock {
    fn new(gpu: &Gpu) -> Clock {
        Clock {
            queries: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            ticks: gpu.buffer("ticks", 16, wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
        }
    }

    /// Nothing when the clock is too coarse (browsers round it) or went backwards (drivers do that).
    async fn seconds(&self, gpu: &Gpu) -> Result<Option<f64>> {
        const COARSE: f64 = 2e-3;
        let bytes = gpu.read(&self.ticks, 16).await?;
        let [begin, end] =
            [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")));
        let seconds = end.saturating_sub(begin) as f64 * f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        Ok((seconds > COARSE).then_some(seconds))
    }
}
