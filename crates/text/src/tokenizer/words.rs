//! Text to words: CLIP's normal form and CLIP's pattern.

use tintype_base::host::nfc;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// NFC, runs of white space to one space, then lower case, letter by letter.
pub fn normalized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut space = false;
    for c in nfc(text).chars() {
        if c.is_whitespace() {
            if !space {
                out.push(' ');
            }
            space = true;
        } else {
            out.extend(c.to_lowercase());
            space = false;
        }
    }
    out
}

/// The matches of CLIP's pattern ([`PATTERN`]); what is between them, white space, is dropped.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let length = first(rest)?;
        let (word, after) = rest.split_at(length);
        rest = after;
        Some(word)
    })
}

/// CLIP's pattern, without its special tokens, which are found before.
pub const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Bytes of the word at the beginning of a text that does not begin with white space.
fn first(text: &str) -> Option<usize> {
    if let Some(end) =
        ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].iter().find(|end| text.starts_with(**end))
    {
        return Some(end.len());
    }
    let kind = Kind::of(text.chars().next()?);
    if kind == Kind::Number {
        return text.chars().next().map(char::len_utf8);
    }
    Some(text.find(|c| Kind::of(c) != kind).unwrap_or(text.len()))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Space,
    Letter,
    Number,
    Other,
}

impl Kind {
    fn of(c: char) -> Kind {
        if c.is_whitespace() {
            return Kind::Space;
        }
        match c.general_category_group() {
            GeneralCategoryGroup::Letter => Kind::Letter,
            GeneralCategoryGroup::Number => Kind::Number,
            _ => Kind::Other,
        }
    }
}

/// Whether a letter belongs to a word, as `\w` has it.
pub fn is_word_letter(c: char) -> bool {
    use GeneralCategory::{ConnectorPunctuation, DecimalNumber, Unassigned};
    match c.general_category() {
        // The standard library's Unicode is newer than the pattern's.
        Unassigned => false,
        ConnectorPunctuation | DecimalNumber => true,
        _ => {
            let mark = c.general_category_group() == GeneralCategoryGroup::Mark;
            mark || c.is_alphabetic() || matches!(c, '\u{200c}' | '\u{200d}')
        }
    }
}
