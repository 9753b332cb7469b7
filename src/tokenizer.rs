//! Words to token ids: the byte-pair encoding of CLIP, over the `tokenizers` crate.
//!
//! The behaviour is that of the *fast* tokenizer of transformers (`CLIPTokenizerFast`, and the only one
//! from transformers 5 on): NFC, runs of white space to one space, lower case, CLIP's pattern, bytes,
//! merges. It is not that of the slow tokenizer, which first repairs the text with ftfy (curly quotes,
//! HTML entities); ordinary prompts give the same ids in both.

mod names;

pub use names::is_word;

use crate::error::{Error, Result};
use names::{Names, Part};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ops::Range;
use tokenizers::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// The files of a tokenizer folder, as bytes; those that do not exist are `None`. Needed are
/// `tokenizer.json`, or `vocab.json` with `merges.txt`.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The folder's name in messages, for example `tokenizer_2`; may be empty.
    pub folder: String,
    pub tokenizer_json: Option<Vec<u8>>,
    pub vocab_json: Option<Vec<u8>>,
    pub merges_txt: Option<Vec<u8>>,
    pub tokenizer_config: Option<Vec<u8>>,
    pub special_tokens_map: Option<Vec<u8>>,
}

/// A text as the text encoder takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// `[length]`: start, at most `length - 2` tokens of the text, end, padding.
    pub ids: Vec<u32>,
    /// How many tokens the whole text has, those that were cut off included, start and end not.
    pub tokens: usize,
    /// The words that were cut off, as diffusers reports them, if there are any.
    pub overflow: Option<String>,
}

/// A CLIP tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    length: usize,
    start: u32,
    end: u32,
    pad: u32,
    /// Whether decoded text is tidied (`clean_up_tokenization_spaces`).
    tidies: bool,
    names: Names,
}

impl Tokenizer {
    /// Builds the tokenizer from `tokenizer.json` if there is one, else from `vocab.json` and
    /// `merges.txt`; the other two files say which tokens are special.
    ///
    /// # Errors
    /// `not-found` if a needed file is missing, `invalid-model` if a file is malformed or the vocabulary
    /// has no id for a special token; the message names the file.
    pub fn from_files(files: &Files) -> Result<Tokenizer> {
        let config = Settings::read(files)?;
        let (mut inner, vocabulary) = match &files.tokenizer_json {
            Some(bytes) => (from_json(bytes, &files.place("tokenizer.json"))?, files.place("tokenizer.json")),
            None => (from_vocabulary(files, &config)?, files.place("vocab.json")),
        };
        check_model(&inner, &vocabulary)?;
        // Cutting and padding are done here, whatever the file says.
        inner.with_padding(None);
        inner.with_truncation(None).expect("no truncation is always accepted");
        inner.with_decoder(Some(ByteLevel::default()));
        for (token, id) in &config.special {
            add_special(&mut inner, token, *id, files, &vocabulary)?;
        }
        let id_of = |role: &str| {
            let token = config.token(role);
            let missing = || Error::model(format!("{vocabulary} has no id for the {role}, {token:?}"));
            inner.token_to_id(token).ok_or_else(missing)
        };
        let (start, end, pad) = (id_of("bos_token")?, id_of("eos_token")?, id_of("pad_token")?);
        let names = Names::default();
        Ok(Tokenizer { length: config.length, start, end, pad, tidies: config.tidies, names, inner })
    }

    /// Lets a word stand for learnt embeddings (textual inversion): wherever `name` (`<cat-toy>`, or a bare
    /// word) is a whole word of a text, in any case of letters, the text has all of `ids` there, one for
    /// each vector. They lie beyond the vocabulary; what they mean is the caller's to look up.
    ///
    /// # Errors
    /// `invalid-option` if the name is empty or given already, or if the ids are none or not free.
    pub fn add_name(&mut self, name: &str, ids: Range<u32>) -> Result<()> {
        let taken = |id: &u32| self.names.of(*id).is_some() || self.inner.id_to_token(*id).is_some();
        match ids.clone().find(taken) {
            Some(id) => Err(Error::option(format!("the embedding {name:?}: the id {id} is taken"))),
            None => self.names.add(name, ids),
        }
    }

    /// Whether an id belongs to a name and is not its first: a text should not be cut before it.
    pub fn inside_name(&self, id: u32) -> bool {
        self.names.inside(id)
    }

    /// The length of every encoded text: 77 for all published models.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The ids of a text, always [`Tokenizer::length`] of them. Any text is encoded, the empty one too.
    pub fn encode(&self, text: &str) -> Encoded {
        let tokens = self.tokens(text);
        let rest = &tokens[tokens.len().min(self.length - 2)..];
        let overflow = (!rest.is_empty()).then(|| self.decode(rest));
        Encoded { ids: self.row(&tokens), tokens: tokens.len(), overflow }
    }

    /// The ids of a text alone, as many as it has.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        let mut ids = vec![];
        for part in self.names.split(text) {
            match part {
                // What a text could lack, a byte or the unknown token, was checked while loading.
                Part::Text(text) => ids.extend_from_slice(
                    self.inner.encode(text, false).expect("byte-level encoding takes any text").get_ids(),
                ),
                Part::Ids(range) => ids.extend(range),
            }
        }
        ids
    }

    /// `[length]`: start, the first `length - 2` tokens, end, padding.
    pub fn row(&self, tokens: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        ids.extend_from_slice(&tokens[..tokens.len().min(self.length - 2)]);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        ids
    }

    fn decode(&self, ids: &[u32]) -> String {
        let known = |ids| self.inner.decode(ids, false).expect("byte-level decoding takes any tokens");
        // A name is written once for all its ids.
        let named = |id: u32| self.names.of(id).map(|name| format!("{}{WORD_END}", name.text));
        let together = |a: &u32, b: &u32| {
            self.names.inside(*b) || (self.names.of(*a).is_none() && self.names.of(*b).is_none())
        };
        let parts = ids.chunk_by(together).map(|ids| named(ids[0]).unwrap_or_else(|| known(ids)));
        let text = parts.collect::<String>().replace(WORD_END, " ");
        let text = text.trim();
        if self.tidies { tidied(text) } else { text.to_string() }
    }
}

impl Files {
    /// The name of a file in messages.
    fn place(&self, file: &str) -> String {
        if self.folder.is_empty() { file.to_string() } else { format!("{}/{file}", self.folder) }
    }
}

/// The end of a word in CLIP's vocabulary.
const WORD_END: &str = "</w>";

/// CLIP's pattern, without its special tokens, which are found before.
const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

fn from_json(bytes: &[u8], file: &str) -> Result<tokenizers::Tokenizer> {
    tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|e| Error::model(format!("{file} is not a tokenizer: {e}")))
}

/// What transformers' `CLIPConverter` makes of a vocabulary and merges.
fn from_vocabulary(files: &Files, settings: &Settings) -> Result<tokenizers::Tokenizer> {
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
    let bpe = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
        .unk_token(settings.token("unk_token").to_string())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(WORD_END.to_string())
        .build()
        .map_err(|e| Error::model(format!("{merges_file} does not fit {vocab_file}: {e}")))?;

    let mut inner = tokenizers::Tokenizer::new(bpe);
    let space = Replace::new(ReplacePattern::Regex(r"\s+".to_string()), " ").expect("the pattern is valid");
    inner.with_normalizer(Some(Normalizers::new(vec![NFC.into(), space.into(), Lowercase.into()])));
    let pattern = SplitPattern::Regex(PATTERN.to_string());
    let split = Split::new(pattern, SplitDelimiterBehavior::Removed, true).expect("the pattern is valid");
    inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![
        split.into(),
        ByteLevel::new(false, true, true).into(),
    ])));
    Ok(inner)
}

/// Every byte has a token, within a word and at its end: then any text can be encoded.
fn check_model(inner: &tokenizers::Tokenizer, file: &str) -> Result<()> {
    let ModelWrapper::BPE(bpe) = inner.get_model() else {
        return Err(Error::model(format!("{file} is not a tokenizer with byte pairs (BPE)")));
    };
    let bytes = ByteLevel::alphabet().into_iter().flat_map(|c| [c.to_string(), format!("{c}{WORD_END}")]);
    let missing = bytes.chain(bpe.get_unk_token().clone()).filter(|token| inner.token_to_id(token).is_none());
    // The smallest, so that the message is the same every time.
    match missing.min() {
        Some(token) => Err(Error::model(format!("{file} has no id for the token {token:?}"))),
        None => Ok(()),
    }
}

fn parse_merges(bytes: &[u8], file: &str) -> Result<Vec<(String, String)>> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::model(format!("{file} is not text: {e}")))?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"));
    let pair = |(i, line): (usize, &str)| match line.split_once(' ') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => {
            Ok((a.to_string(), b.to_string()))
        }
        _ => Err(Error::model(format!("{file}, line {}: {line:?} is not a pair of tokens", i + 1))),
    };
    lines.map(pair).collect()
}

/// Makes `token` a special one. `id` is what `tokenizer_config.json` says of it, if it does.
fn add_special(
    inner: &mut tokenizers::Tokenizer,
    token: &AddedToken,
    id: Option<u32>,
    files: &Files,
    vocabulary: &str,
) -> Result<()> {
    let known = inner.get_added_tokens_decoder().values().any(|t| t.content == token.content);
    if !known {
        // Without an id of its own the crate would give it the next free one.
        if id.is_none() && inner.token_to_id(&token.content).is_none() {
            return Err(Error::model(format!("{vocabulary} has no id for the token {:?}", token.content)));
        }
        inner.add_special_tokens(std::slice::from_ref(token));
    }
    let given = inner.token_to_id(&token.content);
    match (id, given) {
        (Some(id), Some(given)) if id != given => Err(Error::model(format!(
            "{} says that {:?} has id {id}, {vocabulary} says {given}",
            files.place("tokenizer_config.json"),
            token.content
        ))),
        _ => Ok(()),
    }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` say.
struct Settings {
    /// Both files together.
    keys: Map<String, Value>,
    special: Vec<(AddedToken, Option<u32>)>,
    length: usize,
    tidies: bool,
}

/// The special tokens that have a role, with their class defaults.
const ROLES: [(&str, &str); 4] = [
    ("bos_token", "<|startoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
];

/// The length that CLIP's text encoders are trained with, for configurations that do not say.
const LENGTH: usize = 77;

impl Settings {
    fn read(files: &Files) -> Result<Settings> {
        let config_file = files.place("tokenizer_config.json");
        let mut keys = object(files.tokenizer_config.as_deref(), &config_file)?;
        let map = object(files.special_tokens_map.as_deref(), &files.place("special_tokens_map.json"))?;
        // A list of added tokens in the configuration is the newer form: the map is then read only for
        // what the configuration does not say. Else the map counts, as in transformers.
        let newer = keys.contains_key("added_tokens_decoder");
        for (role, token) in map {
            if !newer || !keys.contains_key(&role) {
                keys.insert(role, token);
            }
        }

        let mut special = Vec::new();
        if let Some(Value::Object(decoder)) = keys.get("added_tokens_decoder") {
            for (id, entry) in decoder {
                let (Ok(id), Some(token)) = (id.parse(), added_token(entry, false)) else {
                    let message =
                        format!("{config_file}, added_tokens_decoder: {id:?} is not a token with an id");
                    return Err(Error::model(message));
                };
                special.push((token, Some(id)));
            }
        }
        // Tokens that the vocabulary lacks take the free ids in this order.
        special.sort_by_key(|(_, id)| *id);
        let length = match keys.get("model_max_length") {
            None | Some(Value::Null) => LENGTH,
            // transformers writes 1e30 for "not known".
            Some(value) => match value.as_f64() {
                Some(n) if n > 100_000.0 => LENGTH,
                Some(n) if n >= 3.0 && n.fract() == 0.0 => n as usize,
                _ => {
                    return Err(Error::model(format!(
                        "{config_file}, model_max_length: {value} is not a length"
                    )));
                }
            },
        };
        let tidies = keys.get("clean_up_tokenization_spaces").and_then(Value::as_bool).unwrap_or(false);
        let mut settings = Settings { keys, special, length, tidies };
        for (role, default) in ROLES {
            let default = Value::from(default);
            // As a word, a token of CLIP's own is looked for in the normalised text and a foreign one
            // (the pad "!") in the raw text.
            let token = added_token(settings.keys.get(role).unwrap_or(&default), role != "pad_token");
            if let Some(token) = token
                && settings.special.iter().all(|(t, _)| t.content != token.content)
            {
                settings.special.push((token, None));
            }
        }
        Ok(settings)
    }

    fn token(&self, role: &str) -> &str {
        let entry = self.keys.get(role);
        let content = entry.and_then(|e| e.as_str().or_else(|| e.get("content")?.as_str()));
        let default = ROLES.iter().find(|(r, _)| *r == role).map_or("", |(_, token)| token);
        content.unwrap_or(default)
    }
}

/// A token given as a word or as an object with its flags.
fn added_token(entry: &Value, normalized: bool) -> Option<AddedToken> {
    let flag = |key: &str, default: bool| entry.get(key).and_then(Value::as_bool).unwrap_or(default);
    let content = entry.as_str().or_else(|| entry.get("content")?.as_str()).filter(|c| !c.is_empty())?;
    Some(
        AddedToken::from(content, true)
            .normalized(flag("normalized", normalized))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .single_word(flag("single_word", false)),
    )
}

/// The JSON object in a file; empty if the file does not exist.
fn object(bytes: Option<&[u8]>, file: &str) -> Result<Map<String, Value>> {
    let Some(bytes) = bytes else { return Ok(Map::new()) };
    serde_json::from_slice(bytes).map_err(|e| Error::model(format!("{file} is not a JSON object: {e}")))
}

/// `clean_up_tokenization` of transformers: no spaces before English punctuation.
fn tidied(text: &str) -> String {
    let marks = [" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"];
    marks.iter().fold(text.to_string(), |text, mark| text.replace(mark, mark.trim()))
}

#[cfg(test)]
mod tests;
