//! `--model`: a folder in the diffusers layout, or a single file alone, with the folders of components beside it.

use std::path::{Path, PathBuf};

use clap::Args;
use tintype::error::{Error, Result};
use tintype::model::config::ModelIndex;
use tintype::pipeline::ModelFiles;
use tintype::weights::{DiskFolder, refuse_pickle};

use crate::output::folder_of;

/// Pairs of tokens that become one, of CLIP's vocabulary.
const MERGES: &[u8] = include_bytes!("../../../models/clip/merges.bin");

/// Folders of components, which take the place of the model's own.
#[derive(Args, Default)]
pub struct Components {
    /// The folder of another U-Net
    #[arg(long, value_name = "DIR")]
    unet: Option<PathBuf>,
    /// The folder of another transformer
    #[arg(long, value_name = "DIR")]
    transformer: Option<PathBuf>,
    /// The folder of another autoencoder, or of one for a single file that has none
    #[arg(long, value_name = "DIR")]
    vae: Option<PathBuf>,
    /// The folder of another text encoder
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
    /// The folder of another second text encoder (SDXL)
    #[arg(long = "text-encoder-2", value_name = "DIR")]
    text_encoder_2: Option<PathBuf>,
    /// The folder of another third text encoder (SD 3)
    #[arg(long = "text-encoder-3", value_name = "DIR")]
    text_encoder_3: Option<PathBuf>,
    /// The folder of another tokenizer
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// The folder of another second tokenizer (SDXL)
    #[arg(long = "tokenizer-2", value_name = "DIR")]
    tokenizer_2: Option<PathBuf>,
    /// The folder of another third tokenizer (SD 3)
    #[arg(long = "tokenizer-3", value_name = "DIR")]
    tokenizer_3: Option<PathBuf>,
}

impl Components {
    fn given(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [
            ("unet", &self.unet),
            ("transformer", &self.transformer),
            ("vae", &self.vae),
            ("text_encoder", &self.text_encoder),
            ("text_encoder_2", &self.text_encoder_2),
            ("text_encoder_3", &self.text_encoder_3),
            ("tokenizer", &self.tokenizer),
            ("tokenizer_2", &self.tokenizer_2),
            ("tokenizer_3", &self.tokenizer_3),
        ];
        all.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?)))
    }

    /// That there are none beside a model that has no components of its own.
    pub fn none(&self, model: &str) -> Result<()> {
        match self.given().next() {
            None => Ok(()),
            Some((name, _)) => Err(Error::option(format!(
                "{}: wanted a model whose components can be replaced, found {model}",
                option(name)
            ))),
        }
    }

    /// That a model's index has every component that is given.
    fn check_used(&self, root: &Path) -> Result<()> {
        // One that is none is told where it is read.
        let Ok(bytes) = std::fs::read(root.join("model_index.json")) else { return Ok(()) };
        let Ok(index) = ModelIndex::from_json(&bytes, "model_index.json") else { return Ok(()) };
        match self.given().find(|(name, _)| index.class(name).is_none()) {
            None => Ok(()),
            Some((name, _)) => Err(Error::option(format!(
                "{}: wanted a part that the model has, found no {name} in its model_index.json",
                option(name)
            ))),
        }
    }

    /// A model's files.
    pub async fn model(&self, path: &Path) -> Result<ModelFiles<DiskFolder>> {
        let (root, single) = match is_file(path)? {
            true => split(path).map(|(folder, file)| (folder, Some(file)))?,
            false => (path, None),
        };
        let mut folder = DiskFolder::new(root);
        for (name, path) in self.given() {
            no_file(name, path)?;
            folder = folder.with(name, path);
        }
        let Some(file) = single else {
            self.check_used(root)?;
            return Ok(ModelFiles::folder(folder));
        };
        let given = self.given().map(|(name, _)| name.to_owned()).collect();
        ModelFiles::single(folder, file, given, Some(MERGES.into())).await
    }
}

/// Whether a model is one file.
pub fn is_file(path: &Path) -> Result<bool> {
    refuse_pickle(&path.to_string_lossy())?;
    let is =
        |end: &std::ffi::OsStr| ["safetensors", "sft"].iter().any(|known| end.eq_ignore_ascii_case(known));
    Ok(path.extension().is_some_and(is))
}

/// A file's folder and its name there.
pub fn split(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::option(format!("{}: wanted a file", path.display())))?;
    Ok((folder_of(path), name))
}

/// That what is wanted as a folder is none of the files that people have instead.
pub fn no_file(component: &str, path: &Path) -> Result<()> {
    refuse_pickle(&path.to_string_lossy())?;
    match path.is_file() {
        false => Ok(()),
        true => Err(Error::option(format!(
            "{}: wanted a folder in the diffusers layout, found the file {}",
            option(component),
            path.display()
        ))),
    }
}

/// The option that names the folder of a component.
fn option(component: &str) -> String {
    format!("--{}", component.replace('_', "-"))
}
