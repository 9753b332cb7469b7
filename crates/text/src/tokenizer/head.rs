//! What a `tokenizer.json` says of its kind. Its vocabulary, which is nearly all of it, is passed over.

use serde::Deserialize;
use serde_json::Value;

use super::Files;
use crate::error::{Error, Result};

#[derive(Deserialize)]
pub struct Head {
    model: Model,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

/// The kinds of vocabulary that are told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Vocabulary {
    /// Pieces with scores.
    Unigram,
    /// Byte pairs of letters; a letter that is no token is written in bytes.
    ByteFallback,
    /// Byte pairs of bytes.
    ByteLevel,
    /// Byte pairs of words whose ends are marked, as CLIP's are.
    Words,
    Other,
}

impl Vocabulary {
    pub fn as_str(self) -> &'static str {
        match self {
            Vocabulary::Unigram => "Unigram",
            Vocabulary::ByteFallback => "BPE with byte_fallback",
            Vocabulary::ByteLevel => "BPE of bytes",
            Vocabulary::Words => "BPE with end_of_word_suffix",
            Vocabulary::Other => "of another kind",
        }
    }
}

impl Head {
    /// `None` if there is no tokenizer.json.
    pub fn read(files: &Files) -> Result<Option<Head>> {
        let wrong = |e| Error::model(format!("{} is not a tokenizer: {e}", files.place("tokenizer.json")));
        let Some(bytes) = &files.tokenizer_json else { return Ok(None) };
        crate::json::check(bytes).and_then(|()| serde_json::from_slice(bytes)).map(Some).map_err(wrong)
    }

    pub fn vocabulary(&self) -> Vocabulary {
        let Model { r#type, byte_fallback, end_of_word_suffix } = &self.model;
        let words = end_of_word_suffix.as_ref().is_some_and(|suffix| !suffix.is_empty());
        match r#type.as_deref().unwrap_or("BPE") {
            "Unigram" => Vocabulary::Unigram,
            "BPE" if words => Vocabulary::Words,
            "BPE" if *byte_fallback == Some(true) => Vocabulary::ByteFallback,
            "BPE" if has(&self.pre_tokenizer, "ByteLevel") => Vocabulary::ByteLevel,
            _ => Vocabulary::Other,
        }
    }

    /// The tokens in front of a text and behind it, by their template; `None` if nothing says so.
    pub fn template(&self) -> Option<[Vec<&str>; 2]> {
        let parts = match self.post_processor["type"].as_str()? {
            "Sequence" => self.post_processor["processors"].as_array()?.as_slice(),
            _ => std::slice::from_ref(&self.post_processor),
        };
        let template = parts.iter().find(|part| part["type"] == "TemplateProcessing")?;
        let single = template["single"].as_array()?;
        let text = single.iter().position(|part| part.get("Sequence").is_some())?;
        let (before, after) = single.split_at(text);
        Some(
            [before, after]
                .map(|parts| parts.iter().filter_map(|part| part["SpecialToken"]["id"].as_str()).collect()),
        )
    }
}

/// Whether a part, or a sequence of parts, has one of this type.
fn has(part: &Value, kind: &str) -> bool {
    let within = part["pretokenizers"].as_array().into_iter().flatten();
    part["type"] == kind || within.into_iter().any(|part| has(part, kind))
}
