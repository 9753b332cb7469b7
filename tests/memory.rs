//! What a model needs is known before it is loaded, and weights are chosen that fit.

use pollster::block_on;
use tintype::device::Device;
use tintype::error::Code;
use tintype::model::config::ModelIndex;
use tintype::pipeline::{Budget, LoadOptions, Pipeline, Survey};
use tintype::plan::Target;
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{DiskFolder, Hooks};

use crate::cli::failure;
use crate::models::folder::{golden, here};

const MEGA: u64 = 1_000_000;

fn sd_turbo() -> Survey {
    let index = r#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "EulerDiscreteScheduler"]}"#;
    let index = ModelIndex::from_json(index.as_bytes(), "model_index.json").unwrap();
    block_on(Survey::of(&DiskFolder::new(here("tests/plans/configs/sd-turbo")), &index)).unwrap()
}

fn options(weights: &str, mega: u64, firm: bool) -> LoadOptions {
    let budget = Some(Budget { bytes: mega * MEGA, firm });
    LoadOptions { budget, ..LoadOptions::parse(weights, "auto").unwrap() }
}

#[test]
fn the_best_weights_that_fit() {
    let (survey, target) = (sd_turbo(), Target::new(Elem::F16));
    let fit = |mega, firm| survey.fit(&options("auto", mega, firm), &target);
    for (mega, format) in [(4000, Format::F16), (2000, Format::Q8), (1200, Format::Q4)] {
        let needs = fit(mega, true).unwrap();
        assert_eq!(needs.format, Some(format), "{mega} MB");
        assert!(needs.total() <= mega * MEGA && needs.size == [512, 512], "{needs:?}");
        // Rows of 1024: of tokens in halves, of positions in full.
        assert_eq!(needs.rows, 49408 * 1024 * 2 + 77 * 1024 * 4);
    }
    let e = fit(500, true).unwrap_err();
    assert!(e.code == Code::LimitTooLow && e.message.contains("q4") && e.message.contains("500 MB"), "{e}");
    // A guess refuses nothing.
    assert_eq!(fit(500, false).unwrap().format, Some(Format::Q4));
    // What was asked for is not changed.
    let e = survey.fit(&options("f16", 1200, true), &target).unwrap_err();
    assert!(e.message.contains("weights of f16"), "{e}");
    assert_eq!(survey.fit(&options("q8", 10, false), &target).unwrap().format, Some(Format::Q8));
    // A larger picture leaves less for weights.
    assert_eq!(fit(2500, true).unwrap().format, Some(Format::Q8));
    let large = LoadOptions { size: Some([1024, 1024]), ..options("auto", 2500, true) };
    assert_eq!(survey.fit(&large, &target).unwrap().format, Some(Format::Q4));
}

#[test]
fn the_needs_are_those_of_what_is_loaded() {
    for model in ["sd-turbo-like", "sdxs-like", "sdxl-like"] {
        let folder = DiskFolder::new(golden(model));
        let load = |options: &LoadOptions| {
            block_on(Pipeline::load(&Device::Cpu, &folder, options, Hooks::NONE)).map(|p| p.formats)
        };
        assert_eq!(load(&options("auto", 1000, true)).unwrap(), [Format::F16, Format::F16]);
        assert_eq!(load(&options("auto", 0, false)).unwrap(), [Format::Q4, Format::Q8]);
        assert_eq!(load(&options("q8", 0, true)).unwrap_err().code, Code::LimitTooLow);
    }
}

#[test]
fn the_command_refuses_what_does_not_fit() {
    let said = failure(&["generate", "a cat", "--device", "cpu", "--weights", "auto", "--memory", "1"]);
    assert!(said.contains("memory allows 1 MB") && said.contains("limit-too-low"), "{said}");
}
