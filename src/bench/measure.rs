//! Times of sessions, in turns.

use std::ops::Range;

use crate::device::Session;
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

pub async fn in_turns(sessions: &[&Session], steps: &Range<usize>, effort: &Effort) -> Result<Vec<Timing>> {
    let mut timings: Vec<Timing> = vec![];
    let mut repeats = vec![];
    for session in sessions {
        let (first, count) = begin(session, steps, effort).await?;
        timings.push(Timing { first, rounds: vec![] });
        repeats.push(count);
    }
    for _ in 0..effort.rounds {
        for ((session, timing), &repeats) in sessions.iter().zip(&mut timings).zip(&repeats) {
            if repeats > 0 {
                timing.rounds.push(session.time(steps.clone(), repeats).await? / repeats as f64);
            }
        }
    }
    timings.iter_mut().for_each(finish);
    Ok(timings)
}

/// The first execution, and how many a measurement takes; none when there is no time for a second one.
async fn begin(session: &Session, steps: &Range<usize>, effort: &Effort) -> Result<(f64, usize)> {
    let first = session.time(steps.clone(), 1).await?;
    if first > effort.limit {
        return Ok((first, 0));
    }
    let second = session.time(steps.clone(), 1).await?;
    Ok((first, (effort.measurement / second.max(1e-9)).clamp(1.0, MOST_REPEATS) as usize))
}

fn finish(timing: &mut Timing) {
    if timing.rounds.is_empty() {
        timing.rounds.push(timing.first);
    }
    timing.rounds.sort_by(f64::total_cmp);
}
