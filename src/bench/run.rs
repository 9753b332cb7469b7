//! A whole run: the peaks of each setting, then model after model, network after network.

use super::measure::in_turns;
use super::{Effort, Peaks, Report, Row, Subject, kinds, peaks};
use crate::device::Device;
use crate::error::{Code, Error, Result};
use crate::pipeline::{LoadOptions, Planned, Plans};

/// A device, and how models are loaded on it.
pub struct Setting {
    pub name: String,
    pub device: Device,
    pub load: LoadOptions,
}

/// What to measure under one setting, or under two in turns.
pub struct Run<'a> {
    pub settings: &'a [Setting],
    pub models: &'a [String],
    /// Only rows whose name matches; `*` stands for anything.
    pub filter: &'a str,
    pub effort: Effort,
    /// Gets every line as it is known.
    pub tell: &'a dyn Fn(&str),
}

impl Run<'_> {
    /// `plans` makes the plans of a model under a setting.
    pub async fn run(&self, plans: impl AsyncFn(&str, &Setting) -> Result<Plans>) -> Result<Report> {
        let mut report = Report {
            settings: self.settings.iter().map(|s| s.name.clone()).collect(),
            devices: self.settings.iter().map(|s| s.device.name()).collect(),
            peaks: vec![],
            rows: vec![],
        };
        for setting in self.settings {
            let found = peaks(&setting.device, &self.effort).await?;
            (self.tell)(&setting.describe(&found)?);
            report.peaks.push(found);
        }
        let mut refused = None;
        for model in self.models {
            let mut planned = vec![];
            for setting in self.settings {
                let Plans { mut networks, left_out } = plans(model, setting).await?;
                if planned.is_empty() {
                    left_out.iter().for_each(|sentence| (self.tell)(sentence));
                }
                // Words become an image without it.
                networks.retain(|network| network.name != "encoder");
                planned.push(networks);
            }
            refused = self.model(model, planned, &mut report).await?.or(refused);
        }
        if report.rows.is_empty() {
            let none = || Error::option(format!("filter {}: no row has such a name", self.filter));
            return Err(refused.unwrap_or_else(none));
        }
        Ok(report)
    }

    /// Network by network: several of them rarely fit on a device at once. One that does not fit by itself is left
    /// out; the last such refusal is returned.
    async fn model(
        &self,
        model: &str,
        mut planned: Vec<Vec<Planned>>,
        report: &mut Report,
    ) -> Result<Option<Error>> {
        let mut refused = None;
        while let Some(name) = planned[0].last().map(|p| format!("{model}/{}", p.name)) {
            let networks: Vec<Planned> = planned.iter_mut().filter_map(Vec::pop).collect();
            if !could_match(self.filter, &name) {
                continue;
            }
            match self.subjects(networks, &report.peaks).await {
                Ok(subjects) => report.rows.extend(self.network(&name, &subjects).await?),
                Err(e) if matches!(e.code, Code::LimitTooLow | Code::OutOfMemory) => {
                    (self.tell)(&format!("{name} is left out: {e}"));
                    refused = Some(e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(refused)
    }

    /// One network under every setting.
    async fn subjects(&self, networks: Vec<Planned>, peaks: &[Peaks]) -> Result<Vec<Subject>> {
        let mut subjects = vec![];
        for ((setting, network), peaks) in self.settings.iter().zip(networks).zip(peaks) {
            subjects.push(Subject::new(&setting.device, *peaks, network).await?);
        }
        Ok(subjects)
    }

    /// The steps of a network and the whole of it, which one or two subjects have under different settings.
    async fn network(&self, name: &str, subjects: &[Subject]) -> Result<Vec<Row>> {
        let plan = subjects[0].session.plan();
        let steps =
            kinds(plan).into_iter().map(|(label, at, count)| (format!("{name}/{label}"), at..at + 1, count));
        let whole = (name.to_owned(), 0..plan.steps.len(), 1);
        let sessions: Vec<_> = subjects.iter().map(|s| &s.session).collect();
        let mut rows = vec![];
        for (name, range, count) in steps.chain([whole]).filter(|(name, ..)| matches(self.filter, name)) {
            let timings = in_turns(&sessions, &range, &self.effort).await?;
            let row = Row::new(name, count, subjects, range, &timings);
            (self.tell)(&row.to_string());
            rows.push(row);
        }
        Ok(rows)
    }
}

impl Setting {
    fn describe(&self, peaks: &Peaks) -> Result<String> {
        let f16 = peaks.f16_flops.map_or(String::new(), |f| format!(", {:.1} in f16", f / 1e9));
        Ok(format!(
            "{}: {}, weights {}, activations {}; peaks: {:.1} GFLOP/s in f32{f16}, {:.1} GB/s",
            self.name,
            self.device.name(),
            self.load.weights.as_str(),
            self.device.elem(&self.load.activations)?.as_str(),
            peaks.f32_flops / 1e9,
            peaks.bytes / 1e9,
        ))
    }
}

/// Whether `name` matches `glob`, in which * stands for anything.
pub fn matches(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|i| tail.is_char_boundary(i) && matches(rest, &tail[i..]))
        }),
    }
}

/// Whether the glob could match something that begins with `name`.
fn could_match(glob: &str, name: &str) -> bool {
    let fixed = glob.split('*').next().unwrap_or_default();
    fixed.starts_with(name) || name.starts_with(fixed)
}
