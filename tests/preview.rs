//! Images on the way: they resemble the image, and change nothing.

use std::cell::RefCell;

use pollster::block_on;
use tintype::device::Device;
use tintype::error::{Code, Result};
use tintype::host::Cancel;
use tintype::pipeline::{Image, LoadOptions, Pipeline, Report, Request, Watch};
use tintype::weights::{DiskFolder, Hooks};

use crate::fidelity::psnr;
use crate::harness::on_device;
use crate::models::folder::{golden, here};

type Previews = Vec<(Image, usize, usize)>;

fn load(device: &Device, folder: DiskFolder) -> Pipeline {
    let options = LoadOptions::parse("f32", "f32").unwrap();
    block_on(Pipeline::load(device, &folder, &options, Hooks::NONE)).unwrap()
}

fn draw(pipeline: &Pipeline, request: &Request, cancel: Option<usize>) -> (Result<Report>, Previews) {
    let previews = RefCell::new(vec![]);
    let watch_cancel = Cancel::default();
    let preview = |image: &Image, step, steps| {
        previews.borrow_mut().push((image.clone(), step, steps));
        if cancel == Some(step) {
            watch_cancel.cancel();
        }
    };
    let watch =
        Watch { cancel: watch_cancel.clone(), progress: &|_, _| {}, preview: Some(&preview), dump: None };
    let report = block_on(pipeline.generate(request, &watch));
    (report, previews.into_inner())
}

fn plain(pipeline: &Pipeline, request: &Request) -> Vec<u8> {
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
    block_on(pipeline.generate(request, &watch)).unwrap().images.remove(0).rgba
}

#[test]
fn a_tiny_decoder_shows_the_picture_on_its_way() {
    let pipeline = load(&Device::Cpu, DiskFolder::new(here("models/builtin")));
    let prompts = ["a red circle", "a lighthouse at night", "two trees under the moon", "a boat on the sea"];
    let close = prompts.map(|prompt| {
        let scheduler = Some("ddim".to_owned());
        let request = Request { steps: Some(4), scheduler, ..Request::new(prompt, 3) };
        let wanted = plain(&pipeline, &request);
        let (report, previews) = draw(&pipeline, &request, None);
        assert!(report.unwrap().images[0].rgba == wanted, "previews change the image");
        assert_eq!(previews.iter().map(|p| (p.1, p.2)).collect::<Vec<_>>(), [(1, 4), (2, 4), (3, 4)]);
        assert!(previews.iter().all(|(image, ..)| image.rgba.len() == wanted.len()));
        let psnr = previews.iter().map(|(image, ..)| psnr(&wanted, &image.rgba)).collect::<Vec<_>>();
        assert!(psnr[2] > psnr[0], "{prompt}: {psnr:.1?}");
        psnr[2]
    });
    let mean = close.iter().sum::<f64>() / close.len() as f64;
    // Measured: 33.9 dB, and 4.8 dB between images of different prompts.
    assert!(mean > 30.0, "{close:.1?}");
}

/// A scheduler whose prediction is the image, and one whose prediction is the noise.
#[test]
fn any_other_decoder_shows_it_at_the_size_of_the_latents() {
    on_device(|gpu| {
        // Measured: 10.1 and 17.2 dB, of random weights whose steps go far.
        for (model, scheduler, least) in [("sd-turbo-like", "euler", 7.0), ("sd15-like", "pndm", 14.0)] {
            let pipeline = load(gpu, DiskFolder::new(golden(model)));
            let scheduler = Some(scheduler.to_owned());
            let request =
                Request { steps: Some(3), size: Some([64, 64]), scheduler, ..Request::new("a red fox", 5) };
            let wanted = plain(&pipeline, &request);
            let (report, previews) = draw(&pipeline, &request, None);
            let report = report.unwrap();
            assert!(report.images[0].rgba == wanted, "{model}: previews change the image");
            assert_eq!(previews.len(), report.steps - 1, "{model}");
            for (image, ..) in &previews {
                assert_eq!(image.rgba.len(), image.width * image.height * 4);
                assert!(image.width < 64 && 64 % image.width == 0, "{model}: {}", image.width);
            }
            let factor = 64 / previews[0].0.width;
            let last = psnr(&averaged(&wanted, 64, factor), &previews.last().unwrap().0.rgba);
            assert!(last > least, "{model}: {last:.1} dB");
        }
    });
}

fn averaged(rgba: &[u8], width: usize, factor: usize) -> Vec<u8> {
    let side = width / factor;
    let mut sums = vec![0usize; side * side * 4];
    for (i, value) in rgba.iter().enumerate() {
        let (pixel, c) = (i / 4, i % 4);
        sums[(pixel / width / factor * side + pixel % width / factor) * 4 + c] += usize::from(*value);
    }
    sums.iter().map(|sum| (sum / (factor * factor)) as u8).collect()
}

#[test]
fn a_preview_may_cancel() {
    on_device(|gpu| {
        for model in ["sdxs-like", "sd-turbo-like"] {
            let pipeline = load(gpu, DiskFolder::new(golden(model)));
            let request = Request { steps: Some(3), size: Some([64, 64]), ..Request::new("a red fox", 5) };
            let wanted = plain(&pipeline, &request);
            let (report, previews) = draw(&pipeline, &request, Some(1));
            assert_eq!(report.unwrap_err().code, Code::Cancelled, "{model}");
            assert_eq!(previews.len(), 1, "{model}: work went on after the cancel");
            assert!(plain(&pipeline, &request) == wanted, "{model}: the next image is another");
        }
    });
}
