//! Tokens beside the vocabulary's words: those with a role, and those that a model was taught. They are found in a
//! text before anything else is; of two that begin together the longer counts.

use std::ops::Range;

use serde_json::Value;

use super::words::{is_word_letter, normalized};

/// Such a token and how it is looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Special {
    pub content: String,
    /// Looked for in the normal form of the text, as its own normal form; else in the text as it is written.
    pub normalized: bool,
    /// Takes the white space on its left, on its right.
    pub lstrip: bool,
    pub rstrip: bool,
    /// Only where it is no part of a longer word.
    pub single_word: bool,
}

impl Special {
    /// A token given as a word or as an object with its flags.
    pub fn from_json(entry: &Value, normalized: bool) -> Option<Special> {
        let flag = |key: &str, default: bool| entry.get(key).and_then(Value::as_bool).unwrap_or(default);
        let content = entry.as_str().or_else(|| entry.get("content")?.as_str()).filter(|c| !c.is_empty())?;
        Some(Special {
            content: content.to_owned(),
            normalized: flag("normalized", normalized),
            lstrip: flag("lstrip", false),
            rstrip: flag("rstrip", false),
            single_word: flag("single_word", false),
        })
    }

    /// Where it stands in a text that has it at `found`, if it may stand there; `free` is the end of the last token.
    fn place(&self, text: &str, found: Range<usize>, free: usize) -> Option<Range<usize>> {
        let (before, after) = (&text[..found.start], &text[found.end..]);
        if self.single_word {
            let in_word = |c: Option<char>| c.is_some_and(is_word_letter);
            if in_word(before.chars().next_back()) || in_word(after.chars().next()) {
                return None;
            }
        }
        let start = if self.lstrip { before.trim_end().len().max(free) } else { found.start };
        let end = if self.rstrip { text.len() - after.trim_start().len() } else { found.end };
        Some(start..end)
    }
}

/// A stretch of a text.
#[derive(Debug, PartialEq)]
pub enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// The tokens that are looked for together.
#[derive(Default)]
pub struct Finder(Vec<(String, Special, u32)>);

impl Finder {
    pub fn new(tokens: impl Iterator<Item = (Special, u32)>) -> Finder {
        let pattern = |token: &Special| match token.normalized {
            true => normalized(&token.content),
            false => token.content.clone(),
        };
        let with_pattern = |(token, id): (Special, u32)| (pattern(&token), token, id);
        Finder(tokens.map(with_pattern).filter(|(pattern, ..)| !pattern.is_empty()).collect())
    }

    /// A text cut at every token in it.
    pub fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = vec![];
        let (mut free, mut at) = (0, 0);
        while let Some(next) = text[at..].chars().next() {
            let here = self.0.iter().filter(|(pattern, ..)| text[at..].starts_with(pattern.as_str()));
            // Of equal ones the first.
            let longest = here.rev().max_by_key(|(pattern, ..)| pattern.len());
            let Some((pattern, token, id)) = longest else {
                at += next.len_utf8();
                continue;
            };
            let end = at + pattern.len();
            if let Some(place) = token.place(text, at..end, free) {
                if free < place.start {
                    parts.push(Part::Text(&text[free..place.start]));
                }
                parts.push(Part::Token(*id));
                free = place.end;
            }
            at = end;
        }
        if free < text.len() {
            parts.push(Part::Text(&text[free..]));
        }
        parts
    }
}
