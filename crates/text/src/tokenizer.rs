//! Prompts to token ids. What all tokenizers have in common is here: names of learned tokens, and rows of one length
//! with what begins, ends and pads them. How text becomes tokens is a [`Codec`]: a file each, and a row in [`KINDS`].
//!
//! The `tokenizers` crate, which knows every kind and does much else, is what the tests compare with. In the module it
//! would be two fifths of what a visitor loads, for its regular expressions and every other kind of model.

mod bytes;
mod clip;
mod clip_files;
mod merges;
mod names;
mod settings;
mod special;
mod vocabulary;
mod words;

pub use clip_files::{CLIP_TOKENS, clip_files};
pub use names::is_word;

use std::ops::Range;

use crate::error::{Error, Result};
use names::{Names, Part};

/// How one kind of tokenizer turns text into token ids and back.
trait Codec {
    /// Appends the ids of a text; special tokens may be written in it.
    fn encode(&self, text: &str, ids: &mut Vec<u32>);

    /// The text of ids, with a space where a word ends.
    fn decode(&self, ids: &[u32]) -> String;

    /// The token of an id, if it has one.
    fn token(&self, id: u32) -> Option<&str>;
}

/// A kind of tokenizer.
struct Kind {
    /// Its names as `tokenizer_class` in tokenizer_config.json.
    classes: &'static [&'static str],
    read: fn(&Files) -> Result<Form>,
}

/// A folder without a class, or with one that is not here, is read as of the first kind.
static KINDS: [Kind; 1] = [clip::KIND];

/// What the files of a tokenizer say.
struct Form {
    codec: Box<dyn Codec>,
    /// Ids of every encoded text.
    length: usize,
    /// In front of every text.
    prefix: Vec<u32>,
    /// Behind every text.
    suffix: Vec<u32>,
    pad: u32,
    /// Whether decoded text is tidied (`clean_up_tokenization_spaces`).
    tidies: bool,
}

/// The files of a tokenizer folder, as bytes; those that do not exist are `None`. CLIP needs `tokenizer.json`, or
/// `vocab.json` with `merges.txt`.
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
    /// `[length]`: what begins a text, its tokens as far as there is room, what ends it, padding.
    pub ids: Vec<u32>,
    /// How many tokens the whole text has, those that were cut off included, beginning and end not.
    pub tokens: usize,
    /// The words that were cut off, as diffusers reports them, if there are any.
    pub overflow: Option<String>,
}

/// A tokenizer of any kind, and the names of learned tokens.
pub struct Tokenizer {
    form: Form,
    names: Names,
}

impl Tokenizer {
    /// Builds the tokenizer that the files describe.
    ///
    /// # Errors
    /// `not-found` if a needed file is missing, `invalid-model` if a file is malformed, if `tokenizer.json` is of
    /// another kind than its class says, or if the vocabulary has no id for a special token; the message names the file.
    pub fn from_files(files: &Files) -> Result<Tokenizer> {
        let class = settings::class(files)?;
        let named = |kind: &&Kind| class.as_deref().is_some_and(|class| kind.classes.contains(&class));
        let kind = KINDS.iter().find(named).unwrap_or(&KINDS[0]);
        Ok(Tokenizer { form: (kind.read)(files)?, names: Names::default() })
    }

    /// Lets a word stand for learnt embeddings (textual inversion): wherever `name` (`<cat-toy>`, or a bare
    /// word) is a whole word of a text, in any case of letters, the text has all of `ids` there, one for
    /// each vector. They lie beyond the vocabulary; what they mean is the caller's to look up.
    ///
    /// # Errors
    /// `invalid-option` if the name is empty or given already, or if the ids are none or not free.
    pub fn add_name(&mut self, name: &str, ids: Range<u32>) -> Result<()> {
        let taken = |id: &u32| self.names.of(*id).is_some() || self.form.codec.token(*id).is_some();
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
        self.form.length
    }

    /// TEMP
    pub fn set_length(&self, _length: usize) -> Result<()> {
        Ok(())
    }

    /// How many of a row's ids are not padding behind a text.
    pub fn unpadded(&self, ids: &[u32]) -> usize {
        ids.iter().rposition(|id| *id != self.form.pad).map_or(0, |last| last + 1)
    }

    /// How many of these are tokens of the text.
    pub fn room(&self) -> usize {
        let Form { length, prefix, suffix, .. } = &self.form;
        length.saturating_sub(prefix.len() + suffix.len())
    }

    /// Where they begin.
    pub fn first(&self) -> usize {
        self.form.prefix.len()
    }

    /// The ids of a text, always [`Tokenizer::length`] of them. Any text is encoded, the empty one too.
    pub fn encode(&self, text: &str) -> Encoded {
        let tokens = self.tokens(text);
        let rest = &tokens[tokens.len().min(self.room())..];
        let overflow = (!rest.is_empty()).then(|| self.decode(rest));
        Encoded { ids: self.row(&tokens), tokens: tokens.len(), overflow }
    }

    /// The ids of a text alone, as many as it has.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        let mut ids = vec![];
        for part in self.names.split(text) {
            match part {
                Part::Text(text) => self.form.codec.encode(text, &mut ids),
                Part::Ids(range) => ids.extend(range),
            }
        }
        ids
    }

    /// `[length]`: what begins a text, as many tokens as there is room for, what ends it, padding.
    pub fn row(&self, tokens: &[u32]) -> Vec<u32> {
        let Form { length, prefix, suffix, pad, .. } = &self.form;
        let mut ids = [prefix, &tokens[..tokens.len().min(self.room())], suffix].concat();
        ids.resize(*length, *pad);
        ids
    }

    fn decode(&self, ids: &[u32]) -> String {
        // A name is written once for all its ids.
        let named = |id: u32| self.names.of(id).map(|name| format!("{} ", name.text));
        let together = |a: &u32, b: &u32| {
            self.names.inside(*b) || (self.names.of(*a).is_none() && self.names.of(*b).is_none())
        };
        let codec = &self.form.codec;
        let parts = ids.chunk_by(together).map(|ids| named(ids[0]).unwrap_or_else(|| codec.decode(ids)));
        let text = parts.collect::<String>();
        let text = text.trim();
        if self.form.tidies { tidied(text) } else { text.to_string() }
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
