//! Configurations: of networks, up to their recorded plans, of schedulers and of what prepares images.

use pollster::block_on;
use tintype::device::program;
use tintype::error::{Code, Error, Result};
use tintype::model::config::ClipImageConfig;
use tintype::pipeline::network_plans;
use tintype::plan::{Limits, Target};
use tintype::quant::Format;
use tintype::schedule::{self, Config, Schedule};
use tintype::shape::Elem;

use super::{every, folder};
use crate::mutate::Files;

const CONFIG: &str = "config.json";

/// The small models' and the published ones'.
pub fn configs() -> Vec<Files> {
    let mut all = every("tests/golden/models", CONFIG);
    all.extend(every("tests/plans/configs", CONFIG));
    // Some of transformers' name no class.
    all.retain(|files| block_on(network_plans(&folder(files), CONFIG, Format::F16, &target(), SIZE)).is_ok());
    assert!(all.len() > 30, "only {} configurations are those of networks", all.len());
    all
}

const SIZE: [usize; 2] = [128, 128];

fn target() -> Target {
    Target::new(Elem::F32)
}

/// No blob is larger than 32 bits can count, and a device's limits find what they are asked about.
pub fn plan(files: &Files) -> Result<()> {
    let plans = block_on(network_plans(&folder(files), CONFIG, Format::Q4, &target(), SIZE))?;
    for planned in &plans.networks {
        let large =
            planned.declarations.specs.iter().find(|spec| spec.layout.bytes() as u64 > i32::MAX as u64);
        if let Some(spec) = large {
            return Err(Error::new(Code::Internal, format!("{} is too large", spec.parts[0].names[0])));
        }
        planned.declarations.parameters();
        program(&planned.plan).summary();
        planned.plan.check(planned.name, &Limits { binding: 1 << 31, buffer: 1 << 31 })?;
    }
    Ok(())
}

pub fn processors() -> Vec<Files> {
    every("tests/golden/models", "preprocessor_config.json")
}

pub fn process(files: &Files) -> Result<()> {
    let absent = || Error::not_found("there is no such file");
    let json = files.get("preprocessor_config.json").ok_or_else(absent)?;
    ClipImageConfig::from_json(json, "preprocessor_config.json").map(drop)
}

pub fn schedulers() -> Vec<Files> {
    every("tests/golden/models", "scheduler_config.json")
}

/// As itself and as every other scheduler: all numbers are numbers.
pub fn schedule(files: &Files) -> Result<()> {
    let absent = || Error::not_found("there is no such file");
    let json = files.get("scheduler_config.json").ok_or_else(absent)?;
    // What pipelines of flows say, which other schedulers leave unused.
    let own = Config::from_json(json, "scheduler_config.json")?.with_linear_mu(1024)?;
    let others = schedule::names().map(|name| own.with_class(name)).collect::<Result<Vec<_>>>()?;
    for (config, steps, begin) in others.iter().flat_map(|c| [(c, 1, 0), (c, 4, 1), (c, 20, 19), (c, 4, 9)]) {
        if let Ok(schedule) = Schedule::new(config, steps, begin) {
            finite(&schedule)?;
        }
    }
    own.check()?;
    finite(&Schedule::new(&own, own.default_steps(), 0)?)
}

fn finite(schedule: &Schedule) -> Result<()> {
    let step = schedule.steps.iter().find(|s| {
        let numbers = [
            s.timestep,
            s.input_scale,
            s.p_sample,
            s.p_model,
            s.prev_p,
            s.prev_sample,
            s.prev_model,
            s.prev_noise,
            s.denoised_p,
            s.denoised_sample,
            s.noised_picture,
            s.noised_noise,
        ];
        !numbers.iter().chain(&s.prev_before).all(|number| number.is_finite())
    });
    match step {
        Some(step) => Err(Error::new(Code::Internal, format!("a step without numbers: {step:?}"))),
        None => Ok(()),
    }
}
