//! Noise to latents, step by step.

use super::read_json;
use crate::device::{Device, Session, Weights};
use crate::error::Result;
use crate::host::Cancel;
use crate::model::config::{TextTime, UnetConfig};
use crate::model::unet::{Extras, Unet};
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
        let checkpoint = Checkpoint { folder, component, stem: "diffusion_pytorch_model" };
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
        Ok(Denoiser { job, session, unet: self.unet.clone(), config: self.config.clone() })
    }

    /// Writes a whole input of the U-Net, `[N, h, w, in_channels]`, unscaled.
    pub fn write_sample(&self, device: &Device, session: &Session, sample: &[f32]) {
        let (all, own) = (self.config.in_channels, self.config.out_channels);
        let part = |range: std::ops::Range<usize>| -> Vec<f32> {
            sample.chunks_exact(all).flat_map(|row| &row[range.clone()]).copied().collect()
        };
        session.write(device, "latents", &part(0..own));
        session.write(device, "input_coefficients", &[1.0, 0.0, 0.0, 0.0]);
        if all > own {
            session.write(device, "channels", &part(own..all));
            session.write(device, "channel_coefficients", &[1.0, 0.0, 0.0, 0.0]);
        }
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
    config: UnetConfig,
}

/// What a U-Net is told of a prompt.
pub struct Conditions {
    /// `[rows, tokens, width]`: under guidance the negative prompts first.
    pub text: Vec<f32>,
    /// SDXL: the pooled text, `[rows, width]`, and the sizes.
    pub pooled: Vec<f32>,
    pub sizes: [f32; TextTime::SIZES],
    /// For a U-Net that takes the guidance scale as an input.
    pub guidance: f32,
}

impl Denoiser {
    /// What a U-Net is told once a prompt.
    pub async fn set_conditions(&self, device: &Device, c: &Conditions, cancel: &Cancel) -> Result<()> {
        let rows = self.job.rows() as usize;
        self.session.write(device, "text", &c.text);
        if let Some(features) = self.unet.guidance_features(c.guidance) {
            self.session.write(device, "guidance_features", &features.repeat(rows));
        }
        if self.config.text_time.is_some() {
            let each = c.pooled.chunks_exact(c.pooled.len() / rows);
            let added: Vec<f32> = each.flat_map(|p| self.unet.added_features(p, c.sizes)).collect();
            self.session.write(device, "added_features", &added);
        }
        self.session.run(device, "context", cancel, &|_| {}).await
    }

    /// Sets what an inpainting U-Net sees beside the latents, `[N, h, w, in_channels - out_channels]`.
    pub fn set_channels(&self, device: &Device, channels: &[f32]) {
        self.session.write(device, "channels", channels);
        self.session.write(device, "channel_coefficients", &[1.0, 0.0, 0.0, 0.0]);
    }

    /// Sets the first sample, `[N, h, w, C]`.
    pub fn start(&self, device: &Device, sample: &[f32]) {
        self.session.write(device, "latents", sample);
        self.session.write(device, "predictions", &vec![0.0; 4 * sample.len()]);
        self.session.write(device, "noise", &vec![0.0; sample.len()]);
    }

    /// Replaces the current sample.
    pub fn set_latents(&self, device: &Device, sample: &[f32]) {
        self.session.write(device, "latents", sample);
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
pub fn step_coefficients(step: &Step, guidance: f32) -> [f32; 12] {
    let [before_1, before_2, before_3] = step.prev_before;
    [
        step.p_sample,
        step.p_model,
        step.clip.unwrap_or(f32::MAX),
        guidance,
        step.prev_p,
        step.prev_sample,
        step.prev_model,
        step.prev_noise,
        before_1,
        before_2,
        before_3,
        if step.remembers { 1.0 } else { 0.0 },
    ]
}

/// Sections: "context" (once a prompt: inputs "text", "added_features"), "time" (once a timestep: inputs
/// "time_features", "guidance_features"), "unet" (inputs "latents", "input_coefficients", "channels",
/// "channel_coefficients"; output "model_output"), "step" (inputs "noise", "step_coefficients"; changes "latents" and
/// "predictions"). Inputs that a U-Net has no use for are not there.
pub fn denoise_plan(unet: &Unet, config: &UnetConfig, target: &Target, job: Job) -> Plan {
    let (rows, [h, w]) = (job.rows(), job.size);
    let mut r = Recorder::new(target);
    let shape = Shape::new(job.images, h, w, config.out_channels as u32);

    r.section("context");
    let text =
        r.input("text", Shape::tokens(rows, job.tokens, config.cross_attention_dim as u32), target.elem);
    let context = unet.record_context(&mut r, text);
    let vector = |c: usize| Shape::new(rows, 1, 1, c as u32);
    let added = config.text_time.map(|t| {
        let features = r.input("added_features", vector(t.inputs), target.elem);
        unet.record_added(&mut r, features)
    });

    r.section("time");
    let features = r.input("time_features", unet.time_shape(rows), target.elem);
    let guidance =
        config.time_cond_proj_dim.map(|dim| r.input("guidance_features", vector(dim), target.elem));
    let time = unet.record_time(&mut r, features, guidance, added);

    r.section("unet");
    let sample = r.input("latents", shape, Elem::F32);
    let coefficients = r.input("input_coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
    let x = ops::scale(&mut r, sample, coefficients, rows, Activation::None);
    let channels = config.in_channels.checked_sub(config.out_channels).filter(|&c| c > 0).map(|channels| {
        let channels = r.input("channels", Shape { c: channels as u32, ..shape }, Elem::F32);
        let coefficients = r.input("channel_coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
        ops::scale(&mut r, channels, coefficients, rows, Activation::None)
    });
    let output = unet.record(&mut r, x, time, &context, &Extras { channels, ..Default::default() });
    r.output("model_output", output);

    r.section("step");
    let coefficients = r.input("step_coefficients", Shape::new(1, 1, 3, 4), Elem::F32);
    let noise = r.input("noise", shape, Elem::F32);
    let predictions = r.input("predictions", Shape { n: 4 * shape.n, ..shape }, Elem::F32);
    ops::step(&mut r, coefficients, output, noise, sample, predictions);
    r.finish()
}
