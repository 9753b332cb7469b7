//! What `tintype generate` takes beside a prompt and a model: images, the networks that see them, and what changes
//! the model.

use std::path::{Path, PathBuf};

use clap::Args;
use tintype::error::{Error, Result};
use tintype::pipeline::{Additions, ControlInput, FileIn, Request, Safety};
use tintype::weights::{DiskFolder, Folder};

use crate::model::{is_file, no_file, split};
use crate::picture::read_image;

#[derive(Args)]
pub struct Inputs {
    /// A .safetensors with the original names, whose weights replace the model folder's
    #[arg(long, value_name = "FILE")]
    single_file: Option<PathBuf>,
    /// A LoRA's .safetensors; may be given several times
    #[arg(long, value_name = "FILE")]
    lora: Vec<PathBuf>,
    /// How much each LoRA counts [default: 1]
    #[arg(long, value_name = "SCALE")]
    lora_scale: Vec<f32>,
    /// A learned token's .safetensors (textual inversion); may be given several times
    #[arg(long, value_name = "FILE")]
    embedding: Vec<PathBuf>,
    /// A PNG, JPEG or WebP to begin from (image to image)
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A picture to edit, for a model that knows how (FLUX.2); may be given several times, and follows --image
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
    /// An image whose white parts are made anew (inpainting)
    #[arg(long, value_name = "FILE", requires = "image")]
    mask: Option<PathBuf>,
    /// How much of the image is noise at first: above 0 to 1; by default 0.8, with a mask 1
    #[arg(long, requires = "image")]
    strength: Option<f64>,
    /// A ControlNet's folder, or its .safetensors; may be given several times
    #[arg(long, value_name = "PATH")]
    control: Vec<PathBuf>,
    /// What the ControlNet sees, one image for each
    #[arg(long, value_name = "FILE")]
    control_image: Vec<PathBuf>,
    /// How much each ControlNet counts [default: 1]
    #[arg(long, value_name = "SCALE")]
    control_scale: Vec<f32>,
    /// The share of the steps from which ControlNets are active
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "control")]
    control_start: f64,
    /// The share of the steps up to which ControlNets are active
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, requires = "control")]
    control_end: f64,
    /// Let the ControlNets guess what the image is, even without a prompt
    #[arg(long, requires = "control")]
    guess_mode: bool,
    /// A T2I-Adapter's folder, or its .safetensors; may be given several times
    #[arg(long, value_name = "PATH")]
    t2i_adapter: Vec<PathBuf>,
    /// What the T2I-Adapter sees, one image for each
    #[arg(long, value_name = "FILE")]
    t2i_image: Vec<PathBuf>,
    /// How much each T2I-Adapter counts [default: 1]
    #[arg(long, value_name = "SCALE")]
    t2i_scale: Vec<f32>,
    /// An IP-Adapter's .safetensors (plain, plus or full face) beside image_encoder, or a folder with ip-adapter.safetensors
    #[arg(long, value_name = "PATH", requires = "image_prompt")]
    ip_adapter: Option<PathBuf>,
    /// An image as a prompt, for the IP-Adapter
    #[arg(long, value_name = "FILE", requires = "ip_adapter")]
    image_prompt: Option<PathBuf>,
    /// How much the image prompt counts
    #[arg(long, value_name = "SCALE", default_value_t = 1.0, requires = "image_prompt")]
    image_prompt_scale: f32,
    /// A safety checker's folder
    #[arg(long, value_name = "DIR")]
    safety_checker: Option<PathBuf>,
    /// What is done about unsafe images: off, flag or block
    #[arg(long, default_value = "off")]
    safety: String,
}

/// The folders of the networks beside a model's own.
pub struct Folders {
    single_file: Option<FileOnDisk>,
    loras: Vec<(FileOnDisk, f32)>,
    embeddings: Vec<FileOnDisk>,
    controls: Vec<FileOnDisk>,
    adapters: Vec<FileOnDisk>,
    ip_adapter: Option<FileOnDisk>,
    safety_checker: Option<DiskFolder>,
}

/// A file and its folder, or a folder and no name.
struct FileOnDisk {
    folder: DiskFolder,
    name: String,
}

impl FileOnDisk {
    fn new(path: &Path) -> Result<FileOnDisk> {
        let (folder, name) = split(path)?;
        Ok(FileOnDisk { folder: DiskFolder::new(folder), name: name.to_owned() })
    }

    fn or_folder(path: &PathBuf) -> Result<FileOnDisk> {
        match is_file(path)? {
            true => FileOnDisk::new(path),
            false => Ok(FileOnDisk { folder: DiskFolder::new(path), name: String::new() }),
        }
    }

    fn file(&self) -> FileIn<'_> {
        FileIn { folder: &self.folder, path: &self.name }
    }
}

impl Folders {
    pub fn additions(&self) -> Additions<'_> {
        Additions {
            single_file: self.single_file.as_ref().map(FileOnDisk::file),
            loras: self.loras.iter().map(|(file, scale)| (file.file(), *scale)).collect(),
            embeddings: self.embeddings.iter().map(FileOnDisk::file).collect(),
            controls: self.controls.iter().map(FileOnDisk::file).collect(),
            adapters: self.adapters.iter().map(FileOnDisk::file).collect(),
            ip_adapter: self.ip_adapter.as_ref().map(FileOnDisk::file),
            safety_checker: self.safety_checker.as_ref().map(|folder| -> &dyn Folder { folder }),
        }
    }
}

impl Inputs {
    pub fn folders(&self) -> Result<Folders> {
        let all = |paths: &[PathBuf]| paths.iter().map(FileOnDisk::or_folder).collect::<Result<Vec<_>>>();
        let checker = |path: &PathBuf| {
            no_file("safety-checker", path)?;
            Ok(DiskFolder::new(path))
        };
        let file = |path: &PathBuf| FileOnDisk::new(path);
        let loras = scaled("lora", "lora", &self.lora, &self.lora_scale)?;
        Ok(Folders {
            single_file: self.single_file.as_ref().map(file).transpose()?,
            loras: loras.map(|(path, scale)| Ok((file(path)?, scale))).collect::<Result<_>>()?,
            embeddings: self.embedding.iter().map(file).collect::<Result<_>>()?,
            controls: all(&self.control)?,
            adapters: all(&self.t2i_adapter)?,
            ip_adapter: self.ip_adapter.as_ref().map(FileOnDisk::or_folder).transpose()?,
            safety_checker: self.safety_checker.as_ref().map(checker).transpose()?,
        })
    }

    /// Whether there is anything beside the model.
    pub fn adds(&self) -> bool {
        let lists = [&self.lora, &self.embedding, &self.control, &self.t2i_adapter];
        let paths = [&self.single_file, &self.ip_adapter, &self.safety_checker];
        lists.iter().any(|list| !list.is_empty()) || paths.iter().any(|path| path.is_some())
    }

    /// Whether the model needs its autoencoder's encoder.
    pub fn encodes(&self) -> bool {
        self.image.is_some() || !self.reference.is_empty()
    }

    /// The request with its images.
    pub fn add_to(&self, request: Request) -> Result<Request> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(read_image).transpose();
        let controls = pairs("control", "control", &self.control, &self.control_image, &self.control_scale)?;
        let controls = controls.into_iter().map(|(path, scale)| {
            let picture = read_image(path)?;
            Ok(ControlInput { picture, scale, start: self.control_start, end: self.control_end })
        });
        let adapters = pairs("t2i-adapter", "t2i", &self.t2i_adapter, &self.t2i_image, &self.t2i_scale)?;
        let adapters = adapters.into_iter().map(|(path, scale)| Ok((read_image(path)?, scale)));
        Ok(Request {
            image: read(&self.image)?,
            references: self.reference.iter().map(|path| read_image(path)).collect::<Result<_>>()?,
            mask: read(&self.mask)?,
            strength: self.strength,
            controls: controls.collect::<Result<_>>()?,
            guess_mode: self.guess_mode,
            adapters: adapters.collect::<Result<_>>()?,
            image_prompt: read(&self.image_prompt)?.map(|picture| (picture, self.image_prompt_scale)),
            safety: Safety::parse(&self.safety)?,
            ..request
        })
    }
}

/// An image and a scale for each folder.
fn pairs<'a>(
    name: &str,
    short: &str,
    folders: &[PathBuf],
    pictures: &'a [PathBuf],
    scales: &[f32],
) -> Result<Vec<(&'a PathBuf, f32)>> {
    let (wanted, found) = (folders.len(), pictures.len());
    if wanted != found {
        return Err(Error::option(format!(
            "--{short}-image: wanted one for each --{name}, {wanted}, found {found}"
        )));
    }
    Ok(scaled(name, short, pictures, scales)?.collect())
}

/// A scale for each path.
fn scaled<'a>(
    name: &str,
    short: &str,
    paths: &'a [PathBuf],
    scales: &[f32],
) -> Result<impl Iterator<Item = (&'a PathBuf, f32)>> {
    let (wanted, found) = (paths.len(), scales.len());
    if found != 0 && found != wanted {
        return Err(Error::option(format!(
            "--{short}-scale: wanted none or one for each --{name}, {wanted}, found {found}"
        )));
    }
    Ok(paths.iter().zip(scales.iter().copied().chain(std::iter::repeat(1.0))))
}
