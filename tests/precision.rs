//! Values that are not finite or that do not fit halves: never an image in silence.

use std::cell::RefCell;

use half::f16;
use pollster::block_on;
use serde_json::json;
use tintype::device::Device;
use tintype::error::{Code, Error, Result};
use tintype::host::Cancel;
use tintype::image::Picture;
use tintype::model::config::ModelIndex;
use tintype::pipeline::{
    Additions, Budget, FileIn, Image, LoadOptions, Pipeline, Report, Request, Safety, Savings, Survey, Watch,
};
use tintype::plan::Target;
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::warning::Topic;
use tintype::weights::{DiskFolder, Hooks, MemoryFolder};

use crate::fidelity::psnr;
use crate::harness::on_device;
use crate::models::folder::{Temp, golden};
use crate::models::tensors::Tensors;

const VAE: &str = "vae/diffusion_pytorch_model.fp16.safetensors";
/// What no weight is, though activations become larger than halves.
const K: f32 = 3600.0;

/// Multiplies the values of tensors that begin with `name`, weight and bias each by a factor.
fn scale(tensors: &mut Tensors, name: &str, weight: f32, bias: f32) {
    for tensor in tensors.0.iter_mut().filter(|t| t.name.starts_with(&format!("{name}."))) {
        let k = if tensor.name.ends_with(".bias") { bias } else { weight };
        let values = tensor.bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32() * k);
        assert_eq!(tensor.dtype, "F16");
        tensor.bytes = values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect();
    }
}

/// A model like SDXL whose decoder, or encoder, has a residual stream that is `K` times as large; group norms undo it.
fn loud(half: &str, force_upcast: bool) -> Temp {
    let model = Temp::model("sdxl-like");
    model.set("vae/config.json", &[("force_upcast", Some(json!(force_upcast)))]);
    model.tensors(VAE, |t| match half {
        "decoder" => {
            scale(t, "decoder.up_blocks.2.resnets.0.conv_shortcut", K, K);
            (0..3).for_each(|i| scale(t, &format!("decoder.up_blocks.2.resnets.{i}.conv2"), K, K));
            // A bias of K * K does not fit halves: what is left of it is K.
            scale(t, "decoder.up_blocks.2.upsamplers.0.conv", K, K);
            (0..3).for_each(|i| scale(t, &format!("decoder.up_blocks.3.resnets.{i}.conv2"), K, K));
        }
        _ => {
            scale(t, "encoder.conv_in", K, K);
            (0..2).for_each(|i| scale(t, &format!("encoder.down_blocks.0.resnets.{i}.conv2"), K, K));
            scale(t, "encoder.down_blocks.0.downsamplers.0.conv", K, K);
        }
    });
    model
}

struct Drawn {
    report: Report,
    loading: Vec<Topic>,
}

fn load(
    device: &Device,
    model: &Temp,
    activations: &str,
    budget: Option<u64>,
    encoder: bool,
) -> Result<Pipeline> {
    let budget = budget.map(|bytes| Budget { bytes, firm: true });
    let options =
        LoadOptions { encoder, budget, size: Some([64, 64]), ..LoadOptions::parse("f16", activations)? };
    block_on(Pipeline::load(device, &DiskFolder::new(model.0.clone()), &options, Hooks::NONE))
}

fn generate(pipeline: &Pipeline, request: &Request) -> Result<Report> {
    let told = RefCell::new(vec![]);
    let progress = |_, fraction: f64| told.borrow_mut().push(fraction);
    let watch = Watch { cancel: Cancel::default(), progress: &progress, preview: None, dump: None };
    let report = block_on(pipeline.generate(request, &watch));
    let told = told.into_inner();
    assert!(told.windows(2).all(|two| two[0] <= two[1]), "progress went back: {told:?}");
    report
}

fn request() -> Request {
    Request { steps: Some(1), size: Some([64, 64]), ..Request::new("a cat", 1) }
}

fn draw(
    device: &Device,
    model: &Temp,
    activations: &str,
    budget: Option<u64>,
    request: &Request,
) -> Result<Drawn> {
    let pipeline = load(device, model, activations, budget, request.image.is_some())?;
    let loading = pipeline.warnings().iter().map(|w| w.code).collect();
    let report = generate(&pipeline, request)?;
    // What was learned stays: the same image, and the same warning.
    let again = generate(&pipeline, request)?;
    assert!(again.images[0].rgba == report.images[0].rgba && again.warnings == report.warnings);
    Ok(Drawn { report, loading })
}

/// What a call warned of, beside `allowed`.
fn topics(report: &Report) -> Vec<Topic> {
    report.warnings.iter().map(|w| w.code).collect()
}

fn near(a: &Report, b: &Report) -> f64 {
    psnr(&a.images[0].rgba, &b.images[0].rgba)
}

#[test]
fn a_decoder_that_halves_spoil_is_computed_again_in_f32() {
    let exact = draw(&Device::Cpu, &loud("decoder", false), "f32", None, &request()).unwrap().report;
    assert_eq!(topics(&exact), []);
    for activations in ["f16", "pack16"] {
        let exact = exact.clone();
        on_device(move |gpu| {
            let drawn = draw(gpu, &loud("decoder", false), activations, None, &request()).unwrap().report;
            assert_eq!(topics(&drawn), [Topic::Precision]);
            let message = &drawn.warnings[0].message;
            assert!(message.contains("decoder") && message.contains(activations), "{message}");
            assert!(near(&drawn, &exact) > 45.0, "{activations}: {} dB", near(&drawn, &exact));
        });
    }
}

/// Colours of previews are fitted once, before the image tells that halves do not suffice.
#[test]
fn a_decoder_that_halves_spoil_makes_no_colours_of_previews() {
    let shown = |device: &Device, activations: &str| {
        let pipeline = load(device, &loud("decoder", false), activations, None, false).unwrap();
        let previews = RefCell::new(vec![]);
        let preview = |image: &Image, _, _| previews.borrow_mut().push(image.rgba.clone());
        let watch =
            Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: Some(&preview), dump: None };
        block_on(pipeline.generate(&Request { steps: Some(2), ..request() }, &watch)).unwrap();
        previews.take().remove(0)
    };
    let exact = shown(&Device::Cpu, "f32");
    on_device(move |gpu| {
        let near = psnr(&shown(gpu, "f16"), &exact);
        assert!(near > 45.0, "{near} dB");
    });
}

#[test]
fn an_encoder_that_halves_spoil_is_computed_again_in_f32() {
    let image =
        Picture::new(64, 64, 3, &(0..64 * 64 * 3).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>()).unwrap();
    let request = Request { image: Some(image), strength: Some(1.0), steps: Some(2), ..request() };
    let request = Request { strength: Some(0.5), ..request };
    let exact = draw(&Device::Cpu, &loud("encoder", false), "f32", None, &request).unwrap().report;
    on_device(move |gpu| {
        let drawn = draw(gpu, &loud("encoder", false), "f16", None, &request).unwrap().report;
        assert_eq!(topics(&drawn), [Topic::Precision], "{:?}", drawn.warnings);
        assert!(near(&drawn, &exact) > 40.0, "{} dB", near(&drawn, &exact));
    });
}

/// An IP-Adapter's and a safety checker's, whose first norms make numbers that halves clamp; the norms behind undo it.
#[test]
fn image_encoders_that_halves_spoil_are_computed_again_in_f32() {
    let drawn = |device: &Device, activations: &str| {
        let [seen, safety] =
            ["ip-adapter", "safety_checker"].map(|part| Temp::model(&format!("extras/{part}")));
        for (folder, file, tower) in [
            (&seen, "image_encoder/model.fp16.safetensors", "vision_model"),
            (&safety, "model.fp16.safetensors", "vision_model.vision_model"),
        ] {
            folder.tensors(file, |t| scale(t, &format!("{tower}.pre_layrnorm"), 30000.0, 30000.0));
        }
        let [model, seen, safety] =
            [&golden("sd15-like"), &seen.0, &safety.0].map(|folder| DiskFolder::new(folder.clone()));
        let additions = Additions {
            ip_adapter: Some(FileIn::whole(&seen)),
            safety_checker: Some(&safety),
            ..Additions::default()
        };
        let options = LoadOptions::parse("f16", activations).unwrap();
        let pipeline = Pipeline::load_with(device, &model, &additions, &options, Hooks::NONE);
        let image_prompt = Some((Picture::new(1, 1, 3, &[250, 120, 3]).unwrap(), 1.0));
        let request = Request { image_prompt, safety: Safety::Flag, ..request() };
        generate(&block_on(pipeline).unwrap(), &request).unwrap()
    };
    let exact = drawn(&Device::Cpu, "f32");
    assert_eq!(topics(&exact), []);
    on_device(move |gpu| {
        let drawn = drawn(gpu, "f16");
        let [first, second] = &drawn.warnings[..] else { panic!("{:?}", drawn.warnings) };
        assert!(first.message.contains("image encoder computes in f32"), "{first}");
        assert!(second.message.contains("safety checker computes in f32"), "{second}");
        assert!(near(&drawn, &exact) > 40.0, "{} dB", near(&drawn, &exact));
        assert_eq!(drawn.unsafe_images, exact.unsafe_images);
    });
}

#[test]
fn force_upcast_is_obeyed() {
    let exact = draw(&Device::Cpu, &loud("decoder", true), "f32", None, &request()).unwrap().report;
    on_device(move |gpu| {
        let Drawn { report, loading } = draw(gpu, &loud("decoder", true), "f16", None, &request()).unwrap();
        // As diffusers does it: nothing to tell.
        assert_eq!((topics(&report), loading), (vec![], vec![]));
        assert!(near(&report, &exact) > 45.0, "{} dB", near(&report, &exact));
        // Only the pipelines of SDXL look at it.
        let plain = loud("decoder", true);
        plain.set("model_index.json", &[("_class_name", Some(json!("StableDiffusionPipeline")))]);
        let drawn = draw(gpu, &plain, "f16", None, &request()).map(|drawn| topics(&drawn.report));
        assert_eq!(drawn.unwrap(), [Topic::Precision]);
    });
}

#[test]
fn f32_without_room_is_an_error_of_its_own() {
    on_device(|gpu| {
        let model = loud("decoder", false);
        // What halves take, and a little.
        let index =
            ModelIndex::from_json(&std::fs::read(model.path("model_index.json")).unwrap(), "").unwrap();
        let survey = block_on(Survey::read(&DiskFolder::new(model.0.clone()), &index)).unwrap();
        let needs = |savings| {
            let target = Target::new(Elem::F16);
            survey.needs(Format::F16, Format::F16, false, savings, (true, &target), Some([64, 64])).unwrap()
        };
        let least = needs(Savings::ALL);
        let e = draw(gpu, &model, "f16", Some(least.weights + 1000), &request()).err().unwrap();
        assert_eq!(e.code, Code::LimitTooLow, "{e}");
        let fits =
            draw(gpu, &model, "f16", Some(needs(Savings::default()).total() + 100_000_000), &request());
        assert_eq!(topics(&fits.unwrap().report), [Topic::Precision]);
        let e = draw(gpu, &model, "f16", Some(least.total()), &request()).err().unwrap();
        assert!(e.code == Code::NotFinite && e.message.contains("memory allows"), "{e}");
        // Nor has it in a later call, for a larger image, what the first one had.
        let pipeline =
            load(gpu, &model, "f16", Some(needs(Savings::default()).weights + 3_000_000), false).unwrap();
        assert_eq!(topics(&generate(&pipeline, &request()).unwrap()), [Topic::Precision]);
        let larger = Request { size: Some([256, 256]), ..request() };
        let e = generate(&pipeline, &larger).map(|report| topics(&report)).unwrap_err();
        assert!(e.code == Code::NotFinite && e.message.contains("memory allows"), "{e}");
    });
}

/// As of a decoder: what is learned to need f32 asks for its memory.
#[test]
fn f32_of_any_network_without_room_is_an_error() {
    on_device(|gpu| {
        let image = Some(Picture::new(64, 64, 3, &[128; 64 * 64 * 3]).unwrap());
        let prompts = Temp::model("sdxl-like");
        prompts.tensors("text_encoder/model.fp16.safetensors", |tensors| {
            let embeddings = ["token", "position"].map(|of| format!("text_model.embeddings.{of}_embedding"));
            embeddings.iter().for_each(|name| scale(tensors, name, 36000.0, 1.0));
        });
        let encoder = loud("encoder", false);
        for (part, model, image) in
            [("text encoder", prompts, None), ("autoencoder's encoder", encoder, image)]
        {
            let index =
                ModelIndex::from_json(&std::fs::read(model.path("model_index.json")).unwrap(), "").unwrap();
            let survey = block_on(Survey::read(&DiskFolder::new(model.0.clone()), &index)).unwrap();
            let (encodes, target) = (image.is_some(), Target::new(Elem::F16));
            let needs = survey.needs(
                Format::F16,
                Format::F16,
                encodes,
                Savings::default(),
                (true, &target),
                Some([64, 64]),
            );
            let halves = needs.unwrap().total();
            let request = Request { image, steps: Some(2), guidance: Some(1.0), ..request() };
            let report = draw(gpu, &model, "f16", Some(2 * halves), &request).unwrap().report;
            let told = format!("the {part} computes in f32");
            assert!(report.warnings.iter().any(|w| w.message.contains(&told)), "{:?}", report.warnings);
            let e = draw(gpu, &model, "f16", Some(halves), &request).err().expect(part);
            assert!(e.code == Code::NotFinite && e.message.contains("memory allows"), "{e}");
            assert!(e.message.contains(&format!("the {part} needs f32")), "{e}");
        }
    });
}

fn sdxl(force_upcast: bool) -> Survey {
    let golden = golden("sdxl-like");
    let mut folder = MemoryFolder::new();
    for name in ["text_encoder", "text_encoder_2", "unet", "vae"] {
        let path = format!("{name}/config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(golden.join(&path)).unwrap()).unwrap();
        if name == "vae" {
            config["force_upcast"] = json!(force_upcast);
        }
        folder.insert(path, config.to_string().into_bytes());
    }
    let index = ModelIndex::from_json(&std::fs::read(golden.join("model_index.json")).unwrap(), "").unwrap();
    block_on(Survey::read(&folder, &index)).unwrap()
}

#[test]
fn the_needs_know_of_f32_and_give_it_up_last() {
    let target = Target::new(Elem::F16);
    let size = Some([512, 512]);
    let needs = |survey: &Survey, savings| {
        survey.needs(Format::F16, Format::F16, false, savings, (true, &target), size).unwrap()
    };
    let [plain, upcast] = [false, true].map(sdxl);
    let [halves, f32] = [&plain, &upcast].map(|survey| needs(survey, Savings::default()).activations);
    assert!(f32 > halves + halves / 2, "{f32} {halves}");
    let given_up = Savings { halves: true, ..Savings::default() };
    assert_eq!(needs(&upcast, given_up).activations, halves);
    // Tiles come before halves.
    let fit = |bytes| {
        let budget = Some(Budget { bytes, firm: true });
        let options = LoadOptions { budget, size, ..LoadOptions::parse("f16", "f16").unwrap() };
        upcast.fit(&options, true, &target).map(|needs| needs.unwrap().savings)
    };
    let tiles = needs(&upcast, Savings::ALL).total();
    assert_eq!(fit(tiles).unwrap(), Savings::ALL);
    assert_eq!(fit(tiles - 1).unwrap(), Savings { halves: true, ..Savings::ALL });
    assert_eq!(fit(needs(&plain, Savings::ALL).total() - 1).unwrap_err().code, Code::LimitTooLow);
}

/// The error of a model of which one value is not a number, on every device.
fn poisoned(model: &'static str, file: &'static str, tensor: &'static str) -> Vec<Error> {
    let make = move || {
        let folder = Temp::model(model);
        folder.tensors(file, |tensors| {
            let tensor = tensors.0.iter_mut().find(|t| t.name == tensor).expect("the tensor");
            match tensor.dtype.as_str() {
                "F32" => tensor.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
                "F16" => tensor.bytes[..2].copy_from_slice(&f16::NAN.to_le_bytes()),
                _ => tensor.bytes[..2].copy_from_slice(&half::bf16::NAN.to_le_bytes()),
            }
        });
        folder
    };
    let mut errors = vec![draw(&Device::Cpu, &make(), "f32", None, &request()).err()];
    for activations in ["f32", "f16", "pack16"] {
        errors.push(on_device(move |gpu| draw(gpu, &make(), activations, None, &request()).err()));
    }
    errors.into_iter().map(|e| e.expect("an image came out")).collect()
}

#[test]
fn what_is_not_a_number_is_no_image_on_any_device() {
    let unet = "unet/diffusion_pytorch_model.fp16.safetensors";
    for (model, file, tensor, network) in [
        ("sd15-like", unet, "conv_out.bias", "U-Net"),
        // Attention's own softmax and a device's maximum may hide it.
        ("sd15-like", unet, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight", "U-Net"),
        // No group norm sees what a rectifier may hide.
        ("sdxs-like", VAE, "decoder.layers.0.weight", "decoder"),
        ("sd15-like", VAE, "decoder.mid_block.resnets.0.conv1.weight", "decoder"),
        (
            "sd15-like",
            "text_encoder/model.fp16.safetensors",
            "text_model.encoder.layers.0.mlp.fc1.weight",
            "text encoder",
        ),
        // It is no part of the network that runs on the device.
        ("sdxl-like", "text_encoder_2/model.fp16.safetensors", "text_projection.weight", "text encoder"),
    ] {
        for e in poisoned(model, file, tensor) {
            assert!(e.code == Code::NotFinite && e.message.contains(network), "{model} {tensor}: {e}");
        }
    }
}

#[test]
fn a_weight_that_becomes_an_infinity_is_told_and_is_no_image() {
    let model = Temp::model("sd15-like");
    model.tensors("unet/diffusion_pytorch_model.fp16.safetensors", |tensors| {
        let tensor = tensors.0.iter_mut().find(|t| t.name == "conv_out.weight").unwrap();
        let halves = tensor.bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
        let mut values: Vec<f32> = halves.collect();
        values[0] = -70000.0;
        (tensor.dtype, tensor.bytes) =
            ("F32".to_owned(), values.into_iter().flat_map(f32::to_le_bytes).collect());
    });
    let load = |weights: &str| {
        let options = LoadOptions::parse(weights, "auto").unwrap();
        block_on(Pipeline::load(&Device::Cpu, &DiskFolder::new(model.0.clone()), &options, Hooks::NONE))
    };
    let pipeline = load("f16").unwrap();
    let warning = &pipeline.warnings()[0];
    assert!(warning.code == Topic::NotFinite && warning.message.contains("conv_out.weight"), "{warning}");
    assert_eq!(generate(&pipeline, &request()).unwrap_err().code, Code::NotFinite);
    for weights in ["f32", "q8", "q4"] {
        generate(&load(weights).unwrap(), &request()).unwrap();
    }
}
