//! What a model needs of a device's memory, known from its configurations before any weights are read; and the
//! weights that fit.

use super::component::{Component, Role};
use super::family::Family;
use super::plans::{Recording, read, record, upcasts};
use super::tiles::Tiles;
use super::{LoadOptions, Planned, read_json};
use crate::device::{Device, activation_bytes, on_cpu};
use crate::error::{Code, Error, Result};
use crate::model::config::{ModelIndex, NetworkConfig};
use crate::plan::Target;
use crate::quant::Format;
use crate::weights::{Folder, Layout, join};

/// Memory that may be used, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub bytes: u64,
    /// What does not fit is refused. Otherwise this is a guess, and the smallest weights are tried.
    pub firm: bool,
}

/// What is given up where the smallest weights are too large for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Savings {
    /// The text encoders are on the CPU: prompts take longer.
    pub text: bool,
    /// Images are decoded in small tiles: seams may show.
    pub tiles: bool,
    /// An autoencoder whose configuration wants f32 is in halves: its values may not fit.
    pub halves: bool,
}

impl Savings {
    pub const ALL: Savings = Savings { text: true, tiles: true, halves: false };

    /// These, and then more, one after the other. A CPU has nothing beside it; not every autoencoder is `upcast`.
    fn ladder(self, gpu: bool, upcast: bool) -> Vec<Savings> {
        let text = Savings { text: gpu, ..self };
        let tiles = Savings { tiles: true, ..text };
        let halves = Savings { halves: upcast, ..tiles };
        let mut rungs = vec![Savings { text: self.text && gpu, ..self }, text, tiles, halves];
        rungs.dedup();
        rungs
    }
}

/// Bytes that one image takes, without guidance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    pub format: Format,
    pub savings: Savings,
    /// On the device.
    pub weights: u64,
    /// Beside the device, in the program's own memory: rows of tokens, and text encoders that run on the CPU.
    pub beside: u64,
    /// Of all networks together, each of which keeps its own.
    pub activations: u64,
    /// What a CPU takes more to keep weights of convolutions transformed, of what a budget leaves. Without it an image
    /// takes longer.
    pub transformed: u64,
    pub size: [usize; 2],
}

impl Needs {
    /// On the device.
    pub fn total(&self) -> u64 {
        self.weights + self.activations
    }

    /// A network, which is on the device unless it is `beside` it.
    fn add(&mut self, planned: &Planned, gpu: bool, beside: bool) {
        for spec in &planned.declarations.specs {
            let place = match spec.layout {
                Layout::Table { .. } => &mut self.beside,
                _ if beside => &mut self.beside,
                _ => &mut self.weights,
            };
            *place += spec.layout.bytes() as u64;
        }
        if !beside {
            let scratch = if gpu { 0 } else { on_cpu::scratch(&planned.declarations, &planned.plan) };
            self.activations += activation_bytes(&planned.plan) + scratch;
        }
    }
}

/// The configurations of a model's networks.
pub struct Survey {
    configs: Vec<(&'static Component, Vec<u8>)>,
    pub(super) family: &'static Family,
    /// The class of diffusers' pipeline.
    pipeline: String,
}

impl Survey {
    pub async fn read(folder: &dyn Folder, index: &ModelIndex) -> Result<Survey> {
        let family = Family::of(index)?;
        let mut configs = vec![];
        for component in family.components().filter(|component| index.class(component.folder).is_some()) {
            configs.push((component, read_json(folder, &join(component.folder, "config.json")).await?));
        }
        Ok(Survey { configs, family, pipeline: index.class_name.clone() })
    }

    /// Whether the autoencoder computes in f32 where the rest is in halves.
    pub fn upcasts(&self, target: &Target) -> Result<bool> {
        Ok(upcasts(self.family, &self.pipeline, &self.autoencoder()?, target))
    }

    /// With networks stored as `format` and the autoencoder as `decoder`, at `size` (width, height) or the model's own.
    pub fn needs(
        &self,
        format: Format,
        decoder: Format,
        encoder: bool,
        savings: Savings,
        (gpu, target): (bool, &Target),
        size: Option<[usize; 2]>,
    ) -> Result<Needs> {
        let own = self.size()?;
        let size = size.unwrap_or(own);
        let size = self.family.shape(own[0], size, None).unwrap_or(size);
        let mut needs =
            Needs { format, savings, weights: 0, beside: 0, activations: 0, transformed: 0, size };
        for planned in record(self.networks()?, self.recording(format, target, false, size))? {
            match role(planned.component) {
                Role::Autoencoder => {}
                role => needs.add(&planned, gpu, savings.text && role == Role::Text),
            }
        }
        let upcast = self.upcasts(target)? && !savings.halves;
        let mut autoencoder = |name: &str, size| -> Result<()> {
            let halves = record(self.autoencoder()?, self.recording(decoder, target, upcast, size))?;
            halves.iter().filter(|half| half.name == name).for_each(|half| needs.add(half, gpu, false));
            Ok(())
        };
        autoencoder("decoder", if savings.tiles { self.tile(size)? } else { size })?;
        if encoder {
            autoencoder("encoder", size)?;
        }
        Ok(needs)
    }

    /// FLOPs of an image in one step, without guidance.
    pub fn flops(&self, options: &LoadOptions, target: &Target) -> Result<u64> {
        let size = options.size.map_or_else(|| self.size(), Ok)?;
        let recording = self.recording(options.weights, target, false, size);
        let planned = record(self.networks()?, recording)?;
        let steps = planned.iter().filter(|p| p.name != "encoder").flat_map(|p| &p.plan.steps);
        Ok(steps.map(|step| step.cost().model_flops).sum())
    }

    fn recording<'a>(
        &self,
        format: Format,
        target: &'a Target,
        upcast: bool,
        size: [usize; 2],
    ) -> Recording<'a> {
        Recording { format, target, upcast, family: self.family, size }
    }

    /// What the transformed weights of the denoiser take more on a CPU: of all that is left, or of what is usual.
    fn transformed(&self, needs: &Needs, target: &Target, left: u64, all: bool) -> Result<u64> {
        let denoiser = self.of(Role::Denoiser)?;
        let planned = record(denoiser, self.recording(needs.format, target, false, needs.size))?;
        let keep = |mut unet: Planned| {
            let spare = if all { left } else { on_cpu::usual(&unet.declarations).min(left) };
            on_cpu::keep(&mut unet.declarations, &unet.plan, spare)
        };
        Ok(planned.into_iter().map(keep).sum())
    }

    /// The best that fits a budget: weights of fewer bits first, then savings, which cost more. A guess chooses weights
    /// alone, the smallest if none fit; without a budget there is nothing to choose, but where the program's own memory
    /// is all there is.
    pub fn fit(&self, options: &LoadOptions, gpu: bool, target: &Target) -> Result<Option<Needs>> {
        let own = Device::OWN_MEMORY.filter(|_| !gpu);
        let budget = match (options.budget, own) {
            (Some(given), Some(own)) if given.bytes > own => Some(Budget { bytes: own, firm: true }),
            (None, Some(bytes)) => Some(Budget { bytes, firm: true }),
            (given, _) => given,
        };
        let Some(budget) = budget else { return Ok(None) };
        let formats =
            if options.auto { &[Format::F16, Format::Q8, Format::Q4][..] } else { &[options.weights] };
        let savings = options.savings.ladder(gpu, self.upcasts(target)?);
        let needs = |format: Format, savings| {
            let decoder = options.decoder.unwrap_or(format.of_autoencoder());
            self.needs(format, decoder, options.encoder, savings, (gpu, target), options.size)
        };
        let smallest = formats[formats.len() - 1];
        let rungs = formats.iter().map(|&format| (format, savings[0]));
        let more = if budget.firm { &savings[1..] } else { &[] };
        let rungs = rungs.chain(more.iter().map(|&savings| (smallest, savings)));
        let mut least = None;
        for (format, savings) in rungs {
            let needs = needs(format, savings)?;
            // What is beside a CPU is in the same memory, which a given limit is not about.
            let left = budget.bytes.checked_sub(needs.total());
            let own = own.map_or(Some(u64::MAX), |own| own.checked_sub(needs.total() + needs.beside));
            if let Some((left, own)) = left.zip(own) {
                let left = left.min(own);
                let all = options.budget.is_some_and(|budget| budget.firm);
                let transformed = if gpu { 0 } else { self.transformed(&needs, target, left, all)? };
                return Ok(Some(Needs { transformed, ..needs }));
            }
            least = Some(needs);
        }
        let least = least.expect("at least one format");
        if !budget.firm {
            return Ok(Some(least));
        }
        let [weights, activations, allowed] =
            [least.weights, least.activations, budget.bytes].map(|bytes| bytes.div_ceil(1_000_000));
        let [width, height] = least.size;
        Err(Error::new(
            Code::LimitTooLow,
            format!(
                "the model needs {weights} MB for weights of {} and {activations} MB for an image of {width}x{height}, \
                 memory allows {allowed} MB",
                least.format.as_str()
            ),
        ))
    }

    fn autoencoder(&self) -> Result<Vec<(&'static str, NetworkConfig)>> {
        self.of(Role::Autoencoder)
    }

    fn of(&self, role: Role) -> Result<Vec<(&'static str, NetworkConfig)>> {
        let is = |(folder, _): &(&str, NetworkConfig)| self::role(folder) == role;
        Ok(self.networks()?.into_iter().filter(is).collect())
    }

    /// Pixels of a latent along one side.
    fn factor(&self) -> Result<Option<usize>> {
        Ok(match self.autoencoder()?.first() {
            Some((_, NetworkConfig::Vae(config))) => Some(config.spatial_factor()),
            _ => None,
        })
    }

    /// Height and width of the latents of an image of this width and height.
    pub(super) fn latents(&self, size: Option<[usize; 2]>) -> Result<Option<[u32; 2]>> {
        /// Smaller ones are refused where they are drawn.
        const LEAST: usize = 8;
        let Some((size, factor)) = size.zip(self.factor()?) else { return Ok(None) };
        let [width, height] = size.map(|side| (side / factor).max(LEAST) as u32);
        Ok(Some([height, width]))
    }

    /// The pixels of a small tile, width and height, of an image.
    fn tile(&self, [width, height]: [usize; 2]) -> Result<[usize; 2]> {
        let networks = self.autoencoder()?;
        let Some((_, NetworkConfig::Vae(config))) = networks.first() else { return Ok([width, height]) };
        let factor = config.cell();
        let cells = [height, width].map(|side| (side / factor) as u32);
        let [height, width] = Tiles::choices(cells, true)[0].tile.map(|side| side as usize * factor);
        Ok([width, height])
    }

    pub(super) fn networks(&self) -> Result<Vec<(&'static str, NetworkConfig)>> {
        let mut found = vec![];
        for (component, json) in &self.configs {
            let path = join(component.folder, "config.json");
            // What is not built is refused by the loading, in its own words.
            if let Ok(config) = read(json, &path, Some(component.class))? {
                found.push((component.folder, config));
            }
        }
        Ok(found)
    }

    /// What the model was trained for.
    fn size(&self) -> Result<[usize; 2]> {
        let (mut cells, mut pixels) = (64, 8);
        for (_, config) in self.networks()? {
            match config {
                NetworkConfig::Denoiser(config) => cells = config.sizes().sample_size.unwrap_or(cells),
                NetworkConfig::Vae(vae) => pixels = vae.spatial_factor(),
                _ => {}
            }
        }
        Ok([cells * pixels; 2])
    }
}

/// What the component of a folder that was surveyed is for.
fn role(folder: &str) -> Role {
    Component::of(folder).expect("a component of a family").role
}
