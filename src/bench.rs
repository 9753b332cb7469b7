//! Measures a device: how fast it computes and moves memory, every distinct step of a model's plans, and the
//! networks as a whole; or two settings in turns. Weights are made up: only sizes matter for time.

mod label;
mod measure;
mod models;
mod peaks;
mod report;
mod run;

pub use measure::{Effort, Timing};
pub use models::{MODELS, plans};
pub use peaks::{Peaks, peaks};
pub use report::{Claim, Report, Row};
pub use run::{Run, Setting, matches};

use crate::device::{Device, Session, Weights};
use crate::error::Result;
use crate::host::now;
use crate::pipeline::Planned;
use crate::plan::Plan;
use crate::weights::Declarations;

/// A network ready on a device under one setting.
pub struct Subject {
    pub peaks: Peaks,
    session: Session,
    /// Of making the session: pipelines are compiled, buffers made.
    seconds: f64,
}

impl Subject {
    pub async fn new(device: &Device, peaks: Peaks, planned: Planned) -> Result<Subject> {
        planned.plan.check(planned.name, &device.limits())?;
        let weights = weights(device, &planned.declarations).await?;
        let begin = now();
        let session = Session::new(planned.plan, &weights).await?;
        Ok(Subject { peaks, session, seconds: now() - begin })
    }
}

/// One word repeated is a small number in every format: 0.0078 as f32, 1 and 1 as halves, 0 and 60 as integers.
async fn weights(device: &Device, declarations: &Declarations) -> Result<Weights> {
    const WORD: [u8; 4] = [0x00, 0x3c, 0x00, 0x3c];
    let blobs = declarations.handles().map(|(handle, spec)| (handle, WORD.repeat(spec.layout.bytes() / 4)));
    Weights::try_from_blobs(device, declarations, blobs).await
}

/// The distinct steps of a plan by name, with the first of each and how many there are.
fn kinds(plan: &Plan) -> Vec<(String, usize, usize)> {
    let mut kinds: Vec<(String, usize, usize)> = vec![];
    for (i, step) in plan.steps.iter().enumerate() {
        let label = label::of(step);
        match kinds.iter_mut().find(|(known, ..)| *known == label) {
            Some((_, _, count)) => *count += 1,
            None => kinds.push((label, i, 1)),
        }
    }
    kinds
}
