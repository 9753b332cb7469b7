//! The tokenizers of diffusion transformers: T5's, Gemma's and Qwen's. What a text's tokens are is a [`Codec`] that is made
//! elsewhere: natively by `tintype-tokenizer`, in a browser by whoever loads the model ([`Make`]), since the module of the
//! runtime has none. Here is what begins, ends and pads a text.

use super::head::{Head, Vocabulary};
use super::settings::Settings;
use super::{Codec, Files, Form, Kind, Make};
use crate::error::{Error, Result};

/// The special tokens that have a role, with their class defaults; how long a text is if nothing says so; whether a text
/// begins with `bos_token` and ends with `eos_token` where the file has no template of it.
struct Class {
    roles: &'static [(&'static str, &'static str)],
    length: usize,
    ends: [bool; 2],
    /// Whether `add_bos_token` and `add_eos_token` of the configuration count, and the file's template does not.
    configured: bool,
}

pub(super) const T5: Kind = Kind {
    classes: &["T5Tokenizer", "T5TokenizerFast"],
    vocabulary: Vocabulary::Unigram,
    read: |files, make| {
        let roles = &[("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")];
        read(files, make, &Class { roles, length: 512, ends: [false, true], configured: false })
    },
};

pub(super) const GEMMA: Kind = Kind {
    classes: &["GemmaTokenizer", "GemmaTokenizerFast"],
    vocabulary: Vocabulary::ByteFallback,
    read: |files, make| {
        let roles =
            &[("bos_token", "<bos>"), ("eos_token", "<eos>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")];
        read(files, make, &Class { roles, length: 512, ends: [true, false], configured: true })
    },
};

pub(super) const QWEN: Kind = Kind {
    classes: &["Qwen2Tokenizer", "Qwen2TokenizerFast"],
    vocabulary: Vocabulary::ByteLevel,
    read: |files, make| {
        let roles = &[("pad_token", "<|endoftext|>")];
        read(files, make, &Class { roles, length: 512, ends: [false, false], configured: false })
    },
};

fn read(files: &Files, make: Make<'_>, class: &Class) -> Result<Form> {
    let settings = Settings::read(files, class.roles, class.length)?;
    let head = Head::read(files)?;
    let codec = make(files)?;
    let (config, file) = (files.place("tokenizer_config.json"), files.vocabulary_place());
    for (token, id) in &settings.special {
        let Some(id) = *id else { continue };
        let found = codec.id(&token.content);
        if found != Some(id) {
            let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
            let token = &token.content;
            return Err(Error::model(format!(
                "{config} says that {token:?} has id {id}, {file} says {found}"
            )));
        }
    }
    let id_of = |token: &str, what: &str| {
        let missing = || Error::model(format!("{file} has no id for the {what}, {token:?}"));
        codec.id(token).ok_or_else(missing)
    };
    let template = head.as_ref().and_then(Head::template).filter(|_| !class.configured);
    let [prefix, suffix] = match &template {
        Some(ends) => ends.clone(),
        None => {
            let end = |role: &str, flag: &str, usual: bool| {
                let wanted = settings.flag(flag).filter(|_| class.configured).unwrap_or(usual);
                wanted.then(|| settings.token(role)).into_iter().collect()
            };
            let [begins, ends] = class.ends;
            [end("bos_token", "add_bos_token", begins), end("eos_token", "add_eos_token", ends)]
        }
    };
    let ids = |tokens: Vec<&str>, what| -> Result<Vec<u32>> {
        tokens.into_iter().map(|token| id_of(token, what)).collect()
    };
    let (prefix, suffix) = (ids(prefix, "token in front of a text")?, ids(suffix, "token behind a text")?);
    let pad = id_of(settings.token("pad_token"), "pad_token")?;
    let Settings { length, tidies, .. } = settings;
    Ok(Form { codec, length, prefix, suffix, pad, tidies })
}

/// What is linked makes it.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn native(files: &Files) -> Result<Box<dyn Codec>> {
    use tintype_tokenizer::Library;
    let file = files.vocabulary_place();
    let library = match (&files.tokenizer_json, &files.sentencepiece) {
        (Some(bytes), _) => Library::from_json(bytes, &file)?,
        (None, Some(bytes)) => Library::from_sentencepiece(bytes, &file, super::settings::extra_ids(files)?)?,
        (None, None) => return Err(missing(files)),
    };
    Ok(Box::new(library))
}

/// Nothing is linked: [`provided`] makes it.
#[cfg(target_arch = "wasm32")]
pub(super) fn native(files: &Files) -> Result<Box<dyn Codec>> {
    Err(Error::unsupported(format!(
        "{}: wanted a module that knows its kind, found none",
        files.vocabulary_place()
    )))
}

/// What makes a codec of files, with the number of T5's extra tokens.
#[cfg(target_arch = "wasm32")]
pub type Provider = std::rc::Rc<dyn Fn(&Files, usize) -> Making>;
#[cfg(target_arch = "wasm32")]
type Making = std::pin::Pin<Box<dyn Future<Output = Result<Box<dyn Codec>>>>>;

#[cfg(target_arch = "wasm32")]
thread_local! {
    static PROVIDER: std::cell::RefCell<Option<Provider>> = const { std::cell::RefCell::new(None) };
}

/// Lets `provider` make the codecs of this thread's tokenizers other than CLIP's.
#[cfg(target_arch = "wasm32")]
pub fn provide(provider: Provider) {
    PROVIDER.with(|held| *held.borrow_mut() = Some(provider));
}

#[cfg(target_arch = "wasm32")]
pub(super) async fn provided(files: &Files) -> Result<Box<dyn Codec>> {
    if files.tokenizer_json.is_none() && files.sentencepiece.is_none() {
        return Err(missing(files));
    }
    let extra_ids = super::settings::extra_ids(files)?;
    let Some(provider) = PROVIDER.with(|held| held.borrow().clone()) else { return native(files) };
    provider(files, extra_ids).await
}

/// That there is no vocabulary among the files.
pub(super) fn missing(files: &Files) -> Error {
    let [json, model] = ["tokenizer.json", "spiece.model"].map(|file| files.place(file));
    Error::not_found(format!("{json} is missing (and so is {model}, which would do for T5)"))
}

#[cfg(not(target_arch = "wasm32"))]
impl Codec for tintype_tokenizer::Library {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        ids.extend(tintype_tokenizer::Library::encode(self, text)?);
        Ok(())
    }

    fn decode(&self, ids: &[u32]) -> String {
        // For messages alone: what cannot be spelled is left out of them.
        tintype_tokenizer::Library::decode(self, ids).unwrap_or_default()
    }

    fn token(&self, id: u32) -> Option<String> {
        tintype_tokenizer::Library::token(self, id)
    }

    fn id(&self, token: &str) -> Option<u32> {
        tintype_tokenizer::Library::id(self, token)
    }
}
