//! Noise to latents, step by step.

use super::read_json;
use crate::device::{Device, Session, Weights};
use crate::error::Result;
use crate::host::Cancel;
use crate::model::config::UnetConfig;
use crate::model::unet::Unet;
use crate::ops::{self, Activation};
use crate::plan::{Plan, Recorder, Target};
use crate::quant::Format;
use crate::schedule::Step;
use crate::shape::{Elem, Shape};
use crate::weights::{Checkpoint, Declarations, Folder, Hooks, join};

/// What a denoiser is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub images: u32,
    /// Classifier-free guidance: the U-Net sees every picture twice.
    pub guided: bool,
    /// Of the latents: height, width.
    pub size: [u32; 2],
    /// Of a prompt's context.
    pub tokens: u32,
}

impl Job {
    /// Pictures that the U-Net sees.
    fn rows(self) -> u32 {
        if self.guided { 2 * self.images } else { self.images }
    }
}

pub struct UnetPart {
    pub config: UnetConfig,
    pub unet: Unet,
    weights: Weights,
}

impl UnetPart {
    pub async fn load<F: Folder>(
        device: &Device,
        folder: &F,
        component: &str,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<UnetPart> {
        let path = join(component, "config.json");
        let config = UnetConfig::from_json(&read_json(folder, &path).await?, &path)?;
        let mut d = Declarations::new(format);
        let unet = Unet::declare(&mut d, &config);
        let checkpoint = Checkpoint::new(folder, component, "diffusion_pytorch_model");
        let weights = Weights::load(device, &d, &[checkpoint], hooks).await?;
        Ok(UnetPart { config, unet, weights })
    }

    /// The plan of a job, which the device can hold.
    pub fn plan(&self, device: &Device, target: &Target, job: Job) -> Result<Plan> {
        let plan = denoise_plan(&self.unet, &self.config, target, job);
        plan.check("U-Net", &device.limits())?;
        Ok(plan)
    }

    /// The denoiser of a job, from its plan.
    pub async fn denoiser(&self, device: &Device, plan: Plan, job: Job) -> Result<Denoiser> {
        let session = Session::new(device, plan, &self.weights).await?;
        Ok(Denoiser { job, session, unet: self.unet.clone() })
    }

    /// The plan of a job on the device.
    pub async fn session(&self, device: &Device, target: &Target, job: Job) -> Result<Session> {
        Session::new(device, self.plan(device, target, job)?, &self.weights).await
    }
}

/// A U-Net and a scheduler's step, ready for one job.
pub struct Denoiser {
    pub job: Job,
    session: Session,
    unet: Unet,
}

impl Denoiser {
    /// `text` is `[rows, tokens, width]`: under guidance the negative prompts first.
    pub async fn set_text(&self, device: &Device, text: &[f32], cancel: &Cancel) -> Result<()> {
        self.session.write(device, "text", text);
        self.session.run(device, "context", cancel, &|_| {}).await
    }

    /// Sets the first sample, `[N, h, w, C]`.
    pub fn start(&self, device: &Device, sample: &[f32]) {
        self.session.write(device, "latents", sample);
        self.session.write(device, "clean", &vec![0.0; sample.len()]);
        self.session.write(device, "noise", &vec![0.0; sample.len()]);
    }

    /// Runs the U-Net on the current sample.
    pub async fn predict(
        &self,
        device: &Device,
        step: &Step,
        cancel: &Cancel,
        progress: &dyn Fn(f64),
    ) -> Result<()> {
        let features = self.unet.time_features(step.timestep).repeat(self.job.rows() as usize);
        self.session.write(device, "time_features", &features);
        self.session.write(device, "input_coefficients", &[step.input_scale, 0.0, 0.0, 0.0]);
        self.session.run(device, "time", cancel, &|_| {}).await?;
        self.session.run(device, "unet", cancel, progress).await
    }

    /// From the model output to the next sample.
    pub async fn advance(
        &self,
        device: &Device,
        step: &Step,
        guidance: f32,
        noise: Option<&[f32]>,
        cancel: &Cancel,
    ) -> Result<()> {
        if let Some(noise) = noise {
            self.session.write(device, "noise", noise);
        }
        self.session.write(device, "step_coefficients", &step_coefficients(step, guidance));
        self.session.run(device, "step", cancel, &|_| {}).await
    }

    /// The current sample, `[N, h, w, C]`.
    pub async fn latents(&self, device: &Device) -> Result<Vec<f32>> {
        self.session.read(device, "latents").await
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
pub fn denoise_plan(unet: &Unet, config: &UnetConfig, target: &Target, job: Job) -> Plan {
    let (rows, [h, w]) = (job.rows(), job.size);
    let mut r = Recorder::new(target);
    let latents = Shape::new(job.images, h, w, config.in_channels as u32);

    r.section("context");
    let text =
        r.input("text", Shape::tokens(rows, job.tokens, config.cross_attention_dim as u32), target.elem);
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
