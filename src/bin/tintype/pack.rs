//! `tintype pack`: a model folder to one whose weights are stored as they are computed with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use tintype::device::Device;
use tintype::error::{Error, Result};
use tintype::pipeline::{LoadOptions, Pipeline};
use tintype::weights::{DiskFolder, DiskKeep, Folder, Hooks, Keeping, MANIFEST, Manifest, Recorded};

use crate::building::{Building, checked};
use crate::generate::Bar;

#[derive(Args)]
pub struct Options {
    /// A model folder in the diffusers layout, a single .safetensors file under the original names, or "builtin"
    #[arg(long, value_name = "DIR|FILE")]
    model: String,
    #[command(flatten)]
    components: crate::model::Components,
    /// How weights are stored: f32, f16, q8 or q4
    #[arg(long)]
    weights: String,
    /// How the autoencoder's weights are stored; by default as --weights, or q8 for q4
    #[arg(long, value_name = "WEIGHTS")]
    decoder_weights: Option<String>,
    /// Pack the autoencoder's encoder too: for images as input
    #[arg(long)]
    image_input: bool,
    /// Where the model came from; by default --model
    #[arg(long)]
    source: Option<String>,
    /// The source's revision
    #[arg(long)]
    revision: Option<String>,
    /// The model's licence
    #[arg(long)]
    license: Option<String>,
    /// A new or an empty folder for the pack
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub async fn run(options: &Options) -> Result<bool> {
    match options.model.as_str() {
        "builtin" => {
            options.components.none("builtin")?;
            pack(crate::builtin::folder()?, options).await
        }
        path => pack(options.components.model(Path::new(path)).await?, options).await,
    }
}

async fn pack(folder: impl Folder, options: &Options) -> Result<bool> {
    let mut load = LoadOptions::parse(&options.weights, "auto")?;
    load.decoder = LoadOptions::decoder(options.decoder_weights.as_deref())?;
    load.encoder = options.image_input;
    checked("--out", &options.out)?;
    if Manifest::of(&folder).await?.is_some() {
        return Err(Error::option(format!("--model: wanted a checkpoint, {} is a pack", folder.describe())));
    }
    let building = Building::new("--out", &options.out)?;
    let bar = Bar::new();
    let progress = |read: u64, total: Option<u64>| {
        bar.show("packing", total.map_or(0.0, |t| read as f64 / t.max(1) as f64));
    };
    let keeping = Rc::new(Keeping::new(DiskKeep::new(&building.folder)));
    let recorded = Recorded::new(folder, Some(keeping.clone()));
    let hooks = Hooks { progress: &progress, keeping: Some(&keeping), ..Hooks::NONE };
    // Loading is what packs: the model is refused here if it could not be loaded later.
    let loaded = Pipeline::load(&Device::Cpu, &recorded, &load, hooks).await;
    bar.clear();
    let loaded = loaded?;
    // What is said of the files, not of values, no load of the pack says again.
    crate::warn(loaded.warnings());
    let [weights, decoder] = loaded.formats;
    let manifest = Manifest {
        source: options.source.clone().unwrap_or_else(|| options.model.clone()),
        revision: options.revision.clone(),
        license: options.license.clone(),
        weights,
        decoder,
        files: BTreeMap::new(),
    };
    let manifest = keeping.finish(&DiskFolder::new(&building.folder), manifest).await?;
    fs::write(building.folder.join(MANIFEST), manifest.to_json())
        .map_err(|e| Error::network(format!("cannot write {MANIFEST}: {e}")))?;
    building.finish("--out")?;
    let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
    let (out, files) = (options.out.display(), manifest.files.len() + 1);
    crate::tell(format_args!("{out}: {files} files, {:.1} MB", bytes as f64 / 1e6));
    Ok(true)
}
