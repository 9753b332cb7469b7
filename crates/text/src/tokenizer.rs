//! Prompts to token ids. What all tokenizers have in common is here: names of learned tokens, and rows of one length
//! with what begins, ends and pads them. How text becomes tokens is a [`Codec`]: a file each, and a row in [`KINDS`].
//!
//! CLIP's is our own: the `tokenizers` crate, which knows every kind and does much else, would be two fifths of what a
//! visitor loads, for its regular expressions and every other kind of model. The tests compare with it. The tokenizers of
//! larger text encoders are the crate's, which a browser fetches where a model needs them ([`Make`]).

mod bytes;
mod clip;
mod clip_files;
mod head;
mod library;
mod merges;
mod names;
mod settings;
mod special;
mod vocabulary;
mod words;

pub use clip_files::{CLIP_TOKENS, clip_files};
#[cfg(target_arch = "wasm32")]
pub use library::{Provider, provide};
pub use names::is_word;

use std::cell::Cell;
use std::ops::Range;

use crate::error::{Error, Result};
use head::{Head, Vocabulary};
use names::{Names, Part};

/// How one kind of tokenizer turns text into token ids and back.
pub trait Codec {
    /// Appends the ids of a text; special tokens may be written in it.
    ///
    /// # Errors
    /// What keeps it from it: a vocabulary that cannot write the text, or whoever it was asked of.
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()>;

    /// The text of ids, with a space where a word ends.
    fn decode(&self, ids: &[u32]) -> String;

    /// The token of an id, if it has one.
    fn token(&self, id: u32) -> Option<String>;

    /// The id of a token, if it is one.
    fn id(&self, token: &str) -> Option<u32>;
}

/// Makes the codec of a tokenizer other than CLIP's from its `tokenizer.json`, or else from its SentencePiece model.
pub type Make<'a> = &'a dyn Fn(&Files) -> Result<Box<dyn Codec>>;

/// A kind of tokenizer.
struct Kind {
    /// Its names as `tokenizer_class` in tokenizer_config.json.
    classes: &'static [&'static str],
    /// What its `tokenizer.json` holds.
    vocabulary: Vocabulary,
    read: fn(&Files, Make<'_>) -> Result<Form>,
}

/// A folder without a class is read as its `tokenizer.json` says, or else as of the first kind.
static KINDS: [Kind; 4] = [clip::KIND, library::T5, library::GEMMA, library::QWEN];

/// Classes that say nothing of their kind.
const ANY: [&str; 2] = ["PreTrainedTokenizerFast", "TokenizersBackend"];

/// What the files of a tokenizer say.
struct Form {
    codec: Box<dyn Codec>,
    /// Ids of every encoded text, where no caller says otherwise.
    length: usize,
    /// In front of every text.
    prefix: Vec<u32>,
    /// Behind every text.
    suffix: Vec<u32>,
    pad: u32,
    /// Whether decoded text is tidied (`clean_up_tokenization_spaces`).
    tidies: bool,
}

/// The files of a tokenizer folder, as bytes; those that do not exist are `None`. All kinds need `tokenizer.json`; for CLIP
/// `vocab.json` with `merges.txt` does too, for T5 a SentencePiece model.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The folder's name in messages, for example `tokenizer_2`; may be empty.
    pub folder: String,
    pub tokenizer_json: Option<Vec<u8>>,
    pub vocab_json: Option<Vec<u8>>,
    pub merges_txt: Option<Vec<u8>>,
    /// `spiece.model`; read only where there is no `tokenizer.json`.
    pub sentencepiece: Option<Vec<u8>>,
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
    /// How many of the ids are no padding; they come first. A text encoder's attention mask is 1 for them.
    pub attended: usize,
    /// The words that were cut off, as diffusers reports them, if there are any.
    pub overflow: Option<String>,
}

/// A tokenizer of any kind, and the names of learned tokens.
pub struct Tokenizer {
    form: Form,
    /// Ids of every encoded text.
    length: Cell<usize>,
    names: Names,
}

impl Tokenizer {
    /// Builds the tokenizer that the files describe.
    ///
    /// # Errors
    /// `not-found` if a needed file is missing, `invalid-model` if a file is malformed, if `tokenizer.json` is of
    /// another kind than its class says, or if the vocabulary has no id for a special token, `unsupported` if no kind that is
    /// built has the class; the message names the file.
    pub fn from_files(files: &Files) -> Result<Tokenizer> {
        Tokenizer::with(files, &library::native)
    }

    /// Builds the tokenizer that the files describe; in a browser its codec may have to be fetched.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_files`], in a browser those of fetching the codec too.
    pub async fn load(files: &Files) -> Result<Tokenizer> {
        #[cfg(target_arch = "wasm32")]
        if files.is_beyond_clip()? {
            let codec = std::cell::Cell::new(Some(library::provided(files).await?));
            return Tokenizer::with(files, &|files| codec.take().ok_or_else(|| library::missing(files)));
        }
        Tokenizer::from_files(files)
    }

    /// Builds the tokenizer that the files describe; if it is not CLIP's, with the codec that `make` makes.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_files`], and those of `make`.
    pub fn with(files: &Files, make: Make<'_>) -> Result<Tokenizer> {
        let form = (kind(files)?.read)(files, make)?;
        Ok(Tokenizer { length: Cell::new(form.length), form, names: Names::default() })
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

    /// The length of every encoded text: 77 for all published models with CLIP.
    pub fn length(&self) -> usize {
        self.length.get()
    }

    /// Makes every encoded text so long, for text encoders that take any length; pipelines have their own.
    ///
    /// # Errors
    /// `invalid-option` if there is no room for a token.
    pub fn set_length(&self, length: usize) -> Result<()> {
        let least = self.form.prefix.len() + self.form.suffix.len() + 1;
        if length < least {
            return Err(Error::option(format!(
                "the length of a text: wanted {least} tokens or more, found {length}"
            )));
        }
        self.length.set(length);
        Ok(())
    }

    /// How many of a row's ids are not padding behind a text.
    pub fn unpadded(&self, ids: &[u32]) -> usize {
        ids.iter().rposition(|id| *id != self.form.pad).map_or(0, |last| last + 1)
    }

    /// How many of these are tokens of the text.
    pub fn room(&self) -> usize {
        let Form { prefix, suffix, .. } = &self.form;
        self.length().saturating_sub(prefix.len() + suffix.len())
    }

    /// Where they begin.
    pub fn first(&self) -> usize {
        self.form.prefix.len()
    }

    /// The ids of a text, always [`Tokenizer::length`] of them. Any text is encoded, the empty one too.
    ///
    /// # Errors
    /// Those of [`Codec::encode`]; CLIP's has none.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        let tokens = self.tokens(text)?;
        let (kept, rest) = tokens.split_at(tokens.len().min(self.room()));
        let overflow = (!rest.is_empty()).then(|| self.decode(rest));
        let attended = self.form.prefix.len() + kept.len() + self.form.suffix.len();
        Ok(Encoded { ids: self.row(kept), tokens: tokens.len(), attended, overflow })
    }

    /// The ids of a text alone, as many as it has.
    ///
    /// # Errors
    /// Those of [`Codec::encode`]; CLIP's has none.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = vec![];
        for part in self.names.split(text) {
            match part {
                Part::Text(text) => self.form.codec.encode(text, &mut ids)?,
                Part::Ids(range) => ids.extend(range),
            }
        }
        Ok(ids)
    }

    /// `[length]`: what begins a text, as many tokens as there is room for, what ends it, padding.
    pub fn row(&self, tokens: &[u32]) -> Vec<u32> {
        let Form { prefix, suffix, pad, .. } = &self.form;
        let mut ids = [prefix, &tokens[..tokens.len().min(self.room())], suffix].concat();
        ids.resize(self.length(), *pad);
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

    /// Whether the tokenizer is another than CLIP's, of which `vocab_json` and `merges_txt` are not read, and whose codec a
    /// browser has in a module of its own. `tokenizer_json` and `tokenizer_config` say so.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_files`] that come of these two.
    pub fn is_beyond_clip(&self) -> Result<bool> {
        Ok(kind(self)?.vocabulary != Vocabulary::Words)
    }

    /// The name of the file that has the vocabulary of another tokenizer than CLIP's.
    pub fn vocabulary_place(&self) -> String {
        let own = self.tokenizer_json.is_none() && self.sentencepiece.is_some();
        self.place(if own { "spiece.model" } else { "tokenizer.json" })
    }
}

/// The kind of the files: by the class that the configuration names, else by what `tokenizer.json` holds.
fn kind(files: &Files) -> Result<&'static Kind> {
    let class = settings::class(files)?;
    let any = class.as_deref().is_some_and(|class| ANY.contains(&class));
    let class = class.as_deref().filter(|_| !any);
    let named = KINDS.iter().find(|kind| class.is_some_and(|class| kind.classes.contains(&class)));
    if named.is_some_and(|kind| kind.vocabulary == Vocabulary::Words) {
        return Ok(&KINDS[0]);
    }
    let found = Head::read(files)?.map(|head| head.vocabulary());
    match (named, class, found) {
        (Some(kind), _, None) => Ok(kind),
        (Some(kind), _, Some(found)) if kind.vocabulary == found => Ok(kind),
        (Some(kind), _, Some(found)) => Err(Error::model(format!(
            "{}: its tokenizer_class is {:?}, whose vocabulary is {}; found {}",
            files.place("tokenizer.json"),
            class.unwrap_or_default(),
            kind.vocabulary.as_str(),
            found.as_str()
        ))),
        (None, None, Some(found)) => {
            // Byte pairs of bytes without a class may be CLIP's, damaged: it says what is wrong with them.
            let known = |kind: &&Kind| kind.vocabulary == found && (any || found != Vocabulary::ByteLevel);
            Ok(KINDS.iter().find(known).unwrap_or(&KINDS[0]))
        }
        (None, None, None) => Ok(&KINDS[if files.sentencepiece.is_some() { 1 } else { 0 }]),
        // CLIP's, under the name of a class that was derived from it.
        (None, Some(_), None | Some(Vocabulary::Words)) => Ok(&KINDS[0]),
        (None, Some(class), Some(_)) => {
            let known = KINDS.iter().map(|kind| kind.classes[0]).collect::<Vec<_>>().join(", ");
            let config = files.place("tokenizer_config.json");
            Err(Error::unsupported(format!(
                "{config}: tokenizer_class: wanted one of {known}, found {class:?}"
            )))
        }
    }
}

/// `clean_up_tokenization` of transformers: no spaces before English punctuation.
fn tidied(text: &str) -> String {
    let marks = [" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"];
    marks.iter().fold(text.to_string(), |text, mark| text.replace(mark, mark.trim()))
}

#[cfg(test)]
mod tests;
