//! A single file alone as a model: a folder whose weights are the file's, and whose other files follow from its header.

mod configs;
mod family;

use std::borrow::Cow;
use std::cell::OnceCell;

use async_trait::async_trait;

use self::configs::{UnetShape, View, scheduler};
pub use self::family::{Family, Prediction, Said};
use crate::error::{Error, Result};
use crate::tokenizer::{CLIP_TOKENS, clip_files};
use crate::warning::{Topic, Warning};
use crate::weights::{
    Folder, Header, MemoryFile, OpenFile, Place, SingleFile, header_and, join, kind, places,
};

/// What a header tells of a model.
pub struct Described {
    pub family: Family,
    /// "BK-SDM tiny" and the like, if layers were pruned.
    pub pruned: Option<&'static str>,
    pub inpainting: bool,
    pub prediction: Prediction,
    /// Components that the model needs and the file has, and those that it lacks.
    pub present: Vec<&'static str>,
    pub missing: Vec<&'static str>,
    pub file: SingleFile,
    /// The small files of a folder, by their paths.
    files: Vec<(String, String)>,
    /// Text encoders that are not made for CLIP's vocabulary: by their tokenizers, how many tokens they know.
    foreign: Vec<(&'static str, usize)>,
}

/// Training steps of SD 2.x's base, which predicts noise, by which diffusers knows it.
const BASE_STEPS: u64 = 875_000;

impl Described {
    /// Reads the header alone. `given` are components that come from elsewhere.
    ///
    /// Errors are those of a header that is none, and `Unsupported` for what is no model of a family that is built, by
    /// its name.
    pub async fn read(folder: &dyn Folder, path: &str, given: &[String]) -> Result<Described> {
        Described::read_with_header(folder, path, given).await?.1
    }

    /// The header too, which is one whatever it is of.
    pub async fn read_with_header(
        folder: &dyn Folder,
        path: &str,
        given: &[String],
    ) -> Result<(Header, Result<Described>)> {
        let (header, steps) = header_and(folder, path, "global_step").await?;
        let steps = steps.map(|bytes| bytes.iter().rev().fold(0, |n: u64, &byte| n << 8 | u64::from(byte)));
        let described = Described::of(&header, path, given, steps);
        Ok((header, described))
    }

    fn of(header: &Header, path: &str, given: &[String], steps: Option<u64>) -> Result<Described> {
        let refused = |what: &str| {
            Err(Error::unsupported(format!("{path} is {what}, supported are SD 1.x, SD 2.x and SDXL")))
        };
        if let Some((what, true)) = kind(header) {
            return refused(what);
        }
        let mut places = places(header);
        places.retain(|place| !given.iter().any(|component| component == place.component));
        let place = |component: &str| places.iter().find(|place| place.component == component).copied();
        let view = |component| place(component).map(|place| View { header, place });
        let unet_given = given.iter().any(|component| component == "unet");
        let Some(unet) = view("unet") else {
            let found = kind(header).map_or("no network of such a model", |(what, _)| what);
            let more = if unet_given { "only files that have a U-Net tell what they are" } else { found };
            return Err(Error::model(format!(
                "{path}: wanted a model under the names of the original code with a U-Net \
                 (model.diffusion_model.input_blocks.0.0.weight), found {more}"
            )));
        };
        let shape = unet.unet();
        let family = match &shape {
            UnetShape { added: Some(_), .. } => Family::Sdxl,
            UnetShape { linear: true, .. } => Family::Sd2,
            UnetShape { .. } => Family::Sd1,
        };
        if family == Family::Sdxl && place("text_encoder").is_some_and(|p| p.prefix.starts_with("cond_")) {
            return refused("SD 2.x unCLIP, which draws variations of images");
        }
        let inpainting = shape.in_channels == 2 * shape.out_channels + 1;
        if shape.in_channels != shape.out_channels && !inpainting {
            let what = match shape.in_channels {
                8 => "InstructPix2Pix",
                7 => "an upscaler",
                5 => "a depth model",
                _ => "a model of another task",
            };
            return refused(&format!("{what}, whose U-Net has {} input channels", shape.in_channels));
        }
        let mut warnings = vec![];
        let mut warn =
            |message: String| warnings.push(Warning::new(Topic::Configuration, format!("{path}: {message}")));
        let said = Said::of(header, path);
        let velocity = said.velocity.unwrap_or_else(|| {
            let guess = family == Family::Sd2 && !inpainting && steps != Some(BASE_STEPS);
            if guess {
                warn(
                    "nothing in it says whether the model predicts velocity or noise: v_prediction is a guess, as \
                     diffusers makes it for SD 2.x (metadata modelspec.prediction_type would say it)"
                        .to_owned(),
                );
            }
            guess
        });
        warnings.extend(said.warnings);
        warnings.extend(averages(&places, path));
        let prediction = Prediction { velocity, zero_snr: said.zero_snr };
        let wanted: &[&str] = match family {
            Family::Sdxl => &["unet", "vae", "text_encoder", "text_encoder_2"],
            _ => &["unet", "vae", "text_encoder"],
        };
        let (present, absent): (Vec<&str>, Vec<&str>) =
            wanted.iter().partition(|component| place(component).is_some());
        let missing = absent.into_iter().filter(|c| !given.iter().any(|given| given == c)).collect();
        let mut described = Described {
            family,
            pruned: shape.pruned(),
            inpainting,
            prediction,
            present,
            missing,
            files: vec![],
            foreign: vec![],
            file: SingleFile { path: path.to_owned(), bytes: header.data_len(), places: vec![], warnings },
        };
        let files = &mut described.files;
        let mut insert =
            |component: &str, file: &str, json: String| files.push((join(component, file), json));
        insert("", "model_index.json", index(family, wanted));
        insert("scheduler", "scheduler_config.json", scheduler(family, inpainting, prediction));
        let pooled = view("text_encoder_2").and_then(|view| view.projection());
        let size = side(header, family, velocity);
        insert("unet", "config.json", shape.config(family, size, pooled));
        if let Some(view) = view("vae") {
            insert("vae", "config.json", view.vae(family));
        }
        for (tokenizer, component) in [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")] {
            // SD 2.x and SDXL's second fill what is left of a text with exclamation marks.
            let pad = match component == "text_encoder_2" || family == Family::Sd2 {
                true => "!",
                false => "<|endoftext|>",
            };
            insert(
                tokenizer,
                "tokenizer_config.json",
                format!(r#"{{"pad_token":"{pad}","model_max_length":77}}"#),
            );
            if let Some(view) = view(component) {
                insert(component, "config.json", view.text(family));
                let tokens = view.vocabulary();
                if tokens != CLIP_TOKENS {
                    described.foreign.push((tokenizer, tokens));
                }
            }
        }
        described.file.places = places;
        Ok(described)
    }

    /// The family in words.
    pub fn name(&self) -> String {
        let of = self.pruned.map_or(String::new(), |pruned| format!(", {pruned}"));
        format!("{}{of}{}", self.family.as_str(), if self.inpainting { ", inpainting" } else { "" })
    }
}

/// What is said of a file that has no weights of the U-Net but their averages over the training.
pub(super) fn averages(places: &[Place], path: &str) -> Option<Warning> {
    let only = places.iter().any(|place| place.prefix.starts_with("model_ema"));
    let message = format!("{path} has only averages of the U-Net's weights (model_ema): they are used");
    only.then(|| Warning::new(Topic::Configuration, message))
}

/// `model_index.json`.
fn index(family: Family, networks: &[&str]) -> String {
    let xl = if family == Family::Sdxl { "XL" } else { "" };
    let entry = |component: &&str| format!(r#","{component}":["tintype","{component}"]"#);
    format!(
        r#"{{"_class_name":"StableDiffusion{xl}Pipeline","force_zeros_for_empty_prompt":true{}}}"#,
        networks.iter().map(entry).collect::<String>()
    )
}

/// The side of a latent: the metadata's, or what the family was trained for.
fn side(header: &Header, family: Family, velocity: bool) -> usize {
    let said = header.metadata.get("modelspec.resolution").and_then(|text| text.split_once('x'));
    let said =
        said.filter(|(width, height)| width == height).and_then(|(side, _)| side.parse::<usize>().ok());
    match (said, family) {
        (Some(pixels @ 64..=8192), _) => pixels / 8,
        (_, Family::Sdxl) => 128,
        (_, Family::Sd2) if velocity => 96,
        _ => 64,
    }
}

/// A model's files: a folder as it is, or a single file that is seen as one.
pub struct ModelFiles<F> {
    folder: F,
    single: Option<Single>,
}

struct Single {
    described: Described,
    /// Components that the folder has.
    given: Vec<String>,
    /// CLIP's merges, where prompts will be read.
    merges: Option<Cow<'static, [u8]>>,
    /// What is made of them, once it is asked for.
    vocabulary: OnceCell<Option<[String; 2]>>,
}

impl<F> ModelFiles<F> {
    pub fn folder(folder: F) -> Self {
        ModelFiles { folder, single: None }
    }

    /// What the file's header told, where one stands for the model.
    pub fn described(&self) -> Option<&Described> {
        self.single.as_ref().map(|single| &single.described)
    }
}

impl<F: Folder> ModelFiles<F> {
    /// The file at `path` in `folder`, of which nothing else is looked at but the components that are `given` there.
    pub async fn single(
        folder: F,
        path: &str,
        given: Vec<String>,
        merges: Option<Cow<'static, [u8]>>,
    ) -> Result<Self> {
        let described = Described::read(&folder, path, &given).await?;
        let single = Single { described, given, merges, vocabulary: OnceCell::new() };
        Ok(ModelFiles { folder, single: Some(single) })
    }

    /// A file that was described already, by whose files no prompt will be read.
    pub fn of_described(folder: F, described: Described) -> Self {
        let single = Single { described, given: vec![], merges: None, vocabulary: OnceCell::new() };
        ModelFiles { folder, single: Some(single) }
    }
}

impl Single {
    /// Whether the folder has the file.
    fn stored(&self, path: &str) -> bool {
        let component = path.split('/').next().unwrap_or_default();
        path == self.described.file.path || self.given.iter().any(|given| given == component)
    }

    /// A file that follows from the header, or from the vocabulary.
    fn made(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let (component, file) = path.split_once('/').unwrap_or(("", path));
        let Described { files, missing, foreign, file: SingleFile { path: single, .. }, .. } =
            &self.described;
        if missing.contains(&component) {
            let options: Vec<String> = missing.iter().map(|component| option(component)).collect();
            return Err(Error::not_found(format!(
                "{single} has no {}: what it lacks comes from a folder, which is named by {}",
                missing.join(" and no "),
                options.join(" and ")
            )));
        }
        let at = match file {
            "vocab.json" => 0,
            "merges.txt" => 1,
            _ => {
                let found = files.iter().find(|(made, _)| made == path);
                return Ok(found.map(|(_, json)| json.clone().into_bytes()));
            }
        };
        if let Some((_, tokens)) = foreign.iter().find(|(tokenizer, _)| *tokenizer == component) {
            return Err(Error::model(format!(
                "{single}: the text encoder knows {tokens} tokens, CLIP's vocabulary has {CLIP_TOKENS}: the folder of \
                 its own is named by {}",
                option(component)
            )));
        }
        let made = self.vocabulary.get_or_init(|| self.merges.as_deref().and_then(clip_files));
        let made = made.as_ref().ok_or_else(|| Error::model("CLIP's merges are damaged"))?;
        Ok(Some(made[at].clone().into_bytes()))
    }
}

/// How a caller names the folder of a component.
fn option(component: &str) -> String {
    match cfg!(target_arch = "wasm32") {
        true => format!("components.{component}"),
        false => format!("--{} DIR", component.replace('_', "-")),
    }
}

#[async_trait(?Send)]
impl<F: Folder> Folder for ModelFiles<F> {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        self.open_at(path, 0, false).await
    }

    async fn open_at(&self, path: &str, begin: u64, fresh: bool) -> Result<Option<OpenFile>> {
        match self.single.as_ref().filter(|single| !single.stored(path)) {
            None => self.folder.open_at(path, begin, fresh).await,
            Some(single) => {
                let Some(bytes) = single.made(path)? else { return Ok(None) };
                let rest = bytes[bytes.len().min(begin as usize)..].to_vec();
                Ok(Some(Box::new(MemoryFile::new(rest))))
            }
        }
    }

    fn sha256(&self, path: &str) -> Option<String> {
        self.folder.sha256(path)
    }

    fn hashed(&self, path: &str, sha256: &str) {
        self.folder.hashed(path, sha256);
    }

    fn describe(&self) -> String {
        self.folder.describe()
    }

    fn single(&self) -> Option<&SingleFile> {
        self.described().map(|described| &described.file)
    }
}
