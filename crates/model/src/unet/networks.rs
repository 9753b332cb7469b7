//! The denoiser that is a U-Net, and the networks that work with it.

use std::rc::Rc;

use super::{Adapter, Control, Extras, Unet};
use crate::config::UnetConfig;
use crate::controlnet::ControlNet;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded,
};
use crate::ip_adapter::IpAdapter;
use crate::plan::ops::{self, Activation};
use crate::plan::{Recorder, Tensor};
use crate::shape::{Elem, Shape};
use crate::t2i_adapter::T2iAdapter;
use crate::weights::Declarations;

pub(crate) const KIND: Kind = Kind {
    classes: &["UNet2DConditionModel"],
    config: |bytes, file| Ok(Rc::new(UnetConfig::from_json(bytes, file)?)),
};

impl DenoiserConfig for UnetConfig {
    fn sizes(&self) -> DenoiserSizes {
        DenoiserSizes {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            sample_size: self.sample_size,
            patch: 1,
            pixels: 8,
            cross_attention_dim: self.cross_attention_dim,
            pooled: self.text_time.map(|text_time| text_time.pooled()),
            embeds_guidance: self.time_cond_proj_dim.is_some(),
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        KIND.classes
    }

    fn folder(&self) -> &'static str {
        "unet"
    }

    fn declare(&self, d: &mut Declarations) -> Box<dyn Denoiser> {
        Box::new(Networks::of(Unet::declare(d, self), self.clone()))
    }

    fn unet(&self) -> Option<&UnetConfig> {
        Some(self)
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

impl Denoiser for Networks {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    /// Sections that a model has no use for are empty. Their inputs:
    ///
    /// - "context": "text", and "added_features" (SDXL)
    /// - "pictures": "control_image.i", "adapter_image.i", "image_prompt", "image_latents" (a resampler's)
    /// - "time": "time_features", "guidance_features" (LCM), "latents", "input_coefficients"
    /// - "control", in steps with ControlNets
    /// - "unet": "channels" and "channel_coefficients" (inpainting), "scales"
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let Networks { unet, config, .. } = self;
        let (rows, [h, w], elem) = (job.rows(), job.size, r.target.elem);
        let shape = Shape::new(job.images, h, w, config.out_channels as u32);
        let vector = |c: usize| Shape::new(rows, 1, 1, c as u32);

        r.section("context");
        let text = Shape::tokens(rows, job.tokens, config.cross_attention_dim as u32);
        let text = r.input("text", text, elem);
        let context = unet.record_context(r, text);
        let control_contexts: Vec<_> = self.controls.iter().map(|c| c.record_context(r, text)).collect();
        let added_features = config.text_time.map(|t| r.input("added_features", vector(t.inputs), elem));
        let added = added_features.map(|features| unet.time_embedding().record_added(r, features));

        let mut extras = Extras::default();
        let scales = (self.slots() > 0)
            .then(|| r.input("scales", Shape::new(rows, 1, self.slots() as u32, 4), Elem::F32));
        r.section("pictures");
        let control_images = record_pictures(r, self, &mut extras, scales, job);

        r.section("time");
        let features = r.input("time_features", unet.time_embedding().shape(rows), elem);
        let guidance = config.time_cond_proj_dim.map(|dim| r.input("guidance_features", vector(dim), elem));
        let time = unet.record_time(r, features, guidance, added);
        let control_times: Vec<_> =
            self.controls.iter().map(|c| c.record_time(r, features, added_features)).collect();
        let (sample, x) = denoiser::latents(r, job, shape.c);

        r.section("control");
        for (i, control) in self.controls.iter().enumerate() {
            let residuals = control.record(r, x, control_images[i], control_times[i], &control_contexts[i]);
            let slot = self.control_slot(i) as u32;
            let scales = scales.expect("slots for the residuals");
            extras.controls.push(Control { residuals, scales, slot });
        }

        r.section("unet");
        if self.sizes().is_inpainting() {
            let channels = (config.in_channels - config.out_channels) as u32;
            let channels = r.input("channels", shape.with_c(channels), Elem::F32);
            let coefficients = r.input("channel_coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
            extras.channels = Some(ops::scale(r, channels, coefficients, rows, Activation::None));
        }
        let output = unet.record(r, x, time, &context, &extras);
        Recorded { latents: sample, output }
    }

    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input> {
        let (time, rows) = (self.unet.time_embedding(), job.rows() as usize);
        let Conditions { text, pooled, sizes, guidance, .. } = conditions;
        let mut inputs = vec![("text", text.clone())];
        if let Some(features) = time.guidance_features(*guidance) {
            inputs.push(("guidance_features", features.repeat(rows)));
        }
        if self.config.text_time.is_some() {
            let each = pooled.chunks_exact(pooled.len() / rows);
            inputs.push(("added_features", each.flat_map(|p| time.added_features(p, *sizes)).collect()));
        }
        inputs
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        vec![("time_features", self.unet.time_embedding().features(timestep).repeat(rows))]
    }

    fn unet(&self) -> Option<&Networks> {
        Some(self)
    }

    fn unet_mut(&mut self) -> Option<&mut Networks> {
        Some(self)
    }
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
