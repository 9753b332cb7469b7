//! Denoisers: what a model makes of noisy latents, a timestep and encoded prompts, a scheduler makes the next latents of.
//! A file each, and a row in [`KINDS`].

use std::fmt::Debug;
use std::rc::Rc;

use serde_json::Value;

use super::config::{Fields, Reader, TextTime, UnetConfig};
use super::unet::{self, Networks};
use super::{class_dit, flux, flux2, pixart, sana, sd3, z_image};
use crate::plan::{Plan, Recorder, Target, Tensor, ops};
use crate::shape::{Elem, Shape};
use crate::weights::{Declarations, Handle, Table};

/// A denoiser whose weights are declared.
pub trait Denoiser: Debug {
    fn sizes(&self) -> DenoiserSizes;

    /// Records its sections, in the order in which they run:
    ///
    /// - "context", once a prompt, and "pictures", once a request
    /// - "time" and "control", once a timestep, and "unet", the rest of it; "time" has the input "latents",
    ///   `[images, h, w, out_channels]` in f32
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded;

    /// What the section "context" reads.
    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input>;

    /// What the section "time" reads of the timestep, the same for so many rows.
    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input>;

    /// What never changes between runs of a job.
    fn constants(&self, _: Job, _: &Tables) -> Vec<Input> {
        vec![]
    }

    /// The largest height and width of latents that it can draw, where there is one.
    fn largest(&self) -> Option<u32> {
        None
    }

    /// Tables whose rows stand for labels, the last row for none, of a denoiser that is told a label and no text: "text" are a
    /// label's rows in all of them.
    fn labels(&self) -> &[Handle] {
        &[]
    }

    /// Whether it is shown pictures to edit.
    fn edits(&self) -> bool {
        false
    }

    /// The U-Net, which ControlNets, T2I-Adapters and IP-Adapters are for.
    fn unet(&self) -> Option<&Networks> {
        None
    }

    fn unet_mut(&mut self) -> Option<&mut Networks> {
        None
    }
}

/// The name of an input and its values.
pub type Input = (&'static str, Vec<f32>);

/// The tables of a network that stay on the CPU.
pub type Tables<'a> = dyn Fn(Handle) -> Rc<Table> + 'a;

/// What is denoised, and what the model says of it, for classifier-free guidance of every image twice.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    pub latents: Tensor,
    pub output: Tensor,
}

/// What a denoiser is told of a prompt.
pub struct Conditions {
    /// `[rows, tokens, width]`: under guidance the negative prompts first.
    pub text: Vec<f32>,
    /// SDXL: the pooled text, `[rows, width]`, and the sizes.
    pub pooled: Vec<f32>,
    pub sizes: [f32; TextTime::SIZES],
    /// For a denoiser that takes the guidance scale as an input.
    pub guidance: f32,
    /// `[rows, tokens]`: 1 for a token that counts, 0 for one that only fills up its prompt. Empty where all count.
    pub mask: Vec<f32>,
}

/// The inputs "latents", `[images, h, w, channels]` in f32, and "input_coefficients"; and the latents as a network sees them:
/// scaled, and under guidance every image twice.
pub(super) fn latents(r: &mut Recorder, job: Job, channels: u32) -> (Tensor, Tensor) {
    let [h, w] = job.size;
    let latents = r.input("latents", Shape::new(job.images, h, w, channels), Elem::F32);
    let coefficients = r.input("input_coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
    (latents, ops::scale(r, latents, coefficients, job.rows(), ops::Activation::None))
}

/// Pictures that a denoiser edits at most.
pub const REFERENCES: usize = 4;

/// What a denoiser is recorded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    pub images: u32,
    /// Classifier-free guidance: the denoiser sees every image twice.
    pub guided: bool,
    /// Of the latents: height, width.
    pub size: [u32; 2],
    /// Of a prompt's context.
    pub tokens: u32,
    /// Height and width of the latents of each picture to edit; zeros where there are fewer.
    pub references: [[u32; 2]; REFERENCES],
}

impl Job {
    /// Images that the denoiser sees.
    pub fn rows(self) -> u32 {
        if self.guided { 2 * self.images } else { self.images }
    }
}

/// Sizes of a denoiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenoiserSizes {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Side of the latents that it was trained for.
    pub sample_size: Option<usize>,
    /// Latents of a token along a side; 1 where every latent is one.
    pub patch: usize,
    /// Pixels of a latent along a side, in the models that have such a denoiser.
    pub pixels: usize,
    /// Width of the text's states.
    pub cross_attention_dim: usize,
    /// Width of the pooled text, where it is told that.
    pub pooled: Option<usize>,
    /// Whether the guidance scale is an input, and no second prediction is made.
    pub embeds_guidance: bool,
}

impl DenoiserSizes {
    /// Whether it is an inpainting one, which takes mask and masked image as input channels.
    pub fn is_inpainting(&self) -> bool {
        self.in_channels > self.out_channels
    }
}

/// The configuration of a denoiser.
pub trait DenoiserConfig: Debug {
    fn sizes(&self) -> DenoiserSizes;

    /// The classes that have such a configuration.
    fn classes(&self) -> &'static [&'static str];

    /// The folder that it usually has in a model.
    fn folder(&self) -> &'static str;

    fn declare(&self, d: &mut Declarations) -> Box<dyn Denoiser>;

    /// The configuration of a U-Net.
    fn unet(&self) -> Option<&UnetConfig> {
        None
    }
}

/// A kind of denoiser.
pub struct Kind {
    /// Its classes, as diffusers' `config.json` has them in `_class_name`.
    pub classes: &'static [&'static str],
    pub config: Reader<dyn DenoiserConfig>,
}

pub static KINDS: [&Kind; 9] = [
    &unet::KIND,
    &sd3::KIND,
    &flux::KIND,
    &flux2::KIND,
    &sana::KIND,
    &z_image::KIND,
    &pixart::KIND,
    &class_dit::KIND,
    &OLDER,
];

/// What once was one class.
const OLDER: Kind = Kind {
    classes: &["Transformer2DModel"],
    config: |bytes, file| match Fields::parse(bytes, file)?.get("norm_type").and_then(Value::as_str) {
        Some("ada_norm_zero") => (class_dit::KIND.config)(bytes, file),
        _ => (pixart::KIND.config)(bytes, file),
    },
};

/// The sections of the denoiser, with the output "model_output", and "step", the scheduler's: "noise",
/// "step_coefficients"; it changes "latents" and "predictions".
pub fn denoise_plan(denoiser: &dyn Denoiser, target: &Target, job: Job) -> Plan {
    let mut r = Recorder::new(target);
    let Recorded { latents, output } = denoiser.record(&mut r, job);
    r.output("model_output", output);
    r.section("step");
    let shape = latents.shape;
    let coefficients = r.input("step_coefficients", Shape::new(1, 1, 3, 4), Elem::F32);
    let noise = r.input("noise", shape, Elem::F32);
    let predictions = r.input("predictions", Shape { n: 4 * shape.n, ..shape }, Elem::F32);
    ops::step(&mut r, coefficients, output, noise, latents, predictions);
    r.finish()
}
