//! A cancel in every stage ends the work there, and the next image is the right one.

use std::cell::Cell;

use pollster::block_on;
use tintype::device::Device;
use tintype::error::Code;
use tintype::host::Cancel;
use tintype::pipeline::{LoadOptions, Pipeline, Request, Stage, Watch};
use tintype::weights::{DiskFolder, Hooks};

use super::{PROMPT, generate};
use crate::harness::on_device;
use crate::models::folder::golden;

fn load(gpu: &Device, hooks: Hooks<'_>) -> tintype::error::Result<Pipeline> {
    let load = LoadOptions::parse("f32", "f32")?;
    block_on(Pipeline::load(gpu, &DiskFolder::new(golden("sdxs-like")), &load, hooks))
}

/// LCM draws noise after each step but the last: a cancel must not leave any of it behind.
fn request() -> Request {
    Request {
        steps: Some(3),
        size: Some([64, 64]),
        guidance: Some(2.0),
        scheduler: Some("lcm".to_owned()),
        ..Request::new(PROMPT, 5)
    }
}

#[test]
fn in_every_stage() {
    on_device(|gpu| {
        let pipeline = load(gpu, Hooks::NONE).unwrap();
        let wanted = generate(&pipeline, &request()).unwrap().images.remove(0).rgba;
        let steps = (0..3).map(|step| Stage::Step { step, steps: 3 });
        for stage in [Stage::Text].into_iter().chain(steps).chain([Stage::Decode]) {
            let cancel = Cancel::default();
            let last = Cell::new(None);
            let progress = |now: Stage, fraction: f64| {
                assert!((0.0..=1.0 + 1e-9).contains(&fraction), "{now:?}: {fraction}");
                last.set(Some(now));
                if now == stage {
                    cancel.cancel();
                }
            };
            let watch = Watch { cancel: cancel.clone(), progress: &progress, preview: None, dump: None };
            let e = block_on(pipeline.generate(&request(), &watch)).unwrap_err();
            assert_eq!(e.code, Code::Cancelled, "{stage:?}: {e}");
            assert_eq!(last.get(), Some(stage), "work went on after the cancel");
            // Another size makes other sessions, which must not matter either.
            if stage == Stage::Text {
                let small = Request { size: Some([32, 32]), ..request() };
                generate(&pipeline, &small).unwrap();
            }
            let again = generate(&pipeline, &request()).unwrap().images.remove(0).rgba;
            assert!(again == wanted, "after a cancel in {stage:?} the image is another");
        }
    });
}

#[test]
fn before_anything() {
    on_device(|gpu| {
        let pipeline = load(gpu, Hooks::NONE).unwrap();
        let cancel = Cancel::default();
        cancel.cancel();
        let watch = Watch { cancel, progress: &|_, _| {}, preview: None, dump: None };
        assert_eq!(block_on(pipeline.generate(&request(), &watch)).unwrap_err().code, Code::Cancelled);
    });
}

#[test]
fn while_loading() {
    on_device(|gpu| {
        let polls = Cell::new(0);
        let count = || {
            polls.set(polls.get() + 1);
            false
        };
        load(gpu, Hooks { cancelled: &count, ..Hooks::NONE }).unwrap();
        let all = polls.get();
        // The first, one in each of the three networks or so, and the last.
        for at in [0, all / 8, all / 2, all - 1] {
            let left = Cell::new(at);
            let cancelled = || {
                assert!(left.get() >= 0, "reading went on after the cancel");
                left.replace(left.get() - 1) == 0
            };
            let e =
                load(gpu, Hooks { cancelled: &cancelled, ..Hooks::NONE }).err().expect("a pipeline came out");
            assert_eq!(e.code, Code::Cancelled, "poll {at} of {all}: {e}");
        }
        assert!(load(gpu, Hooks::NONE).is_ok());
    });
}
