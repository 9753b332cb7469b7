//! CLIP's tokenizer: byte-pair encoding of lower-case words.
//!
//! The behaviour is that of the *fast* tokenizer of transformers (`CLIPTokenizerFast`, and the only one
//! from transformers 5 on): NFC, runs of white space to one space, lower case, CLIP's pattern, bytes,
//! merges. It is not that of the slow tokenizer, which first repairs the text with ftfy (curly quotes,
//! HTML entities); ordinary prompts give the same ids in both.

use super::merges::WORD_END;
use super::settings::Settings;
use super::special::{Finder, Part};
use super::vocabulary::{Vocabulary, no_id};
use super::{Codec, Files, Form, Kind, bytes, head, words};
use crate::error::Result;

pub(super) const KIND: Kind = Kind {
    classes: &["CLIPTokenizer", "CLIPTokenizerFast"],
    vocabulary: head::Vocabulary::Words,
    read: |files, _| read(files),
};

/// The special tokens that have a role, with their class defaults.
const ROLES: [(&str, &str); 4] = [
    ("bos_token", "<|startoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
];

/// The length that CLIP's text encoders are trained with, for configurations that do not say.
const LENGTH: usize = 77;

struct Clip {
    vocabulary: Vocabulary,
    /// Special tokens that are looked for in the text as it is written, and in its normal form.
    written: Finder,
    normal: Finder,
}

/// From `tokenizer.json` if there is one, else from `vocab.json` and `merges.txt`; the other two files say which tokens
/// are special.
fn read(files: &Files) -> Result<Form> {
    let settings = settings(files)?;
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
    let codec = Box::new(Clip { vocabulary, written, normal });
    Ok(Form { codec, length, prefix: vec![start], suffix: vec![end], pad, tidies })
}

pub(super) fn settings(files: &Files) -> Result<Settings> {
    Settings::read(files, &ROLES, LENGTH)
}

impl Codec for Clip {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        for part in self.written.split(text) {
            let text = match part {
                Part::Token(id) => {
                    ids.push(id);
                    continue;
                }
                Part::Text(text) => words::normalized(text),
            };
            for part in self.normal.split(&text) {
                match part {
                    Part::Token(id) => ids.push(id),
                    Part::Text(text) => {
                        words::words(text).for_each(|word| self.vocabulary.merges.tokens(word, ids));
                    }
                }
            }
        }
        Ok(())
    }

    fn decode(&self, ids: &[u32]) -> String {
        bytes::spelled(ids.iter().filter_map(|id| self.vocabulary.text(*id))).replace(WORD_END, " ")
    }

    fn token(&self, id: u32) -> Option<String> {
        self.vocabulary.text(id).map(str::to_owned)
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.vocabulary.id(token)
    }
}
