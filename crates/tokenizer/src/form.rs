//! What a `tokenizer.json` says beside its vocabulary. It is looked at before the `tokenizers` crate reads the file: some of
//! the parts that the crate knows are random, and some it does not check before it relies on them.

use serde::Deserialize;
use serde_json::Value;

use crate::charsmap;

#[derive(Deserialize)]
pub struct Form {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    unk_id: Option<usize>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

/// A part of a tokenizer: its key, the key of the list in a sequence of them, the types that are known here.
type Part<'a> = (&'a str, &'a str, &'a Value, &'a [&'a str]);

impl Form {
    /// What is wrong with it, in words.
    pub fn check(&self) -> Result<(), String> {
        let Model { r#type, dropout, unk_id, continuing_subword_prefix: prefix, .. } = &self.model;
        match r#type.as_deref() {
            // Without one the crate stops at the first letter that the vocabulary lacks.
            Some("Unigram") if unk_id.is_none() => return Err("model.unk_id is missing".to_owned()),
            Some("Unigram" | "BPE") => {}
            found => return Err(format!("model.type: wanted \"Unigram\" or \"BPE\", found {found:?}")),
        }
        if let Some(found) = dropout.filter(|dropout| *dropout != 0.0) {
            return Err(format!("model.dropout: wanted 0, found {found}"));
        }
        if let Some(found) = prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
            return Err(format!("model.continuing_subword_prefix: wanted \"\", found {found:?}"));
        }
        let normalizers =
            ["Precompiled", "Strip", "Replace", "Prepend", "NFC", "NFD", "NFKC", "NFKD", "Lowercase"];
        let pre_tokenizers = ["Metaspace", "WhitespaceSplit", "Split", "ByteLevel", "Digits"];
        let decoders = ["Metaspace", "Replace", "ByteFallback", "Fuse", "ByteLevel"];
        let parts: [Part<'_>; 3] = [
            ("normalizer", "normalizers", &self.normalizer, &normalizers),
            ("pre_tokenizer", "pretokenizers", &self.pre_tokenizer, &pre_tokenizers),
            ("decoder", "decoders", &self.decoder, &decoders),
        ];
        parts.into_iter().filter(|(_, _, part, _)| !part.is_null()).try_for_each(check)
    }

    /// The tokens that were added, each with its id.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, u32)> {
        self.added_tokens.iter().map(|token| (token.content.as_str(), token.id))
    }

    /// The token of letters that a BPE vocabulary lacks.
    pub fn unknown(&self) -> Option<&str> {
        self.model.unk_token.as_deref()
    }
}

fn check((key, list, part, known): Part<'_>) -> Result<(), String> {
    match part["type"].as_str() {
        Some("Sequence") => {
            let parts = part[list].as_array().ok_or_else(|| format!("{key}.{list} is no list"))?;
            parts.iter().try_for_each(|part| check((key, list, part, known)))
        }
        Some("Precompiled") => {
            let map = part["precompiled_charsmap"].as_str().and_then(|map| base64::decode(map).ok());
            let map = map.ok_or_else(|| format!("{key}.precompiled_charsmap is not in base64"))?;
            charsmap::check(&map).map_err(|e| format!("{key}.precompiled_charsmap {e}"))
        }
        Some(found) if known.contains(&found) => Ok(()),
        _ => Err(format!("{key}.type: wanted one of {}, found {}", known.join(", "), part["type"])),
    }
}
