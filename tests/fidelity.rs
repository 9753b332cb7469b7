//! What fewer bits cost where weights are not random: images of the built-in model for captions that it was not trained
//! on. `tintype fidelity` draws all of them; here are the first few.

use std::fs;

use pollster::block_on;
use serde_json::Value;
use tintype::device::Device;
use tintype::host::Cancel;
use tintype::pipeline::{LoadOptions, Pipeline, Request, Watch};
use tintype::quant::Format;
use tintype::weights::{DiskFolder, Hooks};

use crate::models::folder::here;

const CAPTIONS: usize = 6;

/// How the networks and the decoder are stored, and the least PSNR of the images against f32, in dB.
const LEAST: [(Format, Format, f64); 3] =
    [(Format::Q8, Format::Q8, 35.0), (Format::Q4, Format::Q8, 24.0), (Format::F32, Format::Q8, 40.0)];

fn pictures(weights: Format, decoder: Format) -> Vec<Vec<u8>> {
    let options =
        LoadOptions { weights, decoder: Some(decoder), ..LoadOptions::parse("f32", "auto").unwrap() };
    let folder = DiskFolder::new(here("models/builtin"));
    let pipeline = block_on(Pipeline::load(&Device::Cpu, &folder, &options, Hooks::NONE)).unwrap();
    let captions = fs::read(here("training/heldout.json")).unwrap();
    let captions: Vec<Value> = serde_json::from_slice(&captions).unwrap();
    let draw = |caption: &Value| {
        let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
        let request = Request::new(caption["prompt"].as_str().unwrap(), caption["seed"].as_u64().unwrap());
        block_on(pipeline.generate(&request, &watch)).unwrap().images.remove(0).rgba
    };
    captions.iter().take(CAPTIONS).map(draw).collect()
}

/// Over red, green and blue.
pub fn psnr(wanted: &[u8], found: &[u8]) -> f64 {
    let colours = |rgba: &[u8]| -> Vec<f64> {
        let colours = rgba.iter().enumerate().filter(|(i, _)| i % 4 != 3);
        colours.map(|(_, value)| f64::from(*value)).collect()
    };
    let (wanted, found) = (colours(wanted), colours(found));
    let square: f64 = wanted.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum();
    10.0 * (255.0 * 255.0 * wanted.len() as f64 / square).log10()
}

#[test]
fn pictures_of_quantised_weights() {
    let wanted = pictures(Format::F32, Format::F32);
    for (weights, decoder, least) in LEAST {
        let found = pictures(weights, decoder);
        let all: Vec<f64> = wanted.iter().zip(&found).map(|(a, b)| psnr(a, b)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!(mean >= least, "{weights:?} with a decoder in {decoder:?}: {mean:.1} dB, {all:.1?}");
        // Else it was not quantised at all.
        assert!(mean < 80.0, "{weights:?} with a decoder in {decoder:?}: {mean:.1} dB");
    }
}
