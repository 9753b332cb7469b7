//! A device that is lost at any moment ends the work with that code, without a panic and without waiting for ever.

use std::cell::Cell;

use pollster::block_on;
use tintype::device::Device;
use tintype::error::{Code, Result};
use tintype::host::Cancel;
use tintype::pipeline::{Image, LoadOptions, Pipeline, Report, Request, Stage, Watch};
use tintype::weights::{DiskFolder, Hooks};

use super::PROMPT;
use crate::models::folder::golden;

/// A device of its own, and a way to lose it.
fn open() -> Device {
    block_on(Device::open("gpu", "f32", None, None)).unwrap()
}

fn lose(device: &Device) {
    match device {
        Device::Gpu(gpu) => gpu.lose(),
        Device::Cpu => unreachable!("a GPU was asked for"),
    }
}

fn load(device: &Device, hooks: Hooks<'_>) -> Result<Pipeline> {
    let options = LoadOptions::parse("f32", "f32")?;
    block_on(Pipeline::load(device, &DiskFolder::new(golden("sd-turbo-like")), &options, hooks))
}

fn draw(
    pipeline: &Pipeline,
    progress: &dyn Fn(Stage, f64),
    preview: &dyn Fn(&Image, usize, usize),
) -> Result<Report> {
    let request = Request { steps: Some(2), size: Some([64, 64]), ..Request::new(PROMPT, 5) };
    let watch = Watch { cancel: Cancel::default(), progress, preview: Some(preview), dump: None };
    block_on(pipeline.generate(&request, &watch))
}

#[test]
fn while_loading() {
    let device = open();
    let reports = Cell::new(0);
    let progress = |_, _| {
        if reports.replace(reports.get() + 1) == 5 {
            lose(&device);
        }
    };
    let e = load(&device, Hooks { progress: &progress, ..Hooks::NONE }).err().expect("a pipeline came out");
    assert_eq!(e.code, Code::DeviceLost, "{e}");
}

#[test]
fn while_compiling() {
    let device = open();
    let pipeline = load(&device, Hooks::NONE).unwrap();
    let progress = |done, _| {
        if done == 2 {
            lose(&device);
        }
    };
    let e = block_on(pipeline.compile(&progress, &|| false)).unwrap_err();
    assert_eq!(e.code, Code::DeviceLost, "{e}");
}

#[test]
fn in_every_stage_and_afterwards() {
    let nothing = |_: &Image, _: usize, _: usize| {};
    let first = Stage::Step { step: 0, steps: 2 };
    for stage in [Some(Stage::Text), Some(first), Some(Stage::Decode), None] {
        let device = open();
        let pipeline = load(&device, Hooks::NONE).unwrap();
        let progress = |now: Stage, _: f64| {
            if Some(now) == stage {
                lose(&device);
            }
        };
        let preview = |_: &Image, _: usize, _: usize| lose(&device);
        let preview: &dyn Fn(&Image, usize, usize) = if stage.is_none() { &preview } else { &nothing };
        let e = draw(&pipeline, &progress, preview).unwrap_err();
        assert_eq!(e.code, Code::DeviceLost, "{stage:?}: {e}");
        // For good, and it can be let go.
        let again = draw(&pipeline, &|_, _| {}, &nothing).unwrap_err();
        assert_eq!(again.code, Code::DeviceLost, "{stage:?}: {again}");
    }
}
