//! What a model needs is known before it is loaded, and weights are chosen that fit.

use std::cell::RefCell;

use pollster::block_on;
use tintype::device::Device;
use tintype::error::Code;
use tintype::host::Cancel;
use tintype::model::config::ModelIndex;
use tintype::pipeline::{
    Budget, Half, LoadOptions, Origin, Pipeline, Report, Request, Savings, Survey, VaePart, Watch,
};
use tintype::plan::Target;
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{DiskFolder, Hooks};

use crate::cli::failure;
use crate::fidelity::psnr;
use crate::harness::on_device;
use crate::models::folder::{golden, here};

const MEGA: u64 = 1_000_000;

fn sd_turbo() -> Survey {
    let index = r#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "EulerDiscreteScheduler"]}"#;
    let index = ModelIndex::from_json(index.as_bytes(), "model_index.json").unwrap();
    block_on(Survey::read(&DiskFolder::new(here("tests/plans/configs/sd-turbo")), &index)).unwrap()
}

fn options(weights: &str, mega: u64, firm: bool) -> LoadOptions {
    let budget = Some(Budget { bytes: mega * MEGA, firm });
    LoadOptions { budget, ..LoadOptions::parse(weights, "auto").unwrap() }
}

#[test]
fn the_best_weights_that_fit() {
    let (survey, target) = (sd_turbo(), Target::new(Elem::F16));
    let fit =
        |mega, firm| survey.fit(&options("auto", mega, firm), true, &target).map(|needs| needs.unwrap());
    for (mega, format) in [(4000, Format::F16), (2000, Format::Q8), (1200, Format::Q4)] {
        let needs = fit(mega, true).unwrap();
        assert_eq!((needs.format, needs.savings), (format, Savings::default()), "{mega} MB");
        assert!(needs.total() <= mega * MEGA && needs.size == [512, 512], "{needs:?}");
        // Rows of 1024: of tokens in halves, of positions in full.
        assert_eq!(needs.beside, 49408 * 1024 * 2 + 77 * 1024 * 4);
    }
    let e = fit(500, true).unwrap_err();
    assert!(e.code == Code::LimitTooLow && e.message.contains("q4") && e.message.contains("500 MB"), "{e}");
    // A guess refuses nothing.
    let guessed = fit(500, false).unwrap();
    assert_eq!((guessed.format, guessed.savings), (Format::Q4, Savings::default()));
    // Nor does it give up anything but bits of weights, even where that would fit.
    assert_eq!(fit(1100, false).unwrap().savings, Savings::default());
    // What was asked for is not changed.
    let fit_as = |options: &LoadOptions| survey.fit(options, true, &target);
    let e = fit_as(&options("f16", 1200, true)).unwrap_err();
    assert!(e.message.contains("weights of f16"), "{e}");
    assert_eq!(fit_as(&options("q8", 10, false)).unwrap().unwrap().format, Format::Q8);
    // A larger image leaves less for weights.
    assert_eq!(fit(2500, true).unwrap().format, Format::Q8);
    let large = LoadOptions { size: Some([1024, 1024]), ..options("auto", 2500, true) };
    assert_eq!(fit_as(&large).unwrap().unwrap().format, Format::Q4);
    assert_eq!(survey.fit(&LoadOptions { budget: None, ..large }, true, &target).unwrap(), None);
}

#[test]
fn what_is_given_up_when_the_smallest_weights_are_too_large() {
    let (survey, target) = (sd_turbo(), Target::new(Elem::F16));
    let fit = |mega, gpu| survey.fit(&options("auto", mega, true), gpu, &target).map(|needs| needs.unwrap());
    let q4 = fit(1200, true).unwrap();
    let text = fit(1100, true).unwrap();
    assert_eq!((text.format, text.savings), (Format::Q4, Savings { text: true, ..Savings::default() }));
    // The encoder is somewhere, and its activations are not on the device.
    assert_eq!(text.weights + text.beside, q4.weights + q4.beside);
    assert!(text.weights + 150 * MEGA < q4.weights && text.activations < q4.activations);
    let all = fit(800, true).unwrap();
    assert_eq!((all.format, all.savings), (Format::Q4, Savings::ALL));
    // A quarter of the image at a time, most of what it takes.
    assert!(all.weights == text.weights && 3 * all.activations < text.activations, "{all:?} {text:?}");
    assert_eq!(fit(700, true).unwrap_err().code, Code::LimitTooLow);
    // A CPU has nothing beside it.
    let cpu = fit(1100, false).unwrap();
    assert_eq!(cpu.savings, Savings { tiles: true, ..Savings::default() });
}

#[test]
fn a_cpu_keeps_weights_transformed_of_what_memory_is_left() {
    let (survey, target) = (sd_turbo(), Target::new(Elem::F32));
    let fit = |weights, mega| survey.fit(&options(weights, mega, true), false, &target).unwrap().unwrap();
    let [tight, more, all] = [8000, 8300, 14_000].map(|mega| (mega, fit("f32", mega)));
    for (mega, needs) in [tight, more, all] {
        assert!(needs.total() + needs.transformed <= mega * MEGA, "{needs:?}");
        assert_eq!(needs.weights, tight.1.weights);
    }
    // Of F(2x2) first, 16/9 of the weights, then of F(4x4), 36/9.
    let [tight, more, all] = [tight, more, all].map(|(_, needs)| needs.transformed);
    assert!(tight < more && more < all, "{tight} {more} {all}");
    // There is an end to it, and weights of fewer bits are as they are.
    assert_eq!(fit("f32", 30_000).transformed, fit("f32", 40_000).transformed);
    assert_eq!(fit("f16", 30_000).transformed, 0);
    assert_eq!(survey.fit(&options("f32", 40_000, true), true, &target).unwrap().unwrap().transformed, 0);
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

/// An image, the latents that were decoded, `[h, w, C]`, and what was made of them, `[H, W, 3]` in [0, 1].
fn draw(pipeline: &Pipeline, request: &Request) -> (Report, Vec<f32>, Vec<f32>) {
    let dumped = RefCell::new(vec![]);
    let dump =
        |_: &str, [_, c, h, w]: [usize; 4], values: Vec<f32>| dumped.borrow_mut().push((c, h * w, values));
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: Some(&dump) };
    let report = block_on(pipeline.generate(request, &watch)).unwrap();
    let mut dumped = dumped.into_inner();
    let (.., image) = dumped.pop().unwrap();
    let (channels, pixels, latents) = dumped.pop().unwrap();
    let rows = (0..pixels).flat_map(|i| (0..channels).map(move |c| c * pixels + i));
    (report, rows.map(|i| latents[i]).collect(), image)
}

#[test]
fn a_picture_in_tiles_is_made_of_pictures_of_its_parts() {
    let folder = DiskFolder::new(golden("sd-turbo-like"));
    let options = LoadOptions { savings: Savings::ALL, ..LoadOptions::parse("f32", "f32").unwrap() };
    let pipeline = block_on(Pipeline::load(&Device::Cpu, &folder, &options, Hooks::NONE)).unwrap();
    let request = Request { size: Some([512, 256]), steps: Some(1), ..Request::new("a lighthouse", 4) };
    let (report, latents, image) = draw(&pipeline, &request);
    assert!(
        report.warnings.iter().any(|w| w.message.contains("3 tiles of 256x256")),
        "{:?}",
        report.warnings
    );
    // Of 64 columns of cells a tile has 32. The left and the right one are 16 columns away from the one between them.
    let origin = Origin::of(&folder);
    let load = VaePart::load(&Device::Cpu, &origin, "vae", Format::F32, Hooks::NONE, &[Half::Decoder]);
    let vae = block_on(load).unwrap();
    let session = block_on(vae.session(&Target::new(Elem::F32), Half::Decoder, 1, [32, 32])).unwrap();
    for (first, own) in [(0, 0..128), (32, 128..256)] {
        let cut: Vec<f32> =
            (0..32).flat_map(|y| &latents[(y * 64 + first) * 4..][..32 * 4]).copied().collect();
        session.write("input", &cut);
        block_on(session.run("vae", &Cancel::default(), &|_| {})).unwrap();
        let tile = block_on(session.read("sample")).unwrap();
        for (y, x) in (0..256).flat_map(|y| own.clone().map(move |x| (y, x))) {
            let [wanted, found] =
                [&tile[(y * 256 + x) * 3..][..3], &image[(y * 512 + first * 8 + x) * 3..][..3]];
            // Divided by the weight that it was multiplied with.
            let close = |(a, b): (&f32, &f32)| ((a / 2.0 + 0.5).clamp(0.0, 1.0) - b).abs() < 1e-5;
            assert!(wanted.iter().zip(found).all(close), "{y} {x}: {wanted:?} {found:?}");
        }
    }
    // The bytes are those of the floats.
    let levels = report.images[0].rgba.chunks_exact(4).flat_map(|pixel| &pixel[..3]);
    assert!(levels.zip(&image).all(|(&level, v)| (f32::from(level) - v * 255.0).abs() <= 0.501));
    assert_eq!((report.images[0].width, report.images[0].height), (512, 256));
}

#[test]
fn a_picture_in_tiles_is_nearly_that_in_one_piece() {
    let folder = DiskFolder::new(here("models/builtin"));
    let draw = |savings| {
        let options = LoadOptions { savings, ..LoadOptions::parse("f32", "f32").unwrap() };
        let pipeline = block_on(Pipeline::load(&Device::Cpu, &folder, &options, Hooks::NONE)).unwrap();
        let request =
            Request { size: Some([512, 512]), steps: Some(1), ..Request::new("the sea at night", 4) };
        let (mut report, ..) = draw(&pipeline, &request);
        report.images.remove(0).rgba
    };
    let psnr = psnr(&draw(Savings::default()), &draw(Savings { tiles: true, ..Savings::default() }));
    assert!((30.0..100.0).contains(&psnr), "{psnr} dB");
}

#[test]
fn a_text_encoder_beside_the_gpu_reads_the_same() {
    on_device(|device| {
        for model in ["sd-turbo-like", "sdxl-like"] {
            let folder = DiskFolder::new(golden(model));
            let load = |savings| {
                let options = LoadOptions { savings, ..LoadOptions::parse("f32", "f16").unwrap() };
                block_on(Pipeline::load(device, &folder, &options, Hooks::NONE)).unwrap()
            };
            let request = Request { steps: Some(1), ..Request::new("a lighthouse", 4) };
            let [(report, wanted), (beside, found)] = [false, true].map(|text| {
                let pipeline = load(Savings { text, ..Savings::default() });
                assert_eq!(pipeline.warnings().len(), usize::from(text));
                let (report, latents, _) = draw(&pipeline, &request);
                (report, latents)
            });
            // The CPU does not round to halves, whose step is 2^-11 of a value; hundreds of them are added up.
            let far = wanted.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let most = wanted.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
            assert!(far < 0.02 * most, "{model}: {far} of {most}");
            assert!(far > 0.0, "{model}: both on the same device?");
            assert_eq!(report.warnings, beside.warnings);
        }
    });
}

#[test]
fn the_command_refuses_what_does_not_fit() {
    let said = failure(&["generate", "a cat", "--device", "cpu", "--weights", "auto", "--memory", "1"]);
    assert!(said.contains("memory allows 1 MB") && said.contains("limit-too-low"), "{said}");
}
