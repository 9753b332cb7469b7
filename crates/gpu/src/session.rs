//! A plan made ready on a device: buffers, pipelines, bind groups and parameters, made once; then runs.

use std::collections::VecDeque;
use std::rc::Rc;

use super::buffer::Buffer;
use super::compile::Compiled;
use super::program::{Binding, Program};
use super::wait::{Signal, signal};
use super::{Gpu, GpuWeights, lower, readback};
use crate::error::Result;
use crate::host::{Cancel, now};
use crate::plan::{Faults, Plan, Tensor, WATCH};

/// A dispatch longer than this is cut into bands, so that no watchdog and no user waits for it.
const BAND_SECONDS: f64 = 0.05;
/// Work of one submit; a cancel is noticed between two of them.
const SUBMIT_SECONDS: f64 = 0.08;
/// Submits in flight: one runs while the next one is encoded.
const IN_FLIGHT: usize = 2;
/// The alignment that every device accepts for a dynamic offset.
const PARAMS_ALIGN: usize = 256;
const MAX_WORKGROUPS: u32 = 65535;

pub struct Session {
    pub gpu: Rc<Gpu>,
    pub program: Program,
    buffers: Vec<Buffer>,
    /// What else the bind groups have, which do not keep it from being freed.
    _held: (Vec<Rc<Buffer>>, [Buffer; 2]),
    pub(super) dispatches: Vec<Ready>,
}

/// A dispatch with everything that it needs.
pub(super) struct Ready {
    kernel: Compiled,
    bind_group: wgpu::BindGroup,
    pub bands: Vec<Band>,
}

/// Part of a dispatch: a range of its threads in y.
pub(super) struct Band {
    params_offset: u32,
    workgroups: [u32; 2],
    work: f64,
}

struct Flight {
    done: Signal<()>,
    #[cfg(not(target_arch = "wasm32"))]
    index: wgpu::SubmissionIndex,
    work: f64,
    submitted: f64,
}

impl Session {
    /// On the GPU of the weights.
    pub async fn new(plan: Plan, weights: &GpuWeights) -> Result<Session> {
        Session::of(lower(plan, &weights.gpu.tuning.get()), weights).await
    }

    pub async fn of(program: Program, weights: &GpuWeights) -> Result<Session> {
        let gpu = &weights.gpu;
        gpu.check()?;
        let storage =
            wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let mut params: Vec<u8> = vec![];
        let bands: Vec<Vec<Band>> =
            (0..program.dispatches.len()).map(|i| bands(gpu, &program, i, &mut params)).collect();
        let uniforms = params.len().max(PARAMS_ALIGN) as u64;
        let (buffers, unused, uniform) = gpu
            .allocate(|| {
                let sizes = &program.buffers.sizes;
                let buffers: Vec<Buffer> =
                    sizes.iter().map(|&size| gpu.buffer("activations", size, storage)).collect();
                let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                (buffers, gpu.buffer("unused", 16, storage), gpu.buffer("params", uniforms, uniform))
            })
            .await?;
        gpu.write(&uniform, 0, &params);

        let mut held = vec![];
        let mut dispatches = Vec::with_capacity(program.dispatches.len());
        for (dispatch, bands) in program.dispatches.iter().zip(bands) {
            let kernel = gpu.kernel(dispatch.variant).await?;
            let params_size = std::num::NonZeroU64::new(dispatch.params.len() as u64);
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &uniform,
                    offset: 0,
                    size: params_size,
                }),
            }];
            for (i, binding) in dispatch.bindings.iter().enumerate() {
                let buffer = match binding {
                    Binding::Tensor(id) => &buffers[program.buffers.at(*id)],
                    Binding::Weight(handle, _) => {
                        held.push(weights.blob(*handle).clone());
                        &**weights.blob(*handle)
                    }
                    Binding::Unused => &unused,
                };
                entries.push(wgpu::BindGroupEntry {
                    binding: i as u32 + 1,
                    resource: buffer.as_entire_binding(),
                });
            }
            let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &kernel.layout,
                entries: &entries,
            });
            dispatches.push(Ready { kernel, bind_group, bands });
        }
        gpu.check()?;
        Ok(Session { gpu: gpu.clone(), program, buffers, _held: (held, [unused, uniform]), dispatches })
    }

    pub fn plan(&self) -> &Plan {
        &self.program.plan
    }

    /// Writes `[N, H, W, C]` values to an input, or over an output.
    pub fn write(&self, name: &str, values: &[f32]) {
        let tensor = self.plan().inputs.get(name).unwrap_or_else(|| self.plan().named(name));
        self.gpu.write(self.buffer(tensor), 0, &readback::encode(tensor, values));
    }

    /// Reads an output, or what has become of an input, as `[N, H, W, C]` values.
    pub async fn read(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.plan().named(name);
        Ok(readback::decode(tensor, &self.gpu.read(self.buffer(tensor), tensor.bytes()).await?))
    }

    /// Reads the stored bytes of an output.
    pub async fn read_bytes(&self, name: &str) -> Result<Vec<u8>> {
        let tensor = self.plan().named(name);
        self.gpu.read(self.buffer(tensor), tensor.bytes()).await
    }

    /// The stored bytes of an output, and what was wrong with the values since the counters were set to zero.
    pub async fn read_watched(&self, name: &str) -> Result<(Vec<u8>, Faults)> {
        let tensor = self.plan().named(name);
        let Some(watch) = self.plan().inputs.get(WATCH) else {
            return Ok((self.read_bytes(name).await?, Faults::default()));
        };
        let parts = [tensor, watch].map(|t| (self.buffer(t), t.bytes()));
        let mut bytes = self.gpu.read_together(&parts).await?;
        let counters = bytes.split_off(tensor.bytes() as usize);
        let words = [0, 4].map(|at| u32::from_le_bytes(counters[at..at + 4].try_into().expect("four bytes")));
        Ok((bytes, Faults::stored(words)))
    }

    /// Fills every buffer with NaN, so that a test sees what is read before it was written.
    pub fn poison(&self) {
        for buffer in &self.buffers {
            self.gpu.write(buffer, 0, &vec![0xff; buffer.size() as usize]);
        }
    }

    /// Runs a section. `progress` gets the fraction of its work that is done, from 0 to 1.
    pub async fn run(&self, section: &str, cancel: &Cancel, progress: &dyn Fn(f64)) -> Result<()> {
        let dispatches = &self.dispatches[self.program.of(self.plan().section(section))];
        let total: f64 = dispatches.iter().flat_map(|d| &d.bands).map(|b| b.work).sum();
        let mut done = 0.0;
        let mut flights: VecDeque<Flight> = VecDeque::new();
        let mut queue = dispatches.iter().flat_map(|d| d.bands.iter().map(move |b| (d, b))).peekable();
        let mut result = Ok(());
        while queue.peek().is_some() && result.is_ok() {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let mut work = 0.0;
            // The first band goes whatever it costs.
            while let Some((dispatch, band)) =
                queue.next_if(|(_, b)| work == 0.0 || work + b.work <= self.gpu.rate.get() * SUBMIT_SECONDS)
            {
                dispatch.encode(&mut pass, band);
                work += band.work;
            }
            drop(pass);
            flights.push_back(submit(&self.gpu, encoder, work));
            if flights.len() >= IN_FLIGHT {
                done += land(&self.gpu, &mut flights).await?;
                progress(done / total);
                result = self.gpu.check().and_then(|()| cancel.check());
            }
        }
        while !flights.is_empty() {
            done += land(&self.gpu, &mut flights).await?;
            progress(done / total);
        }
        result.and_then(|()| self.gpu.check()).and_then(|()| cancel.check())
    }

    fn buffer(&self, tensor: &Tensor) -> &wgpu::Buffer {
        &self.buffers[self.program.buffers.at(tensor.id)]
    }
}

impl Ready {
    pub fn encode(&self, pass: &mut wgpu::ComputePass, band: &Band) {
        pass.set_pipeline(&self.kernel.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[band.params_offset]);
        pass.dispatch_workgroups(band.workgroups[0], band.workgroups[1], 1);
    }
}

/// Cuts a dispatch into bands, and appends the parameters of each to `params`.
fn bands(gpu: &Gpu, program: &Program, index: usize, params: &mut Vec<u8>) -> Vec<Band> {
    let dispatch = &program.dispatches[index];
    let [across, down, _] = dispatch.variant.get().workgroup;
    let [x, y] = [dispatch.threads[0].div_ceil(across), dispatch.threads[1].div_ceil(down)];
    let work = (dispatch.cost.executed_flops + dispatch.bytes_moved) as f64;
    let pieces = (work / (gpu.rate.get() * BAND_SECONDS)).ceil().clamp(1.0, f64::from(y)) as u32;
    let size = y.div_ceil(pieces).min(MAX_WORKGROUPS);
    (0..y)
        .step_by(size as usize)
        .map(|start| {
            let offset = params.len();
            params.extend(&dispatch.params);
            params[offset..offset + 4].copy_from_slice(&(start * down).to_le_bytes());
            params.resize(params.len().next_multiple_of(PARAMS_ALIGN), 0);
            let rows = size.min(y - start);
            Band {
                params_offset: offset as u32,
                workgroups: [x, rows],
                work: work * f64::from(rows) / f64::from(y),
            }
        })
        .collect()
}

fn submit(gpu: &Gpu, encoder: wgpu::CommandEncoder, work: f64) -> Flight {
    let submitted = now();
    let index = gpu.queue.submit([encoder.finish()]);
    let (sender, done) = signal();
    gpu.queue.on_submitted_work_done(move || sender.send(()));
    #[cfg(target_arch = "wasm32")]
    let _ = index;
    Flight {
        done,
        #[cfg(not(target_arch = "wasm32"))]
        index,
        work,
        submitted,
    }
}

/// Waits for the oldest flight, learns the rate from it and returns its work. Fails only when the device is lost.
async fn land(gpu: &Gpu, flights: &mut VecDeque<Flight>) -> Result<f64> {
    let flight = flights.pop_front().expect("a flight to land");
    #[cfg(not(target_arch = "wasm32"))]
    if gpu.device.poll(wgpu::PollType::Wait { submission_index: Some(flight.index), timeout: None }).is_err()
    {
        // A lost device, which `check` reports; the callback may never fire.
        return gpu.check().map(|()| flight.work);
    }
    gpu.wait(flight.done).await?;
    let landed = now();
    // The next flight has been waiting behind this one: count its time from here.
    if let Some(next) = flights.front_mut() {
        next.submitted = landed;
    }
    let seconds = landed - flight.submitted;
    // Tiny submits measure overhead, not the GPU.
    if seconds > 1e-3 {
        gpu.rate.set(0.7 * gpu.rate.get() + 0.3 * flight.work / seconds);
    }
    Ok(flight.work)
}
