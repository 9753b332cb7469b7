//! Tokenizers that CLIP's own code does not know, by the `tokenizers` crate: Unigram (T5), byte-pair encoding with a fallback
//! to bytes (Gemma), byte-level byte-pair encoding (Qwen).
//!
//! Native programs link it. The runtime's module for browsers does not: this crate is a module of its own there (`web`),
//! which is fetched only for models that need it, since `tokenizers` with its regular expressions and tables of Unicode is
//! as large as much of the runtime.
//!
//! What begins, ends and pads a text is not known here: ids are those of the text alone.

mod charsmap;
mod form;
mod protobuf;
mod sentencepiece;
#[cfg(target_arch = "wasm32")]
mod web;

use tintype_base::error::{Error, Result};
use tintype_base::json;

use form::Form;

/// A tokenizer read from its file.
pub struct Library {
    inner: tokenizers::Tokenizer,
    /// Its file in messages.
    file: String,
}

impl Library {
    /// From the bytes of a `tokenizer.json`; `file` is its name in messages. What it says of padding, truncation, and what
    /// begins and ends a text is not followed.
    ///
    /// # Errors
    /// `invalid-model` if it is malformed, or if it holds a part that is not one of the kinds that are known here.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Library> {
        let wrong = |what: String| Error::model(format!("{file} is not a tokenizer: {what}"));
        json::check(bytes).map_err(|e| wrong(e.to_string()))?;
        let form: Form = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        form.check().map_err(wrong)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| wrong(e.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| wrong(e.to_string()))?;
        let library = Library { inner, file: file.to_owned() };
        for (token, id) in form.tokens() {
            // The crate only warns of it.
            if let Some(found) = library.id(token).filter(|found| *found != id) {
                return Err(wrong(format!("added_tokens: {token:?} has id {id}, here {found}")));
            }
        }
        match form.unknown() {
            Some(token) if library.id(token).is_none() => {
                Err(wrong(format!("model.unk_token is {token:?}, which model.vocab lacks")))
            }
            _ => Ok(library),
        }
    }

    /// From the bytes of a SentencePiece model of Unigram pieces (`spiece.model`), as transformers converts one of T5, with
    /// so many tokens `<extra_id_n>` behind its pieces; `file` is its name in messages.
    ///
    /// # Errors
    /// `invalid-model` if it is malformed, `unsupported` if it is of another kind than T5's.
    pub fn from_sentencepiece(bytes: &[u8], file: &str, extra_ids: usize) -> Result<Library> {
        let inner = sentencepiece::read(bytes, file, extra_ids)?;
        Ok(Library { inner, file: file.to_owned() })
    }

    /// The ids of a text. Tokens that were added to the vocabulary are cut out of it first.
    ///
    /// # Errors
    /// `invalid-model` if the vocabulary cannot write the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoded = self.inner.encode_fast(text, false);
        let encoded = encoded.map_err(|e| Error::model(format!("{}: {e}", self.file)))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The text of ids; those that no token has are left out.
    ///
    /// # Errors
    /// `invalid-model` if the tokens do not spell a text.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(|e| Error::model(format!("{}: {e}", self.file)))
    }

    /// The token of an id, if it has one.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token, if it is one.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

#[cfg(test)]
mod tests;
