//! A model that is told labels: by number and by name.

use pollster::block_on;
use tintype::device::Device;
use tintype::error::{Code, Result};
use tintype::host::Cancel;
use tintype::pipeline::{LoadOptions, Pipeline, Report, Request, Watch};
use tintype::weights::{DiskFolder, Hooks};

use crate::models::folder::golden;

fn draw(pipeline: &Pipeline, request: Request) -> Result<Report> {
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
    block_on(pipeline.generate(&Request { steps: Some(1), ..request }, &watch))
}

#[test]
fn labels_by_number_and_by_name() {
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let folder = DiskFolder::new(golden("dit-like"));
    let pipeline = block_on(Pipeline::load(&Device::Cpu, &folder, &options, Hooks::NONE)).unwrap();
    let image = |prompt: &str| draw(&pipeline, Request::new(prompt, 5)).unwrap().images.remove(0).rgba;
    let tench = image("0");
    assert!(image("tench") == tench && image(" Tinca tinca ") == tench);
    assert!(image("golden retriever") == image("207") && image("207") != tench);
    // The last of 1001 rows is for none.
    for prompt in ["1000", "-1", "a tench", ""] {
        let error = draw(&pipeline, Request::new(prompt, 5)).err().unwrap();
        assert_eq!(error.code, Code::InvalidOption, "{prompt}: {error}");
        assert!(error.message.contains("below 1000"), "{prompt}: {error}");
    }
    let negative = Request { negative_prompt: "blurry".to_owned(), ..Request::new("0", 5) };
    let warnings = draw(&pipeline, negative).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.message.contains("negative prompt")), "{warnings:?}");
    let instruction = Request { instruction: Some("Enhance:".to_owned()), ..Request::new("0", 5) };
    let error = draw(&pipeline, instruction).err().unwrap();
    assert!(error.message.starts_with("instruction: wanted none"), "{error}");
}
