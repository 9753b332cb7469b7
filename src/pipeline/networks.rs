//! The U-Net of a model and the networks that work with it, in one plan.

use crate::error::{Error, Result};
use crate::model::config::{ControlNetConfig, T2iAdapterConfig, TextTime, UnetConfig};
use crate::model::controlnet::ControlNet;
use crate::model::ip_adapter::IpAdapter;
use crate::model::t2i_adapter::T2iAdapter;
use crate::model::unet::{Adapter, Control, Extras, Unet};
use crate::plan::ops::{self, Activation};
use crate::plan::{Plan, Recorder, Target, Tensor};
use crate::shape::{Elem, Shape};

/// What a denoiser is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub images: u32,
    /// Classifier-free guidance: the U-Net sees every image twice.
    pub guided: bool,
    /// Of the latents: height, width.
    pub size: [u32; 2],
    /// Of a prompt's context.
    pub tokens: u32,
}

impl Job {
    /// Images that the U-Net sees.
    pub fn rows(self) -> u32 {
        if self.guided { 2 * self.images } else { self.images }
    }
}

#[derive(Clone, Debug)]
pub struct Networks {
    pub config: UnetConfig,
    pub unet: Unet,
    pub controls: Vec<ControlNet>,
    pub adapters: Vec<T2iAdapter>,
    pub ip_adapter: Option<IpAdapter>,
}

impl Networks {
    /// A U-Net alone.
    pub fn of(unet: Unet, config: UnetConfig) -> Networks {
        Networks { config, unet, controls: vec![], adapters: vec![], ip_adapter: None }
    }

    /// Whether the U-Net is an inpainting one, which takes mask and masked image as input channels.
    pub fn is_inpainting(&self) -> bool {
        self.config.in_channels > self.config.out_channels
    }

    /// Whether a ControlNet was made for such a U-Net.
    pub fn check_control(&self, control: &ControlNetConfig) -> Result<()> {
        let (unet, copy) = (&self.config, &control.encoder);
        let blocks = |c: &UnetConfig| {
            let kinds: Vec<&str> = c.down_blocks.iter().map(|kind| kind.names[0]).collect();
            format!("{:?}, {} layers of {}", c.block_out_channels, c.layers_per_block, kinds.join(", "))
        };
        let added = |c: &UnetConfig| {
            let numbers = |t: &TextTime| format!("{}, of them {} of each size", t.inputs, t.size_features);
            c.text_time.as_ref().map_or("none".to_owned(), numbers)
        };
        if ![1, 3].contains(&control.conditioning_channels) {
            return Err(Error::unsupported(format!(
                "conditioning_channels of a ControlNet: supported are 1 and 3, found {}",
                control.conditioning_channels
            )));
        }
        for (key, wanted, found) in [
            ("block_out_channels and the blocks", blocks(unet), blocks(copy)),
            (
                "cross_attention_dim",
                unet.cross_attention_dim.to_string(),
                copy.cross_attention_dim.to_string(),
            ),
            ("in_channels", unet.out_channels.to_string(), copy.in_channels.to_string()),
            ("numbers of pooled text and sizes", added(unet), added(copy)),
        ] {
            if wanted != found {
                return Err(Error::model(format!(
                    "the ControlNet is not for this U-Net: {key} wanted {wanted}, found {found}"
                )));
            }
        }
        Ok(())
    }

    /// Whether a T2I-Adapter was made for such a U-Net.
    pub fn check_adapter(&self, adapter: &T2iAdapterConfig) -> Result<()> {
        let (wanted, found) = (&self.config.block_out_channels, &adapter.channels);
        if found.get(..wanted.len()) != Some(&wanted[..]) {
            return Err(Error::model(format!(
                "the T2I-Adapter is not for this U-Net: channels wanted {wanted:?}, found {found:?}"
            )));
        }
        Ok(())
    }

    /// Factors of what is added: every ControlNet's residuals, a T2I-Adapter's features, an image prompt.
    pub fn slots(&self) -> usize {
        let controls: usize = self.controls.iter().map(ControlNet::residuals).sum();
        controls + self.adapters.len() + usize::from(self.ip_adapter.is_some())
    }

    /// The slots of the `i`-th ControlNet begin here.
    pub fn control_slot(&self, i: usize) -> usize {
        self.controls[..i].iter().map(ControlNet::residuals).sum()
    }

    /// The slot of the `i`-th T2I-Adapter; that of the image prompt follows the last one.
    pub fn adapter_slot(&self, i: usize) -> usize {
        self.control_slot(self.controls.len()) + i
    }
}

/// Sections, of which those that a model has no use for are empty, with their inputs:
///
/// - "context", once a prompt: "text", and "added_features" (SDXL)
/// - "pictures", once a request: "control_image.i", "adapter_image.i", "image_prompt", "image_latents" (a resampler's)
/// - "time", once a timestep: "time_features", "guidance_features" (LCM), "latents", "input_coefficients"
/// - "control", in steps with ControlNets
/// - "unet": "channels" and "channel_coefficients" (inpainting), "scales"; output "model_output"
/// - "step": "noise", "step_coefficients"; changes "latents" and "predictions"
pub fn denoise_plan(networks: &Networks, target: &Target, job: Job) -> Plan {
    let Networks { unet, config, .. } = networks;
    let (rows, [h, w]) = (job.rows(), job.size);
    let mut r = Recorder::new(target);
    let shape = Shape::new(job.images, h, w, config.out_channels as u32);
    let vector = |c: usize| Shape::new(rows, 1, 1, c as u32);

    r.section("context");
    let text = Shape::tokens(rows, job.tokens, config.cross_attention_dim as u32);
    let text = r.input("text", text, target.elem);
    let context = unet.record_context(&mut r, text);
    let control_contexts: Vec<_> = networks.controls.iter().map(|c| c.record_context(&mut r, text)).collect();
    let added_features = config.text_time.map(|t| r.input("added_features", vector(t.inputs), target.elem));
    let added = added_features.map(|features| unet.time_embedding().record_added(&mut r, features));

    let mut extras = Extras::default();
    let scales = (networks.slots() > 0)
        .then(|| r.input("scales", Shape::new(rows, 1, networks.slots() as u32, 4), Elem::F32));
    r.section("pictures");
    let control_images = record_pictures(&mut r, networks, &mut extras, scales, job);

    r.section("time");
    let features = r.input("time_features", unet.time_embedding().shape(rows), target.elem);
    let guidance =
        config.time_cond_proj_dim.map(|dim| r.input("guidance_features", vector(dim), target.elem));
    let time = unet.record_time(&mut r, features, guidance, added);
    let control_times: Vec<_> =
        networks.controls.iter().map(|c| c.record_time(&mut r, features, added_features)).collect();
    let sample = r.input("latents", shape, Elem::F32);
    let coefficients = r.input("input_coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
    let x = ops::scale(&mut r, sample, coefficients, rows, Activation::None);

    r.section("control");
    for (i, control) in networks.controls.iter().enumerate() {
        let residuals = control.record(&mut r, x, control_images[i], control_times[i], &control_contexts[i]);
        let slot = networks.control_slot(i) as u32;
        let scales = scales.expect("slots for the residuals");
        extras.controls.push(Control { residuals, scales, slot });
    }

    r.section("unet");
    if networks.is_inpainting() {
        let channels = (config.in_channels - config.out_channels) as u32;
        let channels = r.input("channels", shape.with_c(channels), Elem::F32);
        let coefficients = r.input("channel_coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
        extras.channels = Some(ops::scale(&mut r, channels, coefficients, rows, Activation::None));
    }
    let output = unet.record(&mut r, x, time, &context, &extras);
    r.output("model_output", output);

    r.section("step");
    let coefficients = r.input("step_coefficients", Shape::new(1, 1, 3, 4), Elem::F32);
    let noise = r.input("noise", shape, Elem::F32);
    let predictions = r.input("predictions", Shape { n: 4 * shape.n, ..shape }, Elem::F32);
    ops::step(&mut r, coefficients, output, noise, sample, predictions);
    r.finish()
}

/// Everything that depends on images alone; returns the ControlNets' part.
fn record_pictures(
    r: &mut Recorder,
    networks: &Networks,
    extras: &mut Extras,
    scales: Option<Tensor>,
    job: Job,
) -> Vec<Tensor> {
    let slots = || scales.expect("slots for what is added");
    let elem = r.target.elem;
    let mut images = vec![];
    for (i, control) in networks.controls.iter().enumerate() {
        let image = r.input(&format!("control_image.{i}"), control.image_shape(job.rows(), job.size), elem);
        images.push(control.record_image(r, image));
    }
    for (i, adapter) in networks.adapters.iter().enumerate() {
        let image = r.input(&format!("adapter_image.{i}"), adapter.image_shape(job.size), elem);
        let features = adapter.record(r, image);
        let slot = networks.adapter_slot(i) as u32;
        extras.adapters.push(Adapter { features, scales: slots(), slot });
    }
    if let Some(ip_adapter) = &networks.ip_adapter {
        let projection = &ip_adapter.image_proj;
        let seen = r.input("image_prompt", projection.shape(job.rows()), elem);
        let latents = projection
            .latents()
            .map(|(_, shape)| r.input("image_latents", Shape { n: job.rows(), ..shape }, elem));
        let slot = networks.adapter_slot(networks.adapters.len()) as u32;
        extras.image_prompt = Some(ip_adapter.record(r, seen, latents, slots(), slot));
    }
    images
}
