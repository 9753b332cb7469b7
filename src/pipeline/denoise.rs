//! Noise to latents, step by step.

use std::cell::{RefCell, RefMut};

use super::read_json;
use crate::error::Result;
use crate::gpu::{Cancel, Gpu, GpuWeights, Session};
use crate::model::config::UnetConfig;
use crate::model::unet::Unet;
use crate::ops::{self, Activation};
use crate::plan::{Plan, Recorder, Target};
use crate::quant::Format;
use crate::schedule::Step;
use crate::shape::{Elem, Shape};
use crate::weights::{Declarations, Folder, Hooks, join};

/// Tokens of a prompt's context.
const TOKENS: u32 = 77;

pub struct UnetPart {
    pub config: UnetConfig,
    pub unet: Unet,
    weights: GpuWeights,
}

impl UnetPart {
    pub async fn load<F: Folder>(
        gpu: &Gpu,
        folder: &F,
        component: &str,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<UnetPart> {
        let path = join(component, "config.json");
        let config = UnetConfig::from_json(&read_json(folder, &path).await?, &path)?;
        let mut d = Declarations::new(format);
        let unet = Unet::declare(&mut d, &config);
        let weights = GpuWeights::load(gpu, &d, folder, component, "diffusion_pytorch_model", hooks).await?;
        Ok(UnetPart { config, unet, weights })
    }

    /// The denoiser of this batch and size; `kept` holds the last one.
    pub async fn denoiser<'a>(
        &self,
        gpu: &Gpu,
        target: &Target,
        kept: &'a RefCell<Option<Denoiser>>,
        images: usize,
        guided: bool,
        size: [usize; 2],
    ) -> Result<RefMut<'a, Denoiser>> {
        let key = (images, guided, size);
        let mut slot = kept.borrow_mut();
        if slot.as_ref().is_none_or(|d| d.key != key) {
            // The old buffers go before the new ones come.
            *slot = None;
            let [h, w] = size.map(|s| s as u32);
            let n = images as u32;
            let plan = denoise_plan(&self.unet, &self.config, target, n, guided, [h, w]);
            plan.check("U-Net", &gpu.info.limits)?;
            let session = Session::new(gpu, plan, &self.weights).await?;
            *slot = Some(Denoiser {
                key,
                session,
                unet: self.unet.clone(),
                rows: images * (1 + usize::from(guided)),
            });
        }
        Ok(RefMut::map(slot, |d| d.as_mut().expect("just made")))
    }

    /// A U-Net alone, for comparison with the reference.
    pub async fn session(&self, gpu: &Gpu, target: &Target, images: u32, size: [u32; 2]) -> Result<Session> {
        let plan = denoise_plan(&self.unet, &self.config, target, images, false, size);
        plan.check("U-Net", &gpu.info.limits)?;
        Session::new(gpu, plan, &self.weights).await
    }
}

/// A U-Net and a scheduler's step, ready for one batch and size.
pub struct Denoiser {
    key: (usize, bool, [usize; 2]),
    session: Session,
    unet: Unet,
    /// Pictures that the U-Net sees: twice as many under guidance.
    rows: usize,
}

impl Denoiser {
    /// `text` is `[rows, tokens, width]`: under guidance the negative prompts first.
    pub async fn set_text(&self, gpu: &Gpu, text: &[f32], cancel: &Cancel) -> Result<()> {
        self.session.write(gpu, "text", text);
        self.session.run(gpu, "context", cancel, &|_| {}).await
    }

    /// Sets the first sample, `[N, h, w, C]`.
    pub fn start(&self, gpu: &Gpu, sample: &[f32]) {
        self.session.write(gpu, "latents", sample);
        self.session.write(gpu, "clean", &vec![0.0; sample.len()]);
        self.session.write(gpu, "noise", &vec![0.0; sample.len()]);
    }

    /// Runs the U-Net on the current sample.
    pub async fn predict(
        &self,
        gpu: &Gpu,
        step: &Step,
        cancel: &Cancel,
        progress: &dyn Fn(f64),
    ) -> Result<()> {
        let features = self.unet.time_features(step.timestep).repeat(self.rows);
        self.session.write(gpu, "time_features", &features);
        self.session.write(gpu, "input_coefficients", &[step.input_scale, 0.0, 0.0, 0.0]);
        self.session.run(gpu, "time", cancel, &|_| {}).await?;
        self.session.run(gpu, "unet", cancel, progress).await
    }

    /// From the model output to the next sample.
    pub async fn advance(
        &self,
        gpu: &Gpu,
        step: &Step,
        guidance: f32,
        noise: Option<&[f32]>,
        cancel: &Cancel,
    ) -> Result<()> {
        if let Some(noise) = noise {
            self.session.write(gpu, "noise", noise);
        }
        self.session.write(gpu, "step_coefficients", &step_coefficients(step, guidance));
        self.session.run(gpu, "step", cancel, &|_| {}).await
    }

    /// The current sample, `[N, h, w, C]`.
    pub async fn latents(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        self.session.read(gpu, "latents").await
    }
}

/// A step's numbers in the order of the kernel.
pub fn step_coefficients(step: &Step, guidance: f32) -> [f32; 8] {
    [
        step.x0_sample,
        step.x0_model,
        step.clip.unwrap_or(f32::MAX),
        guidance,
        step.prev_x0,
        step.prev_sample,
        step.prev_x0_before,
        step.prev_noise,
    ]
}

/// Sections: "context" (once a prompt: input "text"), "time" (once a timestep: input "time_features"),
/// "unet" (inputs "latents", "input_coefficients"; output "model_output"), "step" (inputs "noise",
/// "step_coefficients"; changes "latents" and "clean").
pub fn denoise_plan(
    unet: &Unet,
    config: &UnetConfig,
    target: &Target,
    images: u32,
    guided: bool,
    [h, w]: [u32; 2],
) -> Plan {
    let rows = if guided { 2 * images } else { images };
    let mut r = Recorder::new(target);
    let latents = Shape::new(images, h, w, config.in_channels as u32);

    r.section("context");
    let text = r.input("text", Shape::tokens(rows, TOKENS, config.cross_attention_dim as u32), target.elem);
    let context = unet.record_context(&mut r, text);

    r.section("time");
    let features = r.input("time_features", unet.time_shape(rows), target.elem);
    let time = unet.record_time(&mut r, features);

    r.section("unet");
    let sample = r.input("latents", latents, Elem::F32);
    let coefficients = r.input("input_coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
    let x = ops::scale(&mut r, sample, coefficients, rows, Activation::None);
    let output = unet.record(&mut r, x, time, &context);
    r.output("model_output", output);

    if config.in_channels != config.out_channels {
        // An inpainting U-Net: what it denoises is a part of its input, which is not built yet.
        return r.finish();
    }
    r.section("step");
    let coefficients = r.input("step_coefficients", Shape::new(1, 1, 2, 4), Elem::F32);
    let noise = r.input("noise", latents, Elem::F32);
    let clean = r.input("clean", latents, Elem::F32);
    ops::step(&mut r, coefficients, output, noise, sample, clean);
    r.finish()
}
