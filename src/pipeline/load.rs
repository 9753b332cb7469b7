//! Loading: a folder, and what comes with it, to parts that fit each other.

use std::cell::{OnceCell, RefCell};

use super::denoise::DenoiserWeights;
use super::family::{Family, UNET};
use super::load_progress::{LoadProgress, expected};
use super::origin::{Origin, Single};
use super::precision::{Precision, halves_after_all};
use super::{
    Additions, DenoiserPart, FileIn, Half, LoadOptions, Pipeline, SafetyPart, Survey, TextPart, VaePart,
    VisionPart, read_json,
};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::config::ModelIndex;
use crate::schedule;
use crate::warning::{Topic, Warning};
use crate::weights::{Embedding, Folder, Hooks, Lora, MANIFEST, MARK, Manifest, join};

impl Pipeline {
    /// Loads a folder in the diffusers layout. `hooks` sees the bytes of all tensors that are read, and how many they
    /// will be: that number changes while headers are read, until at the end all of it was read.
    pub async fn load(
        device: &Device,
        folder: &dyn Folder,
        options: &LoadOptions,
        hooks: Hooks<'_>,
    ) -> Result<Pipeline> {
        Self::load_with(device, folder, &Additions::default(), options, hooks).await
    }

    /// Loads a folder in the diffusers layout, and what comes with it.
    pub async fn load_with(
        device: &Device,
        folder: &dyn Folder,
        additions: &Additions<'_>,
        options: &LoadOptions,
        hooks: Hooks<'_>,
    ) -> Result<Pipeline> {
        let index = read_json(folder, "model_index.json").await?;
        let index = ModelIndex::from_json(&index, "model_index.json")?;
        let family = Family::of(&index)?;
        let target = device.target(&options.activations)?;
        let scheduler = read_json(folder, "scheduler/scheduler_config.json").await?;
        let scheduler = schedule::Config::from_json(&scheduler, "scheduler/scheduler_config.json")?;
        let pack = match index.flag(MARK, false) {
            true => Some(Manifest::parse(&read_json(folder, MANIFEST).await?)?),
            false => None,
        };
        if let Some(pack) = &pack {
            pack.check_small(folder).await?;
        }
        let survey = Survey::read(folder, &index).await?;
        // What is stored already decides how the model's own networks are stored.
        let stored = pack.as_ref().map(|pack| LoadOptions {
            auto: false,
            weights: pack.weights,
            decoder: Some(pack.decoder),
            ..options.clone()
        });
        let options = stored.as_ref().unwrap_or(options);
        let gpu = matches!(device, Device::Gpu(_));
        let fitting = survey.fit(options, gpu, &target)?;
        let (format, savings) =
            fitting.map_or((options.weights, options.savings), |needs| (needs.format, needs.savings));
        let firm = options.budget.filter(|budget| budget.firm);
        let room = fitting.zip(firm).map(|(needs, budget)| budget.bytes.saturating_sub(needs.weights));
        device.try_tables(&target, || survey.flops(options, &target), hooks.cancelled).await?;
        if firm.is_some() || savings.tiles {
            device.save_workspace();
        }
        let precision = Precision::new(device, &options.activations, room)?;
        let decoder = options.decoder.unwrap_or(format.of_autoencoder());
        let (text_device, text_target) = match savings.text && gpu {
            true => (&Device::Cpu, Some(Device::Cpu.target("auto")?)),
            false => (device, None),
        };
        let single = match additions.single_file {
            Some(file) => Some(Single::open(file).await?),
            None => None,
        };
        let file = single.as_ref().map(|single| &single.file).or(folder.single());
        let meter = LoadProgress::new(expected(&survey, pack.as_ref(), file, additions).await?);
        let tell = hooks.progress;
        let report = |read, total| meter.report(read, total, tell);
        let told = RefCell::new(vec![]);
        let warn = |warning| told.borrow_mut().push(warning);
        let hooks = Hooks { progress: &report, warn: &warn, ..hooks };
        if survey.upcasts(precision.asked())? {
            match savings.halves {
                true => warn(halves_after_all("autoencoder")),
                false => precision.configure(),
            }
        }
        let files = [folder.single(), single.as_ref().map(|single| &single.file)];
        files.into_iter().flatten().flat_map(|file| &file.warnings).cloned().for_each(warn);
        let scheduler = match &single {
            Some(single) => single.corrected(scheduler, &warn)?,
            None => scheduler,
        };
        if text_target.is_some() {
            warn(Warning::new(
                Topic::Memory,
                "the text encoder runs on the CPU, where prompts take longer: the device has too little memory for it",
            ));
        }
        let loras = read_loras(additions, family, hooks).await?;
        let scales: Vec<f32> = additions.loras.iter().map(|(_, scale)| *scale).collect();
        check_scales(&scales)?;
        let origin = Origin::new(folder, single, pack.as_ref(), &loras, &scales);
        let mut texts = vec![];
        let encoders = family.encoders.iter().filter(|encoder| Family::has(encoder, &index));
        for encoder in encoders {
            let usage = family.text_use(encoder);
            texts.push(TextPart::load(text_device, &origin, encoder, usage, format, hooks).await?);
        }
        for file in &additions.embeddings {
            let widths: Vec<usize> = texts.iter().map(|t| t.network.encoder.sizes().hidden_size).collect();
            for embedding in Embedding::read(file.folder, file.path, &widths, hooks).await? {
                for (encoder, vectors) in texts.iter_mut().zip(&embedding.vectors) {
                    encoder.learn(&embedding, vectors)?;
                }
            }
        }
        texts.iter_mut().for_each(TextPart::add_stems);
        let vision = match additions.ip_adapter {
            Some(FileIn { folder, .. }) => Some(
                VisionPart::load(device, folder, "image_encoder", "feature_extractor", format, hooks).await?,
            ),
            None => None,
        };
        let encoder = vision.as_ref().map(|v| &v.encoder.config);
        let spare = fitting.map(|needs| needs.transformed);
        let weights = DenoiserWeights { format, size: survey.latents(options.size)?, spare };
        let folder = family.denoiser.folder;
        let denoiser =
            DenoiserPart::load_with(device, &origin, folder, additions, encoder, weights, hooks).await?;
        let halves: &[Half] = match options.encoder || denoiser.network.sizes().is_inpainting() {
            true => &[Half::Decoder, Half::Encoder],
            false => &[Half::Decoder],
        };
        let vae = VaePart::load(device, &origin, "vae", decoder, hooks, halves).await?;
        let safety = match additions.safety_checker {
            Some(folder) => {
                Some(SafetyPart::load(device, folder, "", "feature_extractor", format, hooks).await?)
            }
            None => None,
        };
        meter.finish(tell);
        let pipeline = Pipeline {
            device: device.clone(),
            family,
            texts,
            denoiser,
            vae,
            vision,
            safety,
            loras,
            lora_scales: Some(scales).into(),
            scheduler,
            zeros_for_empty_prompt: family.zeros_for_empty_prompt
                && index.flag("force_zeros_for_empty_prompt", true),
            guidance_rescale: index.guidance_rescale,
            label_names: index.labels,
            precision,
            small_tiles: savings.tiles,
            text_target,
            warnings: told.take(),
            formats: [format, decoder],
            denoise_session: None.into(),
            decoder: None.into(),
            colours: OnceCell::new(),
        };
        pipeline.check()?;
        Ok(pipeline)
    }

    /// Whether the parts fit each other.
    fn check(&self) -> Result<()> {
        let denoiser = self.denoiser.network.sizes();
        let file = join(self.family.denoiser.folder, "config.json");
        let widths = self.texts.iter().map(|text| text.network.encoder.sizes().hidden_size);
        let widths = self.each_encoder(widths);
        let width = (self.family.reading.width)(&widths, denoiser.cross_attention_dim);
        if width != denoiser.cross_attention_dim {
            let wanted = denoiser.cross_attention_dim;
            return Err(Error::model(format!(
                "{file}: cross_attention_dim is {wanted}, but the text encoder's hidden_size is {width}"
            )));
        }
        let projections: usize = self.texts.iter().filter_map(|text| text.pooled_width()).sum();
        if let Some(pooled) = denoiser.pooled.filter(|pooled| *pooled != projections) {
            return Err(Error::model(format!(
                "{file}: projection_class_embeddings_input_dim wants {pooled} numbers of pooled text, but the \
                 text encoder's projection_dim is {projections}"
            )));
        }
        let factor = self.vae.config.spatial_factor();
        let controls = self.denoiser.network.unet().map_or(&[][..], |unet| &unet.controls);
        let other = controls.iter().map(|c| c.config.spatial_factor()).find(|f| *f != factor);
        if let Some(found) = other {
            return Err(Error::model(format!(
                "the ControlNet is not for this autoencoder: pixels for each latent wanted {factor}, found {found}"
            )));
        }
        let latent = self.vae.config.latent_channels();
        let seen = if denoiser.is_inpainting() { 2 * latent + 1 } else { latent };
        if denoiser.out_channels != latent || denoiser.in_channels != seen {
            return Err(Error::unsupported(format!(
                "{file}: in_channels is {} and out_channels {}, the autoencoder's latent_channels \
                 {latent}; they must be equal, or in_channels one more than twice as many",
                denoiser.in_channels, denoiser.out_channels
            )));
        }
        Ok(())
    }

    /// Merges the LoRAs anew with other scales, one for each: what a LoRA touches is read again from the folder and the
    /// additions that the pipeline was loaded from, nothing else. `hooks` sees bytes as for [`Self::load`]. After an error
    /// there are no images until a call has succeeded.
    pub async fn set_lora_scales(
        &self,
        folder: &dyn Folder,
        additions: &Additions<'_>,
        scales: &[f32],
        hooks: Hooks<'_>,
    ) -> Result<()> {
        let (wanted, found) = (self.loras.len(), scales.len());
        if wanted != found {
            return Err(Error::option(format!(
                "scales of LoRAs: wanted {wanted}, one for each, found {found}"
            )));
        }
        check_scales(scales)?;
        if self.lora_scales.borrow().as_deref() == Some(scales) {
            return Ok(());
        }
        self.lora_scales.replace(None);
        let single = match additions.single_file {
            Some(file) => Some(Single::open(file).await?),
            None => None,
        };
        let origin = Origin::new(folder, single, None, &self.loras, scales);
        let mut touched = vec![];
        let texts = self.texts.iter().map(|text| &text.network.merged);
        for merged in texts.chain([&self.denoiser.merged]) {
            if !merged.touched(&origin)?.is_empty() {
                touched.push(merged);
            }
        }
        let meter = LoadProgress::new(touched.iter().map(|merged| merged.part()).collect());
        let report = |read, total| meter.report(read, total, hooks.progress);
        for merged in touched {
            merged.merge(&origin, Hooks { progress: &report, ..hooks }).await?;
        }
        self.lora_scales.replace(Some(scales.to_vec()));
        Ok(())
    }

    /// That the weights are merged with the scales of one call.
    pub(super) fn check_loras(&self) -> Result<()> {
        match *self.lora_scales.borrow() {
            Some(_) => Ok(()),
            None => Err(Error::option("the scales of the LoRAs are half changed: set them again")),
        }
    }
}

/// The LoRAs, which are for networks that the model has.
async fn read_loras(additions: &Additions<'_>, family: &Family, hooks: Hooks<'_>) -> Result<Vec<Lora>> {
    let text_encoders = family.encoders.iter().map(|encoder| encoder.component.folder);
    let present: Vec<&str> = [family.denoiser.folder].into_iter().chain(text_encoders).collect();
    let mut loras = vec![];
    if !additions.loras.is_empty() && family.denoiser.folder != UNET {
        let class = family.denoiser.class;
        return Err(Error::unsupported(format!("a LoRA: the denoiser is {class}, supported are U-Nets")));
    }
    for (file, _) in &additions.loras {
        let lora = Lora::read(file.folder, file.path, hooks).await?;
        lora.check_components(&present)?;
        loras.push(lora);
    }
    Ok(loras)
}

fn check_scales(scales: &[f32]) -> Result<()> {
    match scales.iter().find(|scale| !scale.is_finite()) {
        None => Ok(()),
        Some(scale) => Err(Error::option(format!("scale of a LoRA: wanted a number, found {scale}"))),
    }
}
