//! The files of a tokenizer to its vocabulary: `tokenizer.json`, or `vocab.json` with `merges.txt`.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Files;
use super::merges::{Merges, Missing, WORD_END};
use super::settings::Settings;
use super::special::Special;
use super::words::PATTERN;
use crate::error::{Error, Result};

/// All tokens and their ids.
pub struct Vocabulary {
    /// Its file, for messages.
    pub file: String,
    pub merges: Merges,
    /// Tokens beside the words, in the order in which they were added.
    pub special: Vec<(Special, u32)>,
}

impl Vocabulary {
    pub fn read(files: &Files, settings: &Settings) -> Result<Vocabulary> {
        let mut vocabulary = match &files.tokenizer_json {
            Some(bytes) => from_json(bytes, files.place("tokenizer.json"))?,
            None => from_parts(files)?,
        };
        for (token, id) in &settings.special {
            vocabulary.add_special(token, *id, files)?;
        }
        Ok(vocabulary)
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        let special = self.special.iter().find(|(special, _)| special.content == token);
        special.map(|(_, id)| *id).or_else(|| self.merges.ids.get(token).copied())
    }

    pub fn text(&self, id: u32) -> Option<&str> {
        let special = self.special.iter().rev().find(|(_, special)| *special == id);
        special.map(|(special, _)| special.content.as_str()).or_else(|| self.merges.text(id))
    }

    /// The id of the next token that has none, if there is one left.
    fn next_id(&self) -> Option<u32> {
        let words = u32::try_from(self.merges.ids.len()).ok()?;
        match self.special.iter().map(|(_, id)| *id).max() {
            Some(last) => Some(last.checked_add(1)?.max(words)),
            None => Some(words),
        }
    }

    /// Makes `token` a special one. `id` is what `tokenizer_config.json` says of it, if it does.
    fn add_special(&mut self, token: &Special, id: Option<u32>, files: &Files) -> Result<()> {
        if self.special.iter().all(|(known, _)| known.content != token.content) {
            let next = || self.next_id().filter(|_| id.is_some());
            let given = self.id(&token.content).or_else(next);
            let given = given.ok_or_else(|| no_id(&self.file, &format!("token {:?}", token.content)))?;
            self.special.push((token.clone(), given));
        }
        match (id, self.id(&token.content)) {
            (Some(id), Some(given)) if id != given => Err(Error::model(format!(
                "{} says that {:?} has id {id}, {} says {given}",
                files.place("tokenizer_config.json"),
                token.content,
                self.file
            ))),
            _ => Ok(()),
        }
    }
}

pub fn no_id(file: &str, what: &str) -> Error {
    Error::model(format!("{file} has no id for the {what}"))
}

/// What transformers' `CLIPConverter` makes of a vocabulary and merges.
fn from_parts(files: &Files) -> Result<Vocabulary> {
    let missing = |file: &str| {
        let [json, file] = [files.place("tokenizer.json"), files.place(file)];
        Error::not_found(format!("{file} is missing (and so is {json}, which would do without)"))
    };
    let vocab = files.vocab_json.as_ref().ok_or_else(|| missing("vocab.json"))?;
    let merges = files.merges_txt.as_ref().ok_or_else(|| missing("merges.txt"))?;
    let (vocab_file, merges_file) = (files.place("vocab.json"), files.place("merges.txt"));
    let vocab: HashMap<String, u32> = serde_json::from_slice(vocab)
        .map_err(|e| Error::model(format!("{vocab_file} is not a JSON object of token ids: {e}")))?;
    let merges = parse_merges(merges, &merges_file)?;
    let merges = Merges::new(vocab, &merges).map_err(|missing| match missing {
        Missing::OfPair(token) => {
            Error::model(format!("{merges_file} does not fit {vocab_file}, which has no {token:?}"))
        }
        Missing::Byte(token) => no_id(&vocab_file, &format!("token {token:?}")),
    })?;
    Ok(Vocabulary { file: vocab_file, merges, special: vec![] })
}

fn parse_merges<'a>(bytes: &'a [u8], file: &str) -> Result<Vec<(&'a str, &'a str)>> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::model(format!("{file} is not text: {e}")))?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"));
    let pairs = lines.map(|(i, line)| {
        let wrong = || Error::model(format!("{file}, line {}: {line:?} is not a pair of tokens", i + 1));
        pair(line).ok_or_else(wrong)
    });
    pairs.collect()
}

fn pair(line: &str) -> Option<(&str, &str)> {
    let (a, b) = line.split_once(' ')?;
    (!a.is_empty() && !b.is_empty() && !b.contains(' ')).then_some((a, b))
}

/// A `tokenizer.json` that says what CLIP's tokenizer does; how it cuts, pads and decodes is not asked.
fn from_json(bytes: &[u8], file: String) -> Result<Vocabulary> {
    let wrong = |what: String| Error::model(format!("{file} is not a tokenizer: {what}"));
    let json = crate::json::check(bytes).and_then(|()| serde_json::from_slice(bytes));
    let mut json: Value = json.map_err(|e| wrong(e.to_string()))?;
    let mut model = json.get_mut("model").map(Value::take).unwrap_or_default();
    check_form(&json, &model, &file)?;
    let vocab: HashMap<String, u32> = serde_json::from_value(model["vocab"].take())
        .map_err(|e| wrong(format!("model.vocab is no object of token ids: {e}")))?;
    let merges = model["merges"].as_array().ok_or_else(|| wrong("model.merges is no list".to_owned()))?;
    let merges = merges.iter().map(|entry| {
        let both = entry.as_array().map(|both| both.iter().map(Value::as_str).collect::<Vec<_>>());
        match (entry.as_str(), both.as_deref()) {
            (Some(line), _) => pair(line),
            (None, Some(&[Some(a), Some(b)])) => Some((a, b)),
            _ => None,
        }
        .ok_or_else(|| wrong(format!("model.merges: {entry} is not a pair of tokens")))
    });
    let merges =
        Merges::new(vocab, &merges.collect::<Result<Vec<_>>>()?).map_err(|missing| match missing {
            Missing::OfPair(token) => wrong(format!("model.merges has {token:?}, model.vocab does not")),
            Missing::Byte(token) => no_id(&file, &format!("token {token:?}")),
        })?;
    let mut vocabulary = Vocabulary { file: file.clone(), merges, special: vec![] };
    for entry in json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let token = Special::from_json(entry, true);
        let id = entry["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let (Some(token), Some(id)) = (token, id) else {
            return Err(wrong(format!("added_tokens: {entry} is not a token with an id")));
        };
        match vocabulary.id(&token.content) {
            Some(other) if other != id => {
                return Err(wrong(format!("added_tokens: {:?} has id {id}, here {other}", token.content)));
            }
            _ => vocabulary.special.push((token, id)),
        }
    }
    Ok(vocabulary)
}

/// What is different is named, with what was wanted: it would give other tokens.
fn check_form(json: &Value, model: &Value, file: &str) -> Result<()> {
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"},
    ]});
    let split =
        json!({"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Removed", "invert": true});
    let mut pre_tokenizer = json["pre_tokenizer"].clone();
    let steps = pre_tokenizer.get_mut("pretokenizers").and_then(Value::as_array_mut);
    let bytes = steps.and_then(|steps| if steps.len() == 2 { steps.pop() } else { None }).unwrap_or_default();
    // Some name the special tokens in the pattern too; what it finds of one then, the second step cuts up again.
    let cuts_again = bytes.get("use_regex").is_none_or(|v| *v == json!(true));
    if cuts_again
        && let Some(pattern) = pre_tokenizer.pointer_mut("/pretokenizers/0/pattern/Regex")
        && let Some(end) = pattern.as_str().and_then(|p| p.find(PATTERN))
        && pattern.as_str().is_some_and(|p| p.starts_with(r"<\|") && p[..end].ends_with(r"\|>|"))
    {
        *pattern = json!(PATTERN);
    }
    let or = |key: &str, default: Value| model.get(key).filter(|v| !v.is_null()).cloned().unwrap_or(default);
    for (key, wanted, found) in [
        ("model.type", json!("BPE"), or("type", json!("BPE"))),
        ("model.end_of_word_suffix", json!(WORD_END), or("end_of_word_suffix", Value::Null)),
        ("model.continuing_subword_prefix", json!(""), or("continuing_subword_prefix", json!(""))),
        ("model.dropout", json!(0.0), or("dropout", json!(0.0))),
        ("model.byte_fallback", json!(false), or("byte_fallback", json!(false))),
        ("model.ignore_merges", json!(false), or("ignore_merges", json!(false))),
        ("normalizer", normalizer, json["normalizer"].clone()),
        ("pre_tokenizer", json!({"type": "Sequence", "pretokenizers": [split]}), pre_tokenizer),
        ("pre_tokenizer, second step", json!("ByteLevel"), bytes["type"].clone()),
        ("pre_tokenizer, add_prefix_space", json!(false), bytes["add_prefix_space"].clone()),
    ] {
        if wanted != found {
            return Err(Error::model(format!(
                "{file} is not a tokenizer like CLIP's: {key}: wanted {wanted}, found {found}"
            )));
        }
    }
    Ok(())
}
