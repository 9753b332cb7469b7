//! What the device can do at most, measured by kernels that do nothing else.

use serde::Serialize;

use super::measure::{Effort, in_turns};
use crate::device::{Device, Session, Weights, program};
use crate::error::Result;
use crate::host::now;
use crate::plan::ops;
use crate::plan::{Plan, Recorder, Target, Tensor};
use crate::quant::Format;
use crate::shape::{Elem, Shape};
use crate::weights::Declarations;

/// Seconds of measuring: a browser compiles a loop well only once it has run for a while.
const WARM: f64 = 0.5;

/// A second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peaks {
    /// FLOPs in f32; a multiply-add is two.
    pub f32_flops: f64,
    /// In f16, where the device computes in it. Our kernels do not: they store halves and compute in f32.
    pub f16_flops: Option<f64>,
    /// Bytes read and written by a copy that is too big for the caches.
    pub bytes: f64,
}

pub async fn peaks(device: &Device, effort: &Effort) -> Result<Peaks> {
    let f16 = matches!(device, Device::Gpu(gpu) if gpu.info.f16);
    let software = !matches!(device, Device::Gpu(gpu) if !gpu.info.software);
    // Enough to fill the device and to hide how long its threads take to begin, and not more than some milliseconds.
    let rows = match device {
        Device::Cpu => 128,
        Device::Gpu(gpu) if gpu.info.software => 16,
        Device::Gpu(_) => 4096,
    };
    let arithmetic = Shape::new(1, rows, 256, 4);
    let memory = Shape::new(1, 1 << 12, 1 << if software { 10 } else { 12 }, 4);
    let flops = async |elem| -> Result<f64> {
        let (plan, seconds) = time(device, arithmetic, elem, ops::multiply_add, effort).await?;
        Ok(program(&plan).summary().executed_flops as f64 / seconds)
    };
    let f32_flops = flops(Elem::F32).await?;
    let f16_flops = if f16 { Some(flops(Elem::F16).await?) } else { None };
    let (plan, seconds) = time(device, memory, Elem::F32, ops::copy, effort).await?;
    Ok(Peaks { f32_flops, f16_flops, bytes: program(&plan).summary().bytes_moved as f64 / seconds })
}

async fn time(
    device: &Device,
    shape: Shape,
    elem: Elem,
    op: fn(&mut Recorder, Tensor) -> Tensor,
    effort: &Effort,
) -> Result<(Plan, f64)> {
    let mut r = Recorder::new(&Target::new(elem));
    r.section("peak");
    let x = r.input("x", shape, elem);
    let y = op(&mut r, x);
    r.output("y", y);
    let plan = r.finish();
    let none = Declarations::new(Format::F32);
    let session = Session::new(plan.clone(), &Weights::from_blobs(device, &none, [])).await?;
    let (begin, mut best) = (now(), f64::INFINITY);
    while best == f64::INFINITY || now() - begin < WARM {
        let timings = in_turns(&[&session], &(0..plan.steps.len()), effort).await?;
        best = best.min(timings[0].best());
    }
    Ok((plan, best))
}
