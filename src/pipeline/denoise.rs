//! Noise to latents, step by step.

use std::rc::Rc;

use super::beside::{self, STEM};
use super::component::Component;
use super::origin::{Additions, Merged, Origin};
use super::read_json;
use crate::device::{Device, Session, on_cpu};
use crate::error::{Error, Result};
use crate::host::Cancel;
use crate::model::config::{ClipVisionConfig, NetworkConfig};
use crate::model::controlnet::ControlNet;
use crate::model::denoiser::{Conditions, Denoiser, DenoiserSizes, Job, denoise_plan};
use crate::model::ip_adapter::IpAdapter;
use crate::model::t2i_adapter::T2iAdapter;
use crate::model::unet::Networks;
use crate::plan::{Faults, Plan, Target};
use crate::quant::Format;
use crate::schedule::Step;
use crate::weights::{Declarations, Folder, Hooks, join};

/// A denoiser and its weights.
pub struct DenoiserPart {
    pub network: Rc<dyn Denoiser>,
    pub(super) merged: Merged,
}

/// How the weights of a denoiser are kept.
#[derive(Clone, Copy)]
pub struct DenoiserWeights {
    pub format: Format,
    /// Height and width of the latents that are drawn; by default those that the model was trained for.
    pub size: Option<[u32; 2]>,
    /// Bytes that a CPU may take more to keep those of convolutions transformed; by default a part of them.
    pub spare: Option<u64>,
}

impl DenoiserWeights {
    /// Says it in the declarations of a denoiser.
    fn keep(self, device: &Device, d: &mut Declarations, network: &dyn Denoiser) -> Result<()> {
        /// Where a configuration does not say what a model was trained for.
        const CELLS: usize = 64;
        if matches!(device, Device::Gpu(_)) {
            return Ok(());
        }
        let trained = network.sizes().sample_size.unwrap_or(CELLS) as u32;
        let size = self.size.unwrap_or([trained; 2]);
        // Whole tokens.
        let patch = network.sizes().patch as u32;
        let size = size.map(|side| (side / patch).max(1) * patch);
        let job = Job { images: 1, guided: false, size, tokens: 77, ..Job::default() };
        let plan = denoise_plan(network, &device.target("auto")?, job);
        let spare = self.spare.unwrap_or_else(|| on_cpu::usual(d));
        on_cpu::keep(d, &plan, spare);
        Ok(())
    }
}

impl DenoiserPart {
    /// A denoiser alone.
    pub async fn load(
        device: &Device,
        folder: &dyn Folder,
        component: &str,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<DenoiserPart> {
        let origin = Origin::of(folder);
        let weights = DenoiserWeights { format, size: None, spare: None };
        Self::load_with(device, &origin, component, &Additions::default(), None, weights, hooks).await
    }

    /// A denoiser and what works with it. `encoder` is an IP-Adapter's.
    pub async fn load_with(
        device: &Device,
        origin: &Origin<'_>,
        component: &str,
        additions: &Additions<'_>,
        encoder: Option<&ClipVisionConfig>,
        weights: DenoiserWeights,
        hooks: Hooks<'_>,
    ) -> Result<DenoiserPart> {
        let path = join(component, "config.json");
        let config = NetworkConfig::denoiser(
            &read_json(origin.folder, &path).await?,
            &path,
            Component::class_of(component),
        )?;
        let mut d = Declarations::new(weights.format);
        let mut network = config.declare(&mut d);
        weights.keep(device, &mut d, &*network)?;
        let mut beside = vec![];
        for &file in &additions.controls {
            let (config, checkpoint) = beside::control(file, unet(&mut network, "a ControlNet")?).await?;
            d.next_source();
            unet(&mut network, "a ControlNet")?.controls.push(ControlNet::declare(&mut d, &config));
            beside.push(checkpoint);
        }
        for &file in &additions.adapters {
            let (config, checkpoint) =
                beside::t2i_adapter(file, unet(&mut network, "a T2I-Adapter")?).await?;
            d.next_source();
            unet(&mut network, "a T2I-Adapter")?.adapters.push(T2iAdapter::declare(&mut d, &config));
            beside.push(checkpoint);
        }
        if let Some((file, encoder)) = additions.ip_adapter.zip(encoder) {
            let networks = unet(&mut network, "an IP-Adapter")?;
            let (config, checkpoint) = beside::ip_adapter(file, networks, encoder).await?;
            d.next_source();
            let width = networks.config.cross_attention_dim as u32;
            let adapter = IpAdapter::declare(&mut d, &networks.unet, width, config, encoder);
            networks.ip_adapter = Some(adapter);
            beside.push(checkpoint);
        }
        let merged = Merged::load(device, origin, (component, STEM), d, beside, hooks).await?;
        Ok(DenoiserPart { network: network.into(), merged })
    }

    /// The plan of a job, which the device can hold.
    pub fn plan(&self, target: &Target, job: Job) -> Result<Plan> {
        let plan = denoise_plan(&*self.network, target, job);
        let what = if self.network.unet().is_some() { "U-Net" } else { "transformer" };
        plan.check(what, &self.merged.weights.device().limits())?;
        Ok(plan)
    }

    /// A session for a job, from its plan.
    pub async fn prepare(&self, plan: Plan, job: Job) -> Result<DenoiseSession> {
        let session = self.session_of(plan, job).await?;
        let ip_adapter = self.network.unet().and_then(|unet| unet.ip_adapter.as_ref());
        if let Some((latents, _)) = ip_adapter.and_then(|adapter| adapter.image_proj.latents()) {
            let latents = self.merged.weights.table(latents);
            session.write("image_latents", &latents.values().repeat(job.rows() as usize));
        }
        Ok(DenoiseSession { job, session, network: self.network.clone() })
    }

    /// Writes a whole input of the denoiser, `[N, h, w, in_channels]`, unscaled.
    pub fn write_sample(&self, session: &Session, sample: &[f32]) {
        let DenoiserSizes { in_channels, out_channels, .. } = self.network.sizes();
        let part = |range: std::ops::Range<usize>| -> Vec<f32> {
            sample.chunks_exact(in_channels).flat_map(|row| &row[range.clone()]).copied().collect()
        };
        session.write("latents", &part(0..out_channels));
        session.write("input_coefficients", &[1.0, 0.0, 0.0, 0.0]);
        if self.network.sizes().is_inpainting() {
            session.write("channels", &part(out_channels..in_channels));
            session.write("channel_coefficients", &[1.0, 0.0, 0.0, 0.0]);
        }
    }

    /// The plan of a job on the device.
    pub async fn session(&self, target: &Target, job: Job) -> Result<Session> {
        self.session_of(self.plan(target, job)?, job).await
    }

    /// A session from its plan, with what never changes.
    async fn session_of(&self, plan: Plan, job: Job) -> Result<Session> {
        let session = Session::new(plan, &self.merged.weights).await?;
        for (name, values) in self.network.constants(job, &|table| self.merged.weights.table(table)) {
            session.write(name, &values);
        }
        Ok(session)
    }
}

/// The U-Net among denoisers.
fn unet<'a>(network: &'a mut Box<dyn Denoiser>, what: &str) -> Result<&'a mut Networks> {
    network.unet_mut().ok_or_else(|| Error::unsupported(format!("{what} beside a denoiser that is no U-Net")))
}

/// A denoiser and a scheduler's step, ready for one job.
pub struct DenoiseSession {
    pub job: Job,
    session: Session,
    network: Rc<dyn Denoiser>,
}

impl DenoiseSession {
    pub fn plan(&self) -> &Plan {
        self.session.plan()
    }

    /// What the denoiser is told once a prompt.
    pub async fn set_conditions(&self, conditions: &Conditions, cancel: &Cancel) -> Result<()> {
        for (name, values) in self.network.conditions(conditions, self.job) {
            self.session.write(name, &values);
        }
        self.session.run("context", cancel, &|_| {}).await
    }

    /// What other networks see of a request: images `[H, W, 3]` in [0, 1] for ControlNets and T2I-Adapters (black where
    /// there is none), and what an IP-Adapter sees of an image, for each row.
    pub async fn set_pictures(
        &self,
        controls: &[Vec<f32>],
        adapters: &[Vec<f32>],
        image_prompt: &[f32],
        cancel: &Cancel,
    ) -> Result<()> {
        let rows = self.job.rows() as usize;
        for (i, picture) in controls.iter().enumerate() {
            self.session.write(&format!("control_image.{i}"), &picture.repeat(rows));
        }
        let Some(networks) = self.network.unet() else { return Ok(()) };
        for (i, picture) in adapters.iter().enumerate() {
            let unshuffled = networks.adapters[i].unshuffle(picture, self.job.size);
            self.session.write(&format!("adapter_image.{i}"), &unshuffled);
        }
        if networks.ip_adapter.is_some() {
            self.session.write("image_prompt", image_prompt);
        }
        self.session.run("pictures", cancel, &|_| {}).await
    }

    /// What a denoiser that edits sees of a request's pictures, `[tokens, C]`.
    pub async fn set_references(&self, tokens: &[f32], cancel: &Cancel) -> Result<()> {
        self.session.write("references", &tokens.repeat(self.job.rows() as usize));
        self.session.run("pictures", cancel, &|_| {}).await
    }

    /// How much of what other networks make is added, `[rows, slots]`.
    pub fn set_scales(&self, scales: &[f32]) {
        let padded: Vec<f32> = scales.iter().flat_map(|&s| [s, 0.0, 0.0, 0.0]).collect();
        self.session.write("scales", &padded);
    }

    /// Sets what an inpainting U-Net sees beside the latents, `[N, h, w, in_channels - out_channels]`.
    pub fn set_channels(&self, channels: &[f32]) {
        self.session.write("channels", channels);
        self.session.write("channel_coefficients", &[1.0, 0.0, 0.0, 0.0]);
    }

    /// Sets the first sample, `[N, h, w, C]`.
    pub fn start(&self, sample: &[f32]) {
        self.session.write("latents", sample);
        self.session.reset_watch();
        self.session.write("predictions", &vec![0.0; 4 * sample.len()]);
        self.session.write("noise", &vec![0.0; sample.len()]);
    }

    /// Replaces the current sample.
    pub fn set_latents(&self, sample: &[f32]) {
        self.session.write("latents", sample);
    }

    /// Runs the denoiser on the current sample, with its ControlNets if they are `controlled`.
    pub async fn predict(
        &self,
        step: &Step,
        controlled: bool,
        cancel: &Cancel,
        progress: &dyn Fn(f64),
    ) -> Result<()> {
        for (name, values) in self.network.timestep(step.timestep, self.job.rows() as usize) {
            self.session.write(name, &values);
        }
        self.session.write("input_coefficients", &[step.input_scale, 0.0, 0.0, 0.0]);
        self.session.run("time", cancel, &|_| {}).await?;
        if controlled {
            self.session.run("control", cancel, &|_| {}).await?;
        }
        self.session.run("unet", cancel, progress).await
    }

    /// Gives `share` of each image's guided prediction the spread of the prompt's own (section 3.4 of Lin et al.,
    /// arXiv:2305.08891, as diffusers' `rescale_noise_cfg`). The sums are of thousands of numbers once a step, so they
    /// are taken here: kernels stay as they are for everybody else.
    pub async fn rescale(&self, guidance: f32, share: f64) -> Result<()> {
        if share == 0.0 || !self.job.guided {
            return Ok(());
        }
        let output = self.session.read("model_output").await?;
        let (without, with) = output.split_at(output.len() / 2);
        let guided = without.iter().zip(with).map(|(u, c)| u + guidance * (c - u));
        let mut guided: Vec<f32> = guided.collect();
        let each = guided.len() / self.job.images as usize;
        for (guided, with) in guided.chunks_exact_mut(each).zip(with.chunks_exact(each)) {
            let factor = share * (deviation(with) / deviation(guided)) + (1.0 - share);
            guided.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
        }
        // Both halves: guidance between equals changes nothing.
        self.session.write("model_output", &guided.repeat(2));
        Ok(())
    }

    /// From the model output to the next sample.
    pub async fn advance(
        &self,
        step: &Step,
        guidance: f32,
        noise: Option<&[f32]>,
        cancel: &Cancel,
    ) -> Result<()> {
        if let Some(noise) = noise {
            self.session.write("noise", noise);
        }
        self.session.write("step_coefficients", &step_coefficients(step, guidance));
        self.session.run("step", cancel, &|_| {}).await
    }

    /// What the last step predicted, `[N, h, w, C]`.
    pub async fn predictions(&self) -> Result<Vec<f32>> {
        let mut predictions = self.session.read("predictions").await?;
        // Those of earlier steps follow.
        predictions.truncate(predictions.len() / 4);
        Ok(predictions)
    }

    /// The last sample, `[N, h, w, C]`, and what was wrong with values since the first one.
    pub async fn result(&self) -> Result<(Vec<f32>, Faults)> {
        let (latents, faults) = self.session.read_watched("latents").await?;
        let faults = faults.and(Faults::of(&latents, false));
        Ok((latents, faults))
    }

    /// Halves of a step that the networks' kernels look at for what is wrong with them.
    pub fn watched_halves(&self) -> u64 {
        ["control", "unet", "step"].map(|section| self.plan().watched_halves(section)).iter().sum()
    }

    /// The current sample, `[N, h, w, C]`.
    pub async fn latents(&self) -> Result<Vec<f32>> {
        self.session.read("latents").await
    }
}

/// The standard deviation of a sample.
fn deviation(values: &[f32]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
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
