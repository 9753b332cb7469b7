//! Measures a device: how fast it computes and moves memory, every distinct step of a model's plans, and the
//! networks as a whole; or two settings in turns. Weights are made up: only sizes matter for time.

mod label;
mod measure;
mod models;
mod peaks;
mod report;
mod run;
mod sdxl;

use std::collections::HashMap;

pub use measure::{Effort, Timing};
pub use models::{MODELS, plans};
pub use peaks::{Peaks, peaks};
pub use report::{Claim, Report, Row};
pub use run::{Run, Setting, matches};

use crate::device::{Device, Session, Weights};
use crate::error::Result;
use crate::host::now;
use crate::pipeline::Planned;
use crate::weights::Declarations;

/// A network ready on a device under one setting.
pub struct Subject<'a> {
    pub device: &'a Device,
    pub peaks: Peaks,
    session: Session,
    /// Of making the session: pipelines are compiled, buffers made.
    seconds: f64,
}

impl<'a> Subject<'a> {
    pub async fn new(device: &'a Device, peaks: Peaks, planned: Planned) -> Result<Subject<'a>> {
        planned.plan.check(planned.name, &device.limits())?;
        let weights = weights(device, &planned.declarations);
        let begin = now();
        let session = Session::new(device, planned.plan, &weights).await?;
        Ok(Subject { device, peaks, session, seconds: now() - begin })
    }
}

/// One word repeated is a small number in every format: 0.0078 as f32, 1 and 1 as halves, 0 and 60 as integers.
fn weights(device: &Device, declarations: &Declarations) -> Weights {
    const WORD: [u8; 4] = [0x00, 0x3c, 0x00, 0x3c];
    let blobs = declarations.handles().map(|(handle, spec)| (handle, WORD.repeat(spec.layout.bytes() / 4)));
    Weights::from_blobs(device, declarations, blobs)
}

/// What is measured: names of steps that are wanted, and how hard to try.
pub struct Wanted<'a> {
    /// Whether a step of this name is wanted.
    pub step: &'a dyn Fn(&str) -> bool,
    pub effort: Effort,
    /// Gets every row as it is made.
    pub tell: &'a dyn Fn(&Row),
}

/// Measures a network, which one or two subjects have under different settings. Two are measured in turns, and
/// the rows have ratios: how many times faster the second one is.
pub async fn network(name: &str, subjects: &[Subject<'_>], wanted: &Wanted<'_>) -> Result<Vec<Row>> {
    let plan = subjects[0].session.plan();
    // The first of each kind of step, and how many there are.
    let mut kinds: Vec<(usize, usize)> = vec![];
    let mut seen: HashMap<String, usize> = HashMap::new();
    for i in 0..plan.steps.len() {
        let label = label::of(plan, i);
        let at = *seen.entry(label).or_insert(kinds.len());
        match kinds.get_mut(at) {
            Some(kind) => kind.1 += 1,
            None => kinds.push((i, 1)),
        }
    }
    let all = 0..plan.steps.len();
    let pieces = kinds.iter().map(|&(i, count)| (format!("{name}/{}", label::of(plan, i)), i..i + 1, count));
    let pieces = pieces.chain([(name.to_owned(), all, 1)]);
    let mut rows = vec![];
    for (step, range, count) in pieces.filter(|(step, _, _)| (wanted.step)(step)) {
        let timings = measure::in_turns(subjects, &range, &wanted.effort).await?;
        let row = Row::new(step, count, subjects, range, &timings);
        (wanted.tell)(&row);
        rows.push(row);
    }
    Ok(rows)
}
