//! Textual inversion: vectors that stand for a token that the vocabulary does not have.

use std::collections::BTreeMap;

use super::safetensors::TensorInfo;
use super::source::Folder;
use super::stream::{Hooks, Sink, stream_file};
use crate::error::{Error, Result};
use crate::warning::{Topic, Warning};

/// A learned token.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// How prompts write it: the tensor's name, or the file's where the tensor has none of its own.
    pub token: String,
    /// How many vectors it is; they take as many places in a prompt.
    pub count: usize,
    /// For each text encoder of the model, `[count, width]`.
    pub vectors: Vec<Vec<f32>>,
}

/// The tensor of a file that is named after its token.
const UNNAMED: &str = "emb_params";

/// The tensors of files for SDXL, in the order of its text encoders.
const SDXL: [&str; 2] = ["clip_l", "clip_g"];

impl Embedding {
    /// Reads a file of any name for a model whose text encoders have these widths: one, or SDXL's two.
    ///
    /// Errors: those of [`stream_file`], and `InvalidModel` where the tensors are others than this model's
    /// encoders want.
    pub async fn read<F: Folder>(
        folder: &F,
        path: &str,
        widths: &[usize],
        hooks: Hooks<'_>,
    ) -> Result<Embedding> {
        assert!(!widths.is_empty(), "a model without a text encoder");
        let mut all = All::default();
        stream_file(folder, path, &mut all, hooks).await?;
        let found: Vec<&str> = all.tensors.keys().map(String::as_str).collect();
        let names: Vec<&str> = match widths.len() {
            1 if found.len() == 1 => found.clone(),
            2 => SDXL.to_vec(),
            _ => vec!["one tensor"],
        };
        let mut vectors = vec![];
        for (name, &width) in names.iter().zip(widths) {
            let Some((shape, values)) = all.tensors.get(*name) else {
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
        let flawed = |values: &Vec<f32>| values.iter().any(|v| !v.is_finite());
        if let Some((name, _)) = names.iter().zip(&vectors).find(|(_, values)| flawed(values)) {
            (hooks.warn)(Warning::new(
                Topic::NotFinite,
                format!(
                    "{path}: {name} holds values that are infinite or not a number: no image can come of prompts with it"
                ),
            ));
        }
        let named_itself = names.len() == 1 && ![UNNAMED, SDXL[0], SDXL[1]].contains(&names[0]);
        let token = if named_itself { names[0] } else { stem(path) };
        Ok(Embedding { token: token.to_owned(), count, vectors })
    }
}

/// "embeddings/easynegative.safetensors" to "easynegative".
fn stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.strip_suffix(".safetensors").unwrap_or(file)
}

/// Takes every tensor of a file: its shape and values.
#[derive(Default)]
struct All {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
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
