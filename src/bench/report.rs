//! Rows of figures: as text, as JSON, and against claims.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Peaks, Subject, Timing, matches};
use crate::error::{Error, Result};
use crate::plan::Step;

/// Everything of one run.
#[derive(Serialize)]
pub struct Report {
    /// The settings' names; two when they were measured in turns.
    pub settings: Vec<String>,
    pub devices: Vec<String>,
    pub peaks: Vec<Peaks>,
    pub rows: Vec<Row>,
}

/// A step, or a whole network. Lists have a figure for each setting.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    /// How often the network has this step.
    pub count: usize,
    /// Seconds of one execution.
    pub first: Vec<f64>,
    pub best: Vec<f64>,
    pub median: Vec<f64>,
    /// Of the model's FLOPs, a second, at the best time.
    pub gflops: Vec<f64>,
    /// Read and written, a second.
    pub gigabytes: Vec<f64>,
    /// Of the time that the device's peaks would allow for the arithmetic or for the memory, whichever is longer.
    pub share: Vec<f64>,
    /// Seconds to make the session, pipelines and all; of whole networks.
    pub compile: Vec<f64>,
    /// Seconds to encode one dispatch.
    pub encode: Vec<f64>,
    /// How many times faster the second setting is, by the medians.
    pub ratio: Option<f64>,
}

impl Row {
    pub fn new(
        name: String,
        count: usize,
        subjects: &[Subject],
        steps: Range<usize>,
        timings: &[Timing],
    ) -> Row {
        let whole = subjects[0].session.plan().steps.len() == steps.len();
        let mut row = Row {
            name,
            count,
            first: timings.iter().map(|t| t.first).collect(),
            best: timings.iter().map(Timing::best).collect(),
            median: timings.iter().map(Timing::median).collect(),
            gflops: vec![],
            gigabytes: vec![],
            share: vec![],
            compile: if whole { subjects.iter().map(|s| s.seconds).collect() } else { vec![] },
            encode: vec![],
            ratio: (timings.len() == 2).then(|| timings[0].median() / timings[1].median()),
        };
        for (subject, timing) in subjects.iter().zip(timings) {
            let plan = subject.session.plan();
            let sum = |figure: fn(&Step) -> u64| -> f64 {
                plan.steps[steps.clone()].iter().map(|s| figure(s) as f64).sum()
            };
            let flops = sum(|s| s.cost().model_flops);
            let bytes = sum(Step::bytes_moved);
            row.gflops.push(flops / timing.best() / 1e9);
            row.gigabytes.push(bytes / timing.best() / 1e9);
            let least = (flops / subject.peaks.f32_flops).max(bytes / subject.peaks.bytes);
            row.share.push(least / timing.best());
            if whole {
                row.encode.extend(subject.session.encode_seconds(steps.clone()));
            }
        }
        row
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.count > 1 { format!("{} x{}", self.name, self.count) } else { self.name.clone() };
        write!(f, "{name:<84}")?;
        for i in 0..self.best.len() {
            write!(
                f,
                "{:>10.3} ms{:>9.1} GFLOP/s{:>8.1} GB/s{:>6.1} %",
                self.best[i] * 1e3,
                self.gflops[i],
                self.gigabytes[i],
                self.share[i] * 100.0
            )?;
        }
        if let Some(ratio) = self.ratio {
            write!(f, "{ratio:>8.2}x")?;
        }
        for (compile, first) in self.compile.iter().zip(&self.first) {
            write!(f, "  ready in {compile:.2} s, first run {first:.2} s")?;
        }
        for encode in &self.encode {
            write!(f, "  encoding {:.2} us a dispatch", encode * 1e6)?;
        }
        Ok(())
    }
}

/// A figure that must be reached: by every row whose name matches, and there must be one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A row's name; * stands for anything.
    pub row: String,
    /// "ratio" of two settings, "share" of the peaks (of the last setting), or "gflops".
    pub figure: String,
    pub at_least: f64,
}

impl Report {
    /// A sentence for each claim that does not hold.
    pub fn broken(&self, claims: &[Claim]) -> Result<Vec<String>> {
        let mut broken = vec![];
        for claim in claims {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| matches(&claim.row, &row.name)).collect();
            if rows.is_empty() {
                broken.push(format!("{}: no such row was measured", claim.row));
            }
            for row in rows {
                let found = match claim.figure.as_str() {
                    "ratio" => row.ratio,
                    "share" => row.share.last().copied(),
                    "gflops" => row.gflops.last().copied(),
                    other => {
                        return Err(Error::option(format!(
                            "claim on {}: wanted the figure ratio, share or gflops, found {other:?}",
                            claim.row
                        )));
                    }
                };
                let (name, figure, wanted) = (&row.name, &claim.figure, claim.at_least);
                match found {
                    None => broken.push(format!("{name}: no {figure} without a second setting")),
                    Some(found) if found >= wanted => {}
                    Some(found) => {
                        broken.push(format!("{name}: {figure} {found:.3}, wanted at least {wanted}"))
                    }
                }
            }
        }
        Ok(broken)
    }
}
