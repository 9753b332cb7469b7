//! How far a load is: bytes of all its files together. What is to come is estimated before the first weight is read,
//! from what the configurations declare, and known better with every header.

use std::cell::RefCell;

use super::origin::Additions;
use super::plans::{parameters, read};
use super::{FileIn, Survey, read_json};
use crate::error::Result;
use crate::model::config::{ControlNetConfig, IpAdapterConfig, NetworkConfig, UnetConfig};
use crate::model::ip_adapter::IpAdapter;
use crate::model::unet::Unet;
use crate::quant::Format;
use crate::weights::{Declarations, Folder, Manifest, SingleFile, join, packed};

/// Published checkpoints for inference are mostly of halves.
const BYTES_A_VALUE: f64 = 2.0;

/// A checkpoint that is read, or will be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Declared, or 0 where nothing is known.
    pub values: u64,
    /// Of all its files.
    pub bytes: u64,
    /// As often is the same file read, for other tensors each time: each reading counts as its share of the bytes.
    pub passes: u64,
    read: u64,
}

impl Part {
    pub fn of_values(values: u64) -> Part {
        // More than any disk holds: sums of these fit.
        let values = values.min(1 << 50);
        Part { values, bytes: (values as f64 * BYTES_A_VALUE) as u64, passes: 1, read: 0 }
    }

    fn of_bytes(bytes: u64, passes: u64) -> Part {
        Part { values: 0, bytes: bytes / passes, passes, read: 0 }
    }
}

/// Adds up the reports of the checkpoints, which each count from 0 and come in the order of the parts.
pub(super) struct LoadProgress {
    parts: RefCell<Vec<Part>>,
    begun: RefCell<usize>,
}

impl LoadProgress {
    pub fn new(parts: Vec<Part>) -> LoadProgress {
        LoadProgress { parts: parts.into(), begun: 0.into() }
    }

    /// Takes a report of [`Hooks::progress`] and gives the same of all parts to `tell`: the bytes so far, which are
    /// never more than the second number.
    pub fn report(&self, read: u64, total: Option<u64>, tell: &dyn Fn(u64, Option<u64>)) {
        let (mut parts, mut begun) = (self.parts.borrow_mut(), self.begun.borrow_mut());
        if read == 0 {
            end(&mut parts[..*begun]);
            *begun += 1;
            if parts.len() < *begun {
                parts.push(Part { passes: 1, ..Part::default() });
            }
            let part = parts[*begun - 1];
            if let Some(total) = total.filter(|_| part.values > 0) {
                // The parts of a model are mostly stored alike.
                let each = (total as f64 / part.values as f64).clamp(1.0, 4.0);
                parts[*begun..].iter_mut().filter(|later| later.values > 0).for_each(|later| {
                    later.bytes = (later.values as f64 * each) as u64;
                });
            }
        }
        let Some(part) = begun.checked_sub(1).and_then(|at| parts.get_mut(at)) else { return };
        part.read = read / part.passes;
        part.bytes = total.map_or(part.bytes, |total| total / part.passes).max(part.read);
        say(&parts, tell);
    }

    /// Everything was read: nothing is expected any more.
    pub fn finish(&self, tell: &dyn Fn(u64, Option<u64>)) {
        let mut parts = self.parts.borrow_mut();
        end(&mut parts);
        say(&parts, tell);
    }
}

/// No more of these is expected than was read.
fn end(parts: &mut [Part]) {
    parts.iter_mut().for_each(|part| part.bytes = part.read);
}

fn say(parts: &[Part], tell: &dyn Fn(u64, Option<u64>)) {
    tell(parts.iter().map(|p| p.read).sum(), Some(parts.iter().map(|p| p.bytes).sum()));
}

/// What a load will read, in its order: LoRAs, text encoders, learned tokens, the image encoder, the U-Net and what
/// works with it, the autoencoder, the safety checker. The configuration of an addition counts nothing here if it
/// cannot be read: the loading refuses it in its own words.
pub(super) async fn expected(
    survey: &Survey,
    pack: Option<&Manifest>,
    single: Option<&SingleFile>,
    additions: &Additions<'_>,
) -> Result<Vec<Part>> {
    let configs = survey.networks()?;
    let passes = configs.iter().filter(|(c, _)| single.is_some_and(|s| s.place(c).is_some())).count() as u64;
    let own = |component: &str| {
        let (component, config) = configs.iter().find(|(c, _)| *c == component)?;
        let listed = pack.and_then(|pack| pack.files.get(&packed(component)));
        Some(match (listed, single) {
            (Some(listed), _) => Part::of_bytes(listed.bytes, 1),
            (_, Some(single)) if single.place(component).is_some() => Part::of_bytes(single.bytes, passes),
            _ => Part::of_values(parameters(config)),
        })
    };
    let config = async |folder: &dyn Folder, component: &str, usual: &str| {
        let path = join(component, "config.json");
        read(&read_json(folder, &path).await.ok()?, &path, Some(usual)).ok()?.ok()
    };
    let beside = |config: Option<NetworkConfig>| Part::of_values(config.map_or(0, |c| parameters(&c)));
    let mut parts = vec![Part::of_values(0); additions.loras.len()];
    parts.extend(survey.family.encoders.iter().filter_map(|encoder| own(encoder.component.folder)));
    parts.extend(additions.embeddings.iter().map(|_| Part::of_values(0)));
    let mut ip_adapter = None;
    if let Some(FileIn { folder, .. }) = additions.ip_adapter {
        let encoder = config(folder, "image_encoder", "CLIPVisionModelWithProjection").await;
        ip_adapter = configs.iter().find_map(|(_, unet)| of_ip_adapter(unet, encoder.as_ref()));
        parts.push(beside(encoder));
    }
    parts.extend(own(survey.family.denoiser.folder));
    for &FileIn { folder, path } in &additions.controls {
        let copy = configs.iter().find_map(|(_, unet)| copy_of(unet));
        let config = if path.is_empty() { config(folder, "", "ControlNetModel").await } else { copy };
        parts.push(beside(config));
    }
    for &FileIn { folder, path } in &additions.adapters {
        let config = if path.is_empty() { config(folder, "", "T2IAdapter").await } else { None };
        parts.push(beside(config));
    }
    if additions.ip_adapter.is_some() {
        parts.push(Part::of_values(ip_adapter.unwrap_or(0)));
    }
    parts.extend(own("vae"));
    if let Some(folder) = additions.safety_checker {
        parts.push(beside(config(folder, "", "StableDiffusionSafetyChecker").await));
    }
    Ok(parts)
}

fn unet_of(config: &NetworkConfig) -> Option<&UnetConfig> {
    match config {
        NetworkConfig::Denoiser(config) => config.unet(),
        _ => None,
    }
}

/// A ControlNet without a configuration is about as large as one like this.
fn copy_of(unet: &NetworkConfig) -> Option<NetworkConfig> {
    let unet = unet_of(unet)?;
    let encoder = UnetConfig { up_blocks: vec![], in_channels: unet.out_channels, ..unet.clone() };
    Some(NetworkConfig::ControlNet(ControlNetConfig {
        encoder,
        conditioning_channels: 3,
        conditioning_embedding_out_channels: vec![16, 32, 96, 256],
    }))
}

/// An IP-Adapter has no configuration: it is made for a U-Net and an image encoder.
/// A plain one is as good a guess as any.
fn of_ip_adapter(unet: &NetworkConfig, encoder: Option<&NetworkConfig>) -> Option<u64> {
    let (config, NetworkConfig::ImageEncoder(encoder)) = (unet_of(unet)?, encoder?) else { return None };
    let mut d = Declarations::new(Format::F16);
    let unet = Unet::declare(&mut d, config);
    d.next_source();
    let width = config.cross_attention_dim as u32;
    IpAdapter::declare(&mut d, &unet, width, IpAdapterConfig::Plain, encoder);
    Some(d.parameters_of(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a caller sees of reports.
    fn seen(parts: Vec<Part>, reports: &[(u64, Option<u64>)]) -> Vec<(u64, u64)> {
        let meter = LoadProgress::new(parts);
        let seen = RefCell::new(vec![]);
        let tell = |read, total: Option<u64>| seen.borrow_mut().push((read, total.unwrap()));
        for &(read, total) in reports {
            meter.report(read, total, &tell);
        }
        meter.finish(&tell);
        seen.into_inner()
    }

    #[test]
    fn a_header_corrects_what_was_expected_of_its_part_and_of_later_ones() {
        let parts = vec![Part::of_values(10), Part::of_values(100), Part::of_values(0)];
        let reports =
            [(0, Some(40)), (40, Some(40)), (0, Some(396)), (396, Some(396)), (0, Some(8)), (8, Some(8))];
        let wanted = [(0, 440), (40, 440), (40, 436), (436, 436), (436, 444), (444, 444), (444, 444)];
        assert_eq!(seen(parts, &reports), wanted);
    }

    /// Shards whose index does not say their size, and a part that nobody expected.
    #[test]
    fn what_is_read_is_never_more_than_what_is_expected() {
        let reports = [(0, None), (15, None), (30, None), (0, Some(5)), (5, Some(5))];
        let wanted = [(0, 20), (15, 20), (30, 30), (30, 35), (35, 35), (35, 35)];
        assert_eq!(seen(vec![Part::of_values(10)], &reports), wanted);
    }

    #[test]
    fn a_file_that_is_read_twice_counts_once() {
        let reports = [(0, Some(100)), (100, Some(100)), (0, Some(100)), (50, Some(100)), (100, Some(100))];
        let wanted = [(0, 100), (50, 100), (50, 100), (75, 100), (100, 100), (100, 100)];
        assert_eq!(seen(vec![Part::of_bytes(100, 2); 2], &reports), wanted);
    }

    #[test]
    fn less_than_was_expected_is_all_there_was() {
        let parts = vec![Part::of_values(10), Part::of_values(10)];
        assert_eq!(seen(parts, &[(0, None), (2, None)]).last(), Some(&(2, 2)));
    }
}
