//! Where a model comes from: its folder, what is added to its weights, and what works beside it.

use std::collections::HashSet;

use super::load_progress::Part;
use super::single::{Said, averages};
use crate::device::{Device, Weights};
use crate::error::{Error, Result};
use crate::schedule;
use crate::warning::{Topic, Warning};
use crate::weights::{
    Adapter, Checkpoint, Declarations, Folder, Handle, Hooks, Lora, Manifest, SingleFile, header, kind,
    places,
};

/// A file beside a model.
#[derive(Clone, Copy)]
pub struct FileIn<'a> {
    pub folder: &'a dyn Folder,
    pub path: &'a str,
}

impl<'a> FileIn<'a> {
    /// The folder itself, where it may take the place of a file.
    pub fn whole(folder: &'a dyn Folder) -> Self {
        FileIn { folder, path: "" }
    }
}

/// What comes with a model, each from a place of its own.
#[derive(Default)]
pub struct Additions<'a> {
    /// A file with the original names, whose weights take the place of those in the model's folder. What it lacks
    /// comes from the folder, and so do configurations, tokenizers and the scheduler.
    pub single_file: Option<FileIn<'a>>,
    /// Merged into the weights, with how strongly each counts: 1 is what it was trained for.
    pub loras: Vec<(FileIn<'a>, f32)>,
    /// Learned tokens of prompts (textual inversion).
    pub embeddings: Vec<FileIn<'a>>,
    /// ControlNets: folders ([`FileIn::whole`]), or files under the original names or diffusers'.
    pub controls: Vec<FileIn<'a>>,
    /// T2I-Adapters: folders ([`FileIn::whole`]), or files under the original names or diffusers'.
    pub adapters: Vec<FileIn<'a>>,
    /// The file of an IP-Adapter, or a folder with `ip-adapter.safetensors`; beside either lies `image_encoder`.
    pub ip_adapter: Option<FileIn<'a>>,
    pub safety_checker: Option<&'a dyn Folder>,
}

/// Where the weights of a model's own networks are, and what is added to them.
pub struct Origin<'a> {
    pub folder: &'a dyn Folder,
    single: Option<Single<'a>>,
    /// The folder is a pack.
    pack: Option<&'a Manifest>,
    loras: Vec<Adapter<'a>>,
}

/// A file beside a model's folder that holds several of its networks.
pub(super) struct Single<'a> {
    folder: &'a dyn Folder,
    pub file: SingleFile,
    said: Said,
}

impl<'a> Single<'a> {
    pub async fn open(file: FileIn<'a>) -> Result<Self> {
        let FileIn { folder, path } = file;
        let header = header(folder, path).await?;
        let places = places(&header);
        if places.is_empty() {
            let found = kind(&header).map_or("no network of one", |(what, _)| what);
            return Err(Error::model(format!(
                "{path}: wanted a model under the names of the original code, found {found}"
            )));
        }
        let mut said = Said::of(&header, path);
        let mut warnings = std::mem::take(&mut said.warnings);
        warnings.extend(averages(&places, path));
        let file = SingleFile { path: path.to_owned(), places, bytes: header.data_len(), warnings };
        Ok(Single { folder, file, said })
    }

    /// The folder's scheduler, as far as the file does not say otherwise what the model predicts.
    pub fn corrected(
        &self,
        mut scheduler: schedule::Config,
        warn: &dyn Fn(Warning),
    ) -> Result<schedule::Config> {
        let Said { velocity: Some(velocity), by, zero_snr, .. } = &self.said else { return Ok(scheduler) };
        let tell = |what: String| {
            warn(Warning::new(Topic::Configuration, format!("{}: the model {what}", self.file.path)));
        };
        let (wanted, found) =
            (if *velocity { "v_prediction" } else { "epsilon" }, scheduler.predicts().to_owned());
        if found != wanted {
            tell(format!(
                "predicts {wanted} by {by}, the folder's prediction_type is {found}: the file's is taken"
            ));
            scheduler = scheduler.with_key("prediction_type", wanted);
        }
        if *zero_snr {
            let (corrected, changed) = scheduler.with_zero_snr()?;
            changed.iter().for_each(|changed| tell(format!("has zero terminal SNR, the folder's {changed}")));
            scheduler = corrected;
        }
        Ok(scheduler)
    }
}

impl<'a> Origin<'a> {
    /// A folder in the diffusers layout as it is.
    pub fn of(folder: &'a dyn Folder) -> Self {
        Origin { folder, single: None, pack: None, loras: vec![] }
    }

    pub(super) fn new(
        folder: &'a dyn Folder,
        single: Option<Single<'a>>,
        pack: Option<&'a Manifest>,
        loras: &'a [Lora],
        scales: &[f32],
    ) -> Self {
        let loras = loras.iter().zip(scales).map(|(lora, &scale)| Adapter { lora, scale }).collect();
        Origin { folder, single, pack, loras }
    }

    /// The tensors of a component, which in the folder are in the files `stem`.
    pub(super) fn checkpoint<'b>(&'b self, component: &'b str, stem: &'b str) -> Checkpoint<'b> {
        let single = self.single.as_ref().and_then(|Single { folder, file, .. }| {
            Some(Checkpoint::single(*folder, &file.path, file.place(component)?))
        });
        let own = || match self.pack {
            Some(manifest) => Checkpoint::packed(self.folder, component, manifest),
            None => Checkpoint::new(self.folder, component, stem),
        };
        single.unwrap_or_else(own).with_loras(&self.loras)
    }
}

/// The weights of one of a model's networks, and what is needed to merge LoRAs into them again.
pub(super) struct Merged {
    pub weights: Weights,
    declarations: Declarations,
    component: String,
    stem: &'static str,
}

impl Merged {
    /// The first source of the declarations is the component, those of `beside` follow.
    pub async fn load(
        device: &Device,
        origin: &Origin<'_>,
        (component, stem): (&str, &'static str),
        declarations: Declarations,
        beside: Vec<Checkpoint<'_>>,
        hooks: Hooks<'_>,
    ) -> Result<Merged> {
        let mut checkpoints = vec![origin.checkpoint(component, stem)];
        checkpoints.extend(beside);
        let weights = Weights::load(device, &declarations, &checkpoints, hooks).await?;
        Ok(Merged { weights, declarations, component: component.to_owned(), stem })
    }

    /// What the LoRAs are for.
    pub fn touched(&self, origin: &Origin<'_>) -> Result<HashSet<Handle>> {
        origin.checkpoint(&self.component, self.stem).touched(&self.declarations, 0)
    }

    /// What is read again when it is touched: the model's own network.
    pub fn part(&self) -> Part {
        Part::of_values(self.declarations.parameters_of(0))
    }

    /// Reads what a LoRA touches again, with other scales.
    pub async fn merge(&self, origin: &Origin<'_>, hooks: Hooks<'_>) -> Result<()> {
        let checkpoint = origin.checkpoint(&self.component, self.stem);
        let handles = self.touched(origin)?;
        self.weights.reload(&self.declarations, &[checkpoint], &handles, hooks).await
    }
}
