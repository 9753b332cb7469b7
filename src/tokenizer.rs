//! Words to token ids: the byte-pair encoding of CLIP.
//!
//! The behaviour is that of the *fast* tokenizer of transformers (`CLIPTokenizerFast`, and the only one
//! from transformers 5 on): NFC, runs of white space to one space, lower case, CLIP's pattern, bytes,
//! merges. It is not that of the slow tokenizer, which first repairs the text with ftfy (curly quotes,
//! HTML entities); ordinary prompts give the same ids in both.
//!
//! The `tokenizers` crate, which does all this and much else, is what the tests compare with. In the module it would
//! be two fifths of what a visitor loads, for its regular expressions and every other kind of model.

mod bytes;
mod clip;
mod merges;
mod names;
mod settings;
mod special;
mod vocabulary;
mod words;

pub use clip::{CLIP_TOKENS, clip_files};
pub use names::is_word;

use std::ops::Range;

use crate::error::{Error, Result};
use merges::WORD_END;
use names::{Names, Part};
use settings::Settings;
use special::Finder;
use vocabulary::{Vocabulary, no_id};

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
    vocabulary: Vocabulary,
    /// Special tokens that are looked for in the text as it is written, and in its normal form.
    written: Finder,
    normal: Finder,
    length: usize,
    start: u32,
    end: u32,
    pad: u32,
    /// Whether decoded text is tidied.
    tidies: bool,
    names: Names,
}

impl Tokenizer {
    /// Builds the tokenizer from `tokenizer.json` if there is one, else from `vocab.json` and
    /// `merges.txt`; the other two files say which tokens are special.
    ///
    /// # Errors
    /// `not-found` if a needed file is missing, `invalid-model` if a file is malformed, if `tokenizer.json` is of
    /// another kind than CLIP's, or if the vocabulary has no id for a special token; the message names the file.
    pub fn from_files(files: &Files) -> Result<Tokenizer> {
        let settings = Settings::read(files)?;
        let vocabulary = Vocabulary::read(files, &settings)?;
        let id_of = |role: &str| {
            let token = settings.token(role);
            vocabulary.id(token).ok_or_else(|| no_id(&vocabulary.file, &format!("{role}, {token:?}")))
        };
        let (start, end, pad) = (id_of("bos_token")?, id_of("eos_token")?, id_of("pad_token")?);
        let finder = |normalized: bool| {
            let tokens = vocabulary.special.iter().filter(|(token, _)| token.normalized == normalized);
            Finder::new(tokens.cloned())
        };
        let (written, normal) = (finder(false), finder(true));
        let Settings { length, tidies, .. } = settings;
        Ok(Tokenizer {
            vocabulary,
            written,
            normal,
            length,
            start,
            end,
            pad,
            tidies,
            names: Names::default(),
        })
    }

    /// Lets a word stand for learnt embeddings (textual inversion): wherever `name` (`<cat-toy>`, or a bare
    /// word) is a whole word of a text, in any case of letters, the text has all of `ids` there, one for
    /// each vector. They lie beyond the vocabulary; what they mean is the caller's to look up.
    ///
    /// # Errors
    /// `invalid-option` if the name is empty or given already, or if the ids are none or not free.
    pub fn add_name(&mut self, name: &str, ids: Range<u32>) -> Result<()> {
        let taken = |id: &u32| self.names.of(*id).is_some() || self.vocabulary.text(*id).is_some();
        match ids.clone().find(taken) {
            Some(id) => Err(Error::option(format!("the embedding {name:?}: the id {id} is taken"))),
            None => self.names.add(name, ids),
        }
    }

    /// Lets another name stand for the ids of one; returns whether it was free.
    pub fn add_alias(&mut self, name: &str, ids: Range<u32>) -> bool {
        self.names.add(name, ids).is_ok()
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
                Part::Text(text) => self.add_tokens(text, &mut ids),
                Part::Ids(range) => ids.extend(range),
            }
        }
        ids
    }

    fn add_tokens(&self, text: &str, ids: &mut Vec<u32>) {
        for part in self.written.split(text) {
            let text = match part {
                special::Part::Token(id) => {
                    ids.push(id);
                    continue;
                }
                special::Part::Text(text) => words::normalized(text),
            };
            for part in self.normal.split(&text) {
                match part {
                    special::Part::Token(id) => ids.push(id),
                    special::Part::Text(text) => {
                        words::words(text).for_each(|word| self.vocabulary.merges.tokens(word, ids));
                    }
                }
            }
        }
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
        let known = |ids: &[u32]| bytes::spelled(ids.iter().filter_map(|id| self.vocabulary.text(*id)));
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

/// `clean_up_tokenization` of transformers: no spaces before English punctuation.
fn tidied(text: &str) -> String {
    let marks = [" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"];
    marks.iter().fold(text.to_string(), |text, mark| text.replace(mark, mark.trim()))
}

#[cfg(test)]
mod tests;
