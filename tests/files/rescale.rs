//! Velocity models that end in noise alone, and rescaled guidance, beside what diffusers draws (tests/golden/rescale.py).

use serde_json::{Value, json};
use tintype::error::Code;
use tintype::pipeline::Request;

use super::{assert_same, draw};
use crate::cli::failure;
use crate::models::folder::{Temp, here};
use crate::models::tensors::Tensors;

const CONFIG: &str = "scheduler/scheduler_config.json";

fn wanted(name: &str) -> Vec<f32> {
    let file = std::fs::read(here("tests/golden/ref/rescale.safetensors")).unwrap();
    Tensors::parse(&file).get(name).values()
}

/// A model whose last timestep is noise alone.
fn model(name: &str, class: &str) -> Temp {
    let model = Temp::model(name);
    let keys = [
        ("_class_name", class.into()),
        ("rescale_betas_zero_snr", true.into()),
        ("prediction_type", "v_prediction".into()),
        ("timestep_spacing", "trailing".into()),
    ];
    model.set(CONFIG, &keys.map(|(key, value): (&str, Value)| (key, Some(value))));
    model
}

fn request(count: usize) -> Request {
    Request {
        prompts: vec!["a paper boat".to_owned(); count],
        negative_prompt: "the night train".to_owned(),
        steps: Some(3),
        guidance: Some(6.5),
        size: Some([48, 64]),
        ..Request::new("", 11)
    }
}

#[test]
fn drawn_as_in_diffusers() {
    for (name, folder, class, share, count) in [
        ("sd15 euler 0", "sd15-like", "EulerDiscreteScheduler", None, 1),
        ("sd15 euler 0.7", "sd15-like", "EulerDiscreteScheduler", Some(0.7), 2),
        ("sd15 ddim 1", "sd15-like", "DDIMScheduler", Some(1.0), 1),
        ("sdxl euler 0.7", "sdxl-like", "EulerDiscreteScheduler", Some(0.7), 1),
    ] {
        let request = Request { guidance_rescale: share, ..request(count) };
        let drawn = draw(&model(folder, class), &request).unwrap();
        // The first sample is 4096 times unit noise, and the next one a difference of two such numbers, which diffusers
        // rounds to float32: what is left of its own result.
        assert_same(name, &drawn.latents, &wanted(name), 4e-4);
    }
}

#[test]
fn the_model_says_how_much_unless_the_request_does() {
    let model = model("sd15-like", "EulerDiscreteScheduler");
    model.set("model_index.json", &[("guidance_rescale", Some(json!(0.7)))]);
    let drawn = draw(&model, &request(2)).unwrap();
    assert_same("0.7", &drawn.latents, &wanted("sd15 euler 0.7"), 4e-4);
    let drawn = draw(&model, &Request { guidance_rescale: Some(0.0), ..request(1) }).unwrap();
    assert_same("0", &drawn.latents, &wanted("sd15 euler 0"), 4e-4);
    model.set("model_index.json", &[("guidance_rescale", Some(json!(7)))]);
    let error = draw(&model, &request(1)).err().unwrap();
    assert_eq!(error.code, Code::InvalidModel);
    assert_eq!(error.message, "model_index.json: guidance_rescale is 7, wanted a number from 0 to 1");
}

/// diffusers' class does not know the key, and says nothing.
#[test]
fn a_scheduler_without_it_says_so() {
    let drawn = draw(&model("sd15-like", "HeunDiscreteScheduler"), &request(1)).unwrap();
    let [told] = drawn.told("unused")[..] else { panic!("{:?}", drawn.warnings) };
    assert!(
        told.starts_with("scheduler/scheduler_config.json, rescale_betas_zero_snr: true is not used"),
        "{told}"
    );
}

/// diffusers' pipelines pass 0 to every scheduler that takes it, whatever the class's own default is.
#[test]
fn tcd_draws_nothing_unless_asked() {
    let model = Temp::model("sd15-like");
    model.set(CONFIG, &[("_class_name", Some(json!("TCDScheduler")))]);
    let of =
        |eta| draw(&model, &Request { eta, steps: Some(4), ..Request::new("a cat", 1) }).unwrap().latents;
    let plain = of(None);
    assert_eq!(plain, of(Some(0.0)));
    assert_ne!(plain, of(Some(0.3)));
}

#[test]
fn the_command_takes_it_and_judges_it() {
    let model = Temp::model("sd15-like");
    let model = model.0.to_str().unwrap();
    let said =
        failure(&["generate", "a cat", "--model", model, "--device", "cpu", "--guidance-rescale", "1.5"]);
    assert!(said.contains("guidance rescale: wanted a number from 0 to 1, found 1.5"), "{said}");
}
