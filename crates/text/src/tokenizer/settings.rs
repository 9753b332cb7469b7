//! What the small files of a tokenizer say: which tokens have a role, how long a text is.

use serde_json::{Map, Value};

use super::Files;
use super::special::Special;
use crate::error::{Error, Result};

/// What `tokenizer_config.json` and `special_tokens_map.json` say.
pub struct Settings {
    /// Both files together.
    keys: Map<String, Value>,
    /// Of the class: the special tokens that have a role.
    roles: &'static [(&'static str, &'static str)],
    /// Each with the id that the configuration says it has.
    pub special: Vec<(Special, Option<u32>)>,
    /// Of every encoded text.
    pub length: usize,
    /// Whether decoded text is tidied (`clean_up_tokenization_spaces`).
    pub tidies: bool,
}

/// The class that `tokenizer_config.json` names (`tokenizer_class`).
pub fn class(files: &Files) -> Result<Option<String>> {
    let keys = object(files.tokenizer_config.as_deref(), &files.place("tokenizer_config.json"))?;
    Ok(keys.get("tokenizer_class").and_then(Value::as_str).map(str::to_owned))
}

/// How many tokens `<extra_id_n>` a T5 has behind its pieces (`extra_ids`).
pub fn extra_ids(files: &Files) -> Result<usize> {
    let file = files.place("tokenizer_config.json");
    let keys = object(files.tokenizer_config.as_deref(), &file)?;
    match keys.get("extra_ids") {
        None | Some(Value::Null) => Ok(100),
        Some(value) => {
            let few = value.as_u64().filter(|count| *count <= 10_000);
            let wrong = || Error::model(format!("{file}, extra_ids: {value} is no number of tokens"));
            few.map(|count| count as usize).ok_or_else(wrong)
        }
    }
}

impl Settings {
    /// `roles` and `usual_length` are the defaults of the class.
    pub fn read(
        files: &Files,
        roles: &'static [(&'static str, &'static str)],
        usual_length: usize,
    ) -> Result<Settings> {
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
                let (Ok(id), Some(token)) = (id.parse(), Special::from_json(entry, false)) else {
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
            None | Some(Value::Null) => usual_length,
            // transformers writes 1e30 for "not known".
            Some(value) => match value.as_f64() {
                Some(n) if n > 100_000.0 => usual_length,
                Some(n) if n >= 3.0 && n.fract() == 0.0 => n as usize,
                _ => {
                    return Err(Error::model(format!(
                        "{config_file}, model_max_length: {value} is not a length"
                    )));
                }
            },
        };
        let tidies = keys.get("clean_up_tokenization_spaces").and_then(Value::as_bool).unwrap_or(false);
        let mut settings = Settings { keys, roles, special, length, tidies };
        for &(role, default) in roles {
            let default = Value::from(default);
            // As a word, a token of CLIP's own is looked for in the normalised text and a foreign one
            // (the pad "!") in the raw text.
            let token = Special::from_json(settings.keys.get(role).unwrap_or(&default), role != "pad_token");
            if let Some(token) = token
                && settings.special.iter().all(|(t, _)| t.content != token.content)
            {
                settings.special.push((token, None));
            }
        }
        Ok(settings)
    }

    /// A flag of the configuration, if it says so.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.keys.get(key).and_then(Value::as_bool)
    }

    /// The token of a role, such as "pad_token".
    pub fn token(&self, role: &str) -> &str {
        let entry = self.keys.get(role);
        let content = entry.and_then(|e| e.as_str().or_else(|| e.get("content")?.as_str()));
        let default = self.roles.iter().find(|(r, _)| *r == role).map_or("", |(_, token)| token);
        content.unwrap_or(default)
    }
}

/// The JSON object in a file; empty if the file does not exist.
fn object(bytes: Option<&[u8]>, file: &str) -> Result<Map<String, Value>> {
    let Some(bytes) = bytes else { return Ok(Map::new()) };
    let object = crate::json::check(bytes).and_then(|()| serde_json::from_slice(bytes));
    object.map_err(|e| Error::model(format!("{file} is not a JSON object: {e}")))
}
