//! Words that stand for learnt embeddings (textual inversion).

use crate::error::{Error, Result};
use std::ops::Range;

/// The names that were added to a vocabulary.
#[derive(Default)]
pub struct Names(Vec<Name>);

/// A name and the ids that it stands for, one for each of its vectors.
pub struct Name {
    pub text: String,
    ids: Range<u32>,
    /// The text in lower case, letter by letter.
    letters: Vec<char>,
}

/// A stretch of a text.
#[derive(Debug, PartialEq)]
pub enum Part<'a> {
    Text(&'a str),
    /// What a name stands for.
    Ids(Range<u32>),
}

impl Names {
    pub fn add(&mut self, name: &str, ids: Range<u32>) -> Result<()> {
        let text = name.trim().to_owned();
        let letters: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        if letters.is_empty() {
            return Err(Error::option("the name of an embedding is empty"));
        }
        if ids.is_empty() {
            return Err(Error::option(format!("the embedding {text:?} has no vectors")));
        }
        if self.0.iter().any(|other| other.letters == letters) {
            return Err(Error::option(format!("there is an embedding with the name {text:?} already")));
        }
        self.0.push(Name { text, ids, letters });
        Ok(())
    }

    /// The name that this id belongs to.
    pub fn of(&self, id: u32) -> Option<&Name> {
        self.0.iter().find(|name| name.ids.contains(&id))
    }

    /// Whether the id belongs to a name, but is not its first.
    pub fn inside(&self, id: u32) -> bool {
        self.of(id).is_some_and(|name| name.ids.start < id)
    }

    /// A text cut before and after every name in it; of two names that begin together the longer counts.
    pub fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = vec![];
        let (mut from, mut at) = (0, 0);
        while let Some(next) = text[at..].chars().next() {
            let Some((name, end)) = self.longest(text, at) else {
                at += next.len_utf8();
                continue;
            };
            if from < at {
                parts.push(Part::Text(&text[from..at]));
            }
            parts.push(Part::Ids(name.ids.clone()));
            (from, at) = (end, end);
        }
        if from < text.len() {
            parts.push(Part::Text(&text[from..]));
        }
        parts
    }

    /// The longest name that stands at this place of a text, and where it ends.
    fn longest(&self, text: &str, at: usize) -> Option<(&Name, usize)> {
        let ends = self.0.iter().filter_map(|name| Some((name, at + name.length_in(&text[at..])?)));
        ends.filter(|(_, end)| is_word(text, at..*end)).max_by_key(|(_, end)| *end)
    }
}

impl Name {
    /// How many bytes of the text the name takes, if the text begins with it, in any case of letters.
    fn length_in(&self, text: &str) -> Option<usize> {
        let mut letters = self.letters.iter();
        for (i, c) in text.char_indices() {
            if letters.len() == 0 {
                return Some(i);
            }
            if !c.to_lowercase().all(|c| letters.next() == Some(&c)) {
                return None;
            }
        }
        (letters.len() == 0).then_some(text.len())
    }
}

/// Whether a range of a text is a word, or several, and not a part of one: a letter or digit at its edge
/// has none beside it. `_` is a letter here.
pub fn is_word(text: &str, range: Range<usize>) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (before, word, after) = (&text[..range.start], &text[range.clone()], &text[range.end..]);
    let begins = letter(before.chars().next_back()) && letter(word.chars().next());
    let goes_on = letter(word.chars().next_back()) && letter(after.chars().next());
    !begins && !goes_on
}
