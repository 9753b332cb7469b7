//! Times of one or two subjects, in turns.

use std::ops::Range;

use super::Subject;
use crate::device::{Device, Session};
use crate::error::Result;

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Measurements of each figure.
    pub rounds: usize,
    /// Seconds that one measurement should last: short steps are repeated.
    pub measurement: f64,
    /// Seconds after which nothing is measured again.
    pub limit: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { rounds: 5, measurement: 0.02, limit: 10.0 }
    }
}

/// Seconds of one execution.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The first one, in which some drivers still compile.
    pub first: f64,
    /// Of the others, sorted; or the first one where there was no time for more.
    pub rounds: Vec<f64>,
}

impl Timing {
    pub fn best(&self) -> f64 {
        self.rounds[0]
    }

    pub fn median(&self) -> f64 {
        self.rounds[self.rounds.len() / 2]
    }
}

const MOST_REPEATS: f64 = 10_000.0;

pub async fn in_turns(
    subjects: &[Subject<'_>],
    steps: &Range<usize>,
    effort: &Effort,
) -> Result<Vec<Timing>> {
    let mut timings: Vec<Timing> = vec![];
    let mut repeats = vec![];
    for s in subjects {
        let (first, count) = begin(&s.session, s.device, steps, effort).await?;
        timings.push(Timing { first, rounds: vec![] });
        repeats.push(count);
    }
    for _ in 0..effort.rounds {
        for ((s, timing), &repeats) in subjects.iter().zip(&mut timings).zip(&repeats) {
            if repeats > 0 {
                timing.rounds.push(s.session.time(s.device, steps.clone(), repeats).await? / repeats as f64);
            }
        }
    }
    timings.iter_mut().for_each(finish);
    Ok(timings)
}

/// The same of a session alone.
pub async fn alone(session: &Session, device: &Device, effort: &Effort) -> Result<Timing> {
    let steps = 0..session.plan().steps.len();
    let (first, repeats) = begin(session, device, &steps, effort).await?;
    let mut timing = Timing { first, rounds: vec![] };
    for _ in 0..effort.rounds.min(repeats * effort.rounds) {
        timing.rounds.push(session.time(device, steps.clone(), repeats).await? / repeats as f64);
    }
    finish(&mut timing);
    Ok(timing)
}

/// The first execution, and how many a measurement takes; none when there is no time for a second one.
async fn begin(
    session: &Session,
    device: &Device,
    steps: &Range<usize>,
    effort: &Effort,
) -> Result<(f64, usize)> {
    let first = session.time(device, steps.clone(), 1).await?;
    if first > effort.limit {
        return Ok((first, 0));
    }
    let second = session.time(device, steps.clone(), 1).await?;
    Ok((first, (effort.measurement / second.max(1e-9)).clamp(1.0, MOST_REPEATS) as usize))
}

fn finish(timing: &mut Timing) {
    if timing.rounds.is_empty() {
        timing.rounds.push(timing.first);
    }
    timing.rounds.sort_by(f64::total_cmp);
}
