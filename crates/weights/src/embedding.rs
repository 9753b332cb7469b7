//! Textual inversion: vectors that stand for a token that the vocabulary does not have.

use std::collections::BTreeMap;

use super::safetensors::TensorInfo;
use super::source::Folder;
use super::stream::{Hooks, Sink, stream_file};
use crate::error::{Error, Result};

/// A learned token.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// How prompts write it: the tensor's name, or that of a bundle's entry or the file, where the tensor has none of its
    /// own.
    pub token: String,
    /// The file's name, which a prompt may write as well if the file holds nothing else.
    pub stem: Option<String>,
    /// How many vectors it is; they take as many places in a prompt.
    pub count: usize,
    /// For each text encoder of the model, `[count, width]`.
    pub vectors: Vec<Vec<f32>>,
}

/// Tensors that are not named after their token: AUTOMATIC1111's, OneTrainer's (whose spelling it is), and a pickle's.
const UNNAMED: [&str; 3] = ["emb_params", "emp_params", "string_to_param.*"];

/// The tensors of files for SDXL, in the order of its text encoders.
const SDXL: [&str; 2] = ["clip_l", "clip_g"];

/// What files that hold several begin their names with: `bundle_emb.NAME.string_to_param.*`.
const BUNDLE: &str = "bundle_emb.";

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl Embedding {
    /// Reads a file of any name for a model whose text encoders have these widths: one, or SDXL's two.
    ///
    /// Errors: those of [`stream_file`], `InvalidModel` where the tensors are others than this model's encoders want, and
    /// `Unsupported` for vectors that are added behind an encoder.
    pub async fn read(
        folder: &dyn Folder,
        path: &str,
        widths: &[usize],
        hooks: Hooks<'_>,
    ) -> Result<Vec<Embedding>> {
        assert!(!widths.is_empty(), "a model without a text encoder");
        let mut all = All::default();
        stream_file(folder, path, &mut all, hooks).await?;
        let mut entries = BTreeMap::<Option<String>, Tensors>::new();
        for (name, tensor) in all.tensors {
            let (entry, name) = entry_of(&name);
            entries.entry(entry.map(str::to_owned)).or_default().insert(name.to_owned(), tensor);
        }
        if entries.is_empty() {
            entries.insert(None, Tensors::new());
        }
        let stem = (entries.len() == 1).then(|| stem(path).to_owned());
        let all = entries.iter().map(|(entry, tensors)| Self::of(path, entry.as_deref(), tensors, widths));
        all.map(|one| Ok(Embedding { stem: stem.clone(), ..one? })).collect()
    }

    /// That of one entry of a bundle, or of a whole file.
    fn of(path: &str, entry: Option<&str>, tensors: &Tensors, widths: &[usize]) -> Result<Embedding> {
        let found: Vec<&str> = tensors.keys().map(String::as_str).collect();
        if let Some(name) = found.iter().find(|name| name.ends_with("_out") && tensors.len() > 1) {
            return Err(Error::unsupported(format!(
                "{path}: {name}: vectors behind a text encoder are not supported, only those that it reads"
            )));
        }
        let names: Vec<&str> = match widths.len() {
            1 if found.len() == 1 => found.clone(),
            2 => SDXL.to_vec(),
            _ => vec!["one tensor"],
        };
        let mut vectors = vec![];
        for (name, &width) in names.iter().zip(widths) {
            let Some((shape, values)) = tensors.get(*name) else {
                return Err(Error::model(format!(
                    "{path}: wanted {} for {} text encoder(s), found {}",
                    names.join(" and "),
                    widths.len(),
                    if found.is_empty() { "nothing".to_owned() } else { found.join(", ") }
                )));
            };
            // Early files have one vector without a dimension for it.
            if !matches!(shape[..], [w] | [_, w] if w == width) || values.is_empty() {
                return Err(Error::model(format!(
                    "{path}: {name}: the text encoder asks for the shape [n, {width}], the file has {shape:?}"
                )));
            }
            vectors.push(values.clone());
        }
        let count = vectors[0].len() / widths[0];
        if vectors.iter().zip(widths).any(|(v, width)| v.len() != count * width) {
            return Err(Error::model(format!(
                "{path}: {} have different numbers of vectors",
                names.join(" and ")
            )));
        }
        let named_itself = names.len() == 1 && !UNNAMED.iter().chain(&SDXL).any(|name| *name == names[0]);
        let token = if named_itself { names[0] } else { entry.unwrap_or(stem(path)) };
        Ok(Embedding { token: token.to_owned(), stem: None, count, vectors })
    }
}

/// The bundle's entry that a tensor belongs to, if any, and its name there.
fn entry_of(name: &str) -> (Option<&str>, &str) {
    let entry = name.strip_prefix(BUNDLE).and_then(|rest| rest.split_once('.'));
    entry.map_or((None, name), |(entry, name)| (Some(entry), name))
}

/// Whether a tensor is a learned token's by its name. One that is alone in its file may have any name.
pub fn is_embedding(name: &str) -> bool {
    UNNAMED.iter().chain(&SDXL).any(|known| *known == entry_of(name).1)
}

/// "embeddings/easynegative.safetensors" to "easynegative".
fn stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.strip_suffix(".safetensors").unwrap_or(file)
}

/// Takes every tensor of a file: its shape and values.
#[derive(Default)]
struct All {
    tensors: Tensors,
}

impl Sink for All {
    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        self.tensors.insert(info.name.clone(), (info.shape.clone(), vec![]));
        Ok(true)
    }

    fn slab(&mut self, info: &TensorInfo, _: usize, _: usize, data: &[f32]) -> Result<()> {
        let (_, values) = self.tensors.get_mut(&info.name).expect("a tensor that was wanted");
        values.extend_from_slice(data);
        Ok(())
    }
}
