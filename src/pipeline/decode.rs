//! Latents to images, and images to latents.

use std::cell::RefCell;
use std::rc::Rc;

use super::origin::Origin;
use super::packing::Packing;
use super::parts::TAEF2_FILES;
use super::read_json;
use super::tiles::{Mosaic, Tiles, levels};
use crate::device::{Device, Session, Weights};
use crate::error::{Code, Result};
use crate::host::Cancel;
use crate::model::config::{DcConfig, KlConfig, TinyConfig, VaeConfig};
use crate::model::vae::Posterior;
use crate::model::{dc_ae, taesd, vae};
use crate::plan::ops::{self, Activation};
use crate::plan::{Faults, Plan, Recorder, Target};
use crate::quant::Format;
use crate::shape::{Elem, Shape};
use crate::weights::{Checkpoint, Declarations, Hooks, Names, Place, join};

/// One half of an autoencoder of any kind.
pub enum Network {
    KlDecoder(vae::Decoder),
    KlEncoder(vae::Encoder),
    TinyDecoder(taesd::Decoder),
    TinyEncoder(taesd::Encoder),
    DcDecoder(dc_ae::Decoder),
    DcEncoder(dc_ae::Encoder),
}

impl Network {
    pub fn decoder(d: &mut Declarations, config: &VaeConfig) -> Network {
        match config {
            VaeConfig::Kl(c) => Network::KlDecoder(vae::Decoder::declare(d, c)),
            VaeConfig::Tiny(c) => Network::TinyDecoder(taesd::Decoder::declare(d, c)),
            VaeConfig::Dc(c) => Network::DcDecoder(dc_ae::Decoder::declare(d, c)),
        }
    }

    pub fn encoder(d: &mut Declarations, config: &VaeConfig) -> Network {
        match config {
            VaeConfig::Kl(c) => Network::KlEncoder(vae::Encoder::declare(d, c)),
            VaeConfig::Tiny(c) => Network::TinyEncoder(taesd::Encoder::declare(d, c)),
            VaeConfig::Dc(c) => Network::DcEncoder(dc_ae::Encoder::declare(d, c)),
        }
    }
}

/// A file of one network under our names.
const PLAIN: Place = Place::of_network("vae", "", Names::Ours);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Decoder,
    Encoder,
}

pub struct VaePart {
    pub config: VaeConfig,
    networks: Vec<(Half, Network)>,
    weights: Weights,
    /// Where latents are not the network's cells.
    packing: Option<Rc<Packing>>,
}

impl VaePart {
    pub async fn load(
        device: &Device,
        origin: &Origin<'_>,
        component: &str,
        format: Format,
        hooks: Hooks<'_>,
        halves: &[Half],
    ) -> Result<VaePart> {
        let path = join(component, "config.json");
        let config = VaeConfig::from_json(&read_json(origin.folder, &path).await?, &path)?;
        let mut d = Declarations::new(format.of_autoencoder());
        let mut networks = vec![];
        let taef2 = matches!(&config, VaeConfig::Tiny(tiny) if tiny.taef2);
        let mut paths = vec![];
        for &half in halves {
            if taef2 && !networks.is_empty() {
                d.next_source();
            }
            paths.push(join(component, TAEF2_FILES[usize::from(half == Half::Encoder)]));
            let network = match half {
                Half::Decoder => Network::decoder(&mut d, &config),
                Half::Encoder => Network::encoder(&mut d, &config),
            };
            networks.push((half, network));
        }
        let statistics = match &config {
            VaeConfig::Kl(KlConfig { batch_norm_eps: Some(epsilon), .. }) => {
                let channels = config.latent_channels();
                let names = ["bn.running_mean", "bn.running_var"];
                Some((*epsilon, names.map(|name| d.table(name, channels, 1))))
            }
            _ => None,
        };
        let checkpoints: Vec<Checkpoint> = match taef2 {
            true => paths.iter().map(|path| Checkpoint::single(origin.folder, path, PLAIN)).collect(),
            false => vec![origin.checkpoint(component, "diffusion_pytorch_model")],
        };
        let weights = Weights::load(device, &d, &checkpoints, hooks).await?;
        let packing = statistics.map(|(epsilon, tables)| {
            let [mean, variance] = tables.map(|table| weights.table(table));
            Rc::new(Packing::new(mean.values(), variance.values(), epsilon))
        });
        Ok(VaePart { config, networks, weights, packing })
    }

    pub fn has(&self, half: Half) -> bool {
        self.networks.iter().any(|(h, _)| *h == half)
    }

    fn network(&self, half: Half) -> &Network {
        let found = self.networks.iter().find(|(h, _)| *h == half);
        &found.unwrap_or_else(|| panic!("the {half:?} was not loaded")).1
    }

    /// The plan of one half for this batch and input size, in cells or pixels, which the device can hold.
    pub fn plan(&self, target: &Target, half: Half, images: u32, size: [u32; 2]) -> Result<Plan> {
        let plan = self.recorded(target, half, images, size);
        plan.check("autoencoder", &self.weights.device().limits())?;
        Ok(plan)
    }

    /// The plan of one half, whether or not the device can hold it.
    pub(super) fn recorded(&self, target: &Target, half: Half, images: u32, size: [u32; 2]) -> Plan {
        vae_plan(self.network(half), &self.config, target, images, size)
    }

    /// The plan of the decoder for one image of this latent size, in one piece if the device can hold it, and if
    /// memory is not `short`; otherwise in tiles.
    pub fn decoding(&self, target: &Target, size: [u32; 2], short: bool) -> Result<(Tiles, Plan)> {
        let mut refused = None;
        let cells = size.map(|side| side * self.config.packing() as u32);
        for tiles in Tiles::choices(cells, short) {
            match self.plan(target, Half::Decoder, 1, tiles.tile) {
                Ok(plan) => return Ok((tiles, plan)),
                Err(error) => _ = refused.get_or_insert(error),
            }
        }
        Err(refused.expect("at least one choice"))
    }

    /// The decoder of one image, from [`Self::decoding`]; of smaller tiles if the device's memory is full.
    pub async fn decoder(&self, target: &Target, (tiles, plan): (Tiles, Plan)) -> Result<Decoder> {
        let coefficients = coefficients(&self.config, self.network(Half::Decoder));
        let session = Session::new(plan, &self.weights).await;
        let (tiles, session) = match session {
            Err(error) if error.code == Code::OutOfMemory => {
                let (smaller, plan) = self.decoding(target, self.latents_of(&tiles), true)?;
                if smaller.count() <= tiles.count() {
                    return Err(error);
                }
                (smaller, Session::new(plan, &self.weights).await?)
            }
            session => (tiles, session?),
        };
        Ok(Decoder {
            size: self.latents_of(&tiles),
            tiles,
            session,
            coefficients,
            factor: self.config.cell(),
            packing: self.packing.clone(),
            blended: RefCell::default(),
        })
    }

    /// Height and width of the latents of an image in tiles.
    fn latents_of(&self, tiles: &Tiles) -> [u32; 2] {
        tiles.size.map(|side| side / self.config.packing() as u32)
    }

    /// One half alone for this batch and input size, with its coefficients set.
    pub async fn session(&self, target: &Target, half: Half, images: u32, size: [u32; 2]) -> Result<Session> {
        self.session_of(self.plan(target, half, images, size)?, half).await
    }

    /// A session of one half from its plan, with its coefficients set.
    pub(super) async fn session_of(&self, plan: Plan, half: Half) -> Result<Session> {
        let session = Session::new(plan, &self.weights).await?;
        session.write("coefficients", &coefficients(&self.config, self.network(half)));
        Ok(session)
    }

    /// Whether an encoded image is a distribution, from which latents are drawn.
    pub fn draws(&self) -> bool {
        matches!(self.config, VaeConfig::Kl(_))
    }

    /// The latents of a picture to edit, `[h, w, C]` of this width: the middle of the distribution that an encoder's output
    /// is.
    pub fn reference(&self, sample: &[f32], width: usize) -> Vec<f32> {
        let latents = self.latents(sample, || vec![0.0; sample.len() / 2]);
        match &self.packing {
            Some(packing) => packing.latents(&latents, width),
            None => latents,
        }
    }

    /// What the U-Net knows as latents, from an encoder's output. `noise` is asked for one or several times as many
    /// values as an image has latents, if they are drawn.
    pub fn latents(&self, sample: &[f32], noise: impl FnOnce() -> Vec<f32>) -> Vec<f32> {
        match &self.config {
            VaeConfig::Tiny(TinyConfig { scaling_factor, .. })
            | VaeConfig::Dc(DcConfig { scaling_factor, .. }) => {
                sample.iter().map(|v| v * scaling_factor).collect()
            }
            VaeConfig::Kl(c) => {
                let posterior = Posterior::new(sample, c.latent_channels);
                let noise = noise();
                let drawn = noise.chunks_exact(posterior.mean.len()).flat_map(|n| posterior.sample(n));
                drawn.map(|v| (v - c.shift_factor.unwrap_or(0.0)) * c.scaling_factor).collect()
            }
        }
    }
}

/// A decoder ready for one latent size.
pub struct Decoder {
    /// Height and width of the latents.
    pub size: [u32; 2],
    pub tiles: Tiles,
    /// Of one tile.
    session: Session,
    coefficients: [f32; 4],
    /// Pixels for each cell along one side.
    factor: usize,
    packing: Option<Rc<Packing>>,
    /// The last image, if it came in tiles.
    blended: RefCell<Vec<f32>>,
}

impl Decoder {
    /// Executed FLOPs of an image.
    pub fn work(&self) -> f64 {
        decoding_work(&self.tiles, self.session.plan())
    }

    /// Of one tile.
    pub fn plan(&self) -> &Plan {
        self.session.plan()
    }

    /// `latent` is `[h, w, C]`. Returns rgba bytes, and what was wrong with the network's values.
    pub async fn decode(
        &self,
        latent: &[f32],
        cancel: &Cancel,
        progress: &dyn Fn(f64),
    ) -> Result<(Vec<u8>, Faults)> {
        self.session.reset_watch();
        let packing = self.packing.as_ref();
        let cells = packing.map(|packing| packing.cells(latent, self.size[1] as usize));
        let latent = cells.as_deref().unwrap_or(latent);
        if self.tiles.count() == 1 {
            self.run(latent, cancel, progress).await?;
            let (mut rgba, faults) = self.session.read_bytes_watched("pixels").await?;
            rgba.truncate(self.session.plan().outputs["sample"].shape.rows() as usize * 4);
            return Ok((rgba, faults));
        }
        let mut faults = Faults::default();
        let count = self.tiles.count();
        let mut mosaic = Mosaic::new(&self.tiles, self.factor);
        for i in 0..count {
            let progress = |fraction: f64| progress((i as f64 + fraction) / count as f64);
            self.run(&self.tiles.cut(latent, i), cancel, &progress).await?;
            let (sample, found) = self.session.read_watched("sample").await?;
            mosaic.lay(i, &sample);
            // The counters go on from tile to tile.
            faults = found;
        }
        let blended = mosaic.finish();
        let rgba = levels(&blended);
        self.blended.replace(blended);
        Ok((rgba, faults))
    }

    /// Halves of an image that the network's kernels look at for what is wrong with them.
    pub fn watched_halves(&self) -> u64 {
        self.tiles.count() as u64 * self.session.plan().watched_halves("vae")
    }

    async fn run(&self, latent: &[f32], cancel: &Cancel, progress: &dyn Fn(f64)) -> Result<()> {
        self.session.write("coefficients", &self.coefficients);
        self.session.write("input", latent);
        self.session.run("vae", cancel, progress).await
    }

    /// The last image as the network made it, `[H, W, 3]` in about [-1, 1].
    pub async fn sample(&self) -> Result<Vec<f32>> {
        match self.tiles.count() {
            1 => self.session.read("sample").await,
            _ => Ok(self.blended.borrow().clone()),
        }
    }
}

/// Executed FLOPs of an image whose tiles are decoded by one plan.
pub(super) fn decoding_work(tiles: &Tiles, plan: &Plan) -> f64 {
    tiles.count() as f64 * plan.work("vae")
}

/// What happens to an input first: a, b of `a x + b`.
fn coefficients(config: &VaeConfig, network: &Network) -> [f32; 4] {
    match (network, config) {
        (Network::KlDecoder(_), VaeConfig::Kl(c)) => {
            [1.0 / c.scaling_factor, c.shift_factor.unwrap_or(0.0), 0.0, 0.0]
        }
        (Network::TinyDecoder(_), VaeConfig::Tiny(c)) => [1.0 / c.scaling_factor, 0.0, 0.0, 0.0],
        (Network::DcDecoder(_), VaeConfig::Dc(c)) => [1.0 / c.scaling_factor, 0.0, 0.0, 0.0],
        // [-1, 1] to [0, 1]
        (Network::TinyEncoder(_), _) => [0.5, 0.5, 0.0, 0.0],
        _ => [1.0, 0.0, 0.0, 0.0],
    }
}

/// Section "vae": inputs "input" (`[N, h, w, C]`) and "coefficients"; output "sample" and, of a decoder,
/// "pixels".
pub fn vae_plan(
    network: &Network,
    config: &VaeConfig,
    target: &Target,
    images: u32,
    [h, w]: [u32; 2],
) -> Plan {
    let mut r = Recorder::new(target);
    r.section("vae");
    let colours = match config {
        VaeConfig::Kl(c) => c.in_channels,
        VaeConfig::Tiny(c) => c.in_channels,
        VaeConfig::Dc(_) => 3,
    };
    let decodes = matches!(network, Network::KlDecoder(_) | Network::TinyDecoder(_) | Network::DcDecoder(_));
    let channels = if decodes { config.cell_channels() } else { colours } as u32;
    let input = r.input("input", Shape::new(images, h, w, channels), Elem::F32);
    let coefficients = r.input("coefficients", Shape::new(1, 1, 1, 4), Elem::F32);
    let activation = match network {
        Network::TinyDecoder(_) => Activation::SoftClamp,
        _ => Activation::None,
    };
    let x = ops::scale(&mut r, input, coefficients, images, activation);
    let y = match network {
        Network::KlDecoder(n) => n.record(&mut r, x),
        Network::KlEncoder(n) => n.record(&mut r, x),
        Network::TinyDecoder(n) => n.record(&mut r, x),
        Network::TinyEncoder(n) => n.record(&mut r, x),
        Network::DcDecoder(n) => n.record(&mut r, x),
        Network::DcEncoder(n) => n.record(&mut r, x),
    };
    r.output("sample", y);
    if decodes {
        let pixels = ops::image(&mut r, y);
        r.output("pixels", pixels);
    }
    r.finish()
}
