//! Models as people have them: what is drawn of their files, what is said of it, what is refused.

mod folders;
mod learned;
mod numbers;
mod rescale;

use std::collections::BTreeMap;

use pollster::block_on;
use tintype::device::Device;
use tintype::error::Result;
use tintype::host::Cancel;
use tintype::pipeline::{Additions, LoadOptions, Pipeline, Request, Watch};
use tintype::warning::Warning;
use tintype::weights::{DiskFolder, Hooks};

use crate::models::folder::Temp;

/// A request's last latents, `[N, C, h, w]`, and everything that was said.
struct Drawn {
    latents: Vec<f32>,
    warnings: Vec<Warning>,
}

impl Drawn {
    /// The warnings with this code.
    fn told(&self, code: &str) -> Vec<&str> {
        let of = self.warnings.iter().filter(|warning| warning.code.as_str() == code);
        of.map(|warning| warning.message.as_str()).collect()
    }
}

fn load(model: &Temp, additions: &Additions<'_>) -> Result<Pipeline> {
    let folder = DiskFolder::new(&model.0);
    let options = LoadOptions::parse("f32", "f32")?;
    block_on(Pipeline::load_with(&Device::Cpu, &folder, additions, &options, Hooks::NONE))
}

/// Draws on the CPU in f32.
fn draw(model: &Temp, request: &Request) -> Result<Drawn> {
    draw_with(&load(model, &Additions::default())?, request)
}

fn draw_with(pipeline: &Pipeline, request: &Request) -> Result<Drawn> {
    let dumped = std::cell::RefCell::new(BTreeMap::new());
    let dump = |name: &str, _: [usize; 4], values: Vec<f32>| {
        if let Some(step) = name.strip_prefix("latents.") {
            dumped.borrow_mut().insert(step.parse::<usize>().unwrap(), values);
        }
    };
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: Some(&dump) };
    let report = block_on(pipeline.generate(request, &watch))?;
    let (_, latents) = dumped.take().pop_last().expect("a step");
    let warnings = pipeline.warnings().iter().chain(&report.warnings).cloned().collect();
    Ok(Drawn { latents, warnings })
}

/// Two steps, small.
fn request(prompt: &str) -> Request {
    Request { steps: Some(2), size: Some([64, 64]), guidance: Some(1.0), ..Request::new(prompt, 1) }
}

#[track_caller]
fn assert_same(what: &str, found: &[f32], wanted: &[f32], limit: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = square(&mut found.iter().zip(wanted).map(|(f, w)| f64::from(f - w)));
    let error = difference / square(&mut wanted.iter().map(|w| f64::from(*w)));
    assert!(error <= limit, "{what}: relative error {error:.1e}");
}
