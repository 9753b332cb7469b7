//! What people write into a prompt: words with weights, and more words than the text encoder takes at once.
//!
//! The syntax is that of AUTOMATIC1111's web UI, which others took over:
//!
//! ```text
//! a (red) fox          "red" counts 1.1 times
//! a ((red)) fox        1.1 * 1.1 times
//! a [red] fox          1 / 1.1 times
//! a (red, old:1.3) fox "red, old" counts 1.3 times; only round brackets take a number
//! a (very (red:1.5):2) "red" counts 3 times, "very" twice
//! a \(red\) fox        the brackets are text: a (red) fox
//! style: (red          a colon outside is text; what is never closed ends with the prompt: "red" has 1.1
//! red) fox:1.2)        what was never opened is text, number and all
//! a fox BREAK a lake   "a lake" begins a new chunk of tokens
//! ```
//!
//! Round and square brackets are counted apart, so `(a [b) c]` weighs "a" 1.1, "b" 1 and "c" 1 / 1.1. A
//! number may have a sign, and stands between the colon and the bracket with nothing but spaces; weights end
//! at +-[`LIMIT`].
//!
//! Two things differ from the web UI: a backslash that is not before a bracket is text, where it is lost
//! there; and `BREAK` breaks within brackets too. Its prompt editing, `[from:to:when]`, is not known here: what
//! [`foreign`] finds of such syntax is a warning.
//!
//! A prompt without brackets is one piece of weight 1, and without `BREAK` and with no more tokens than fit,
//! that is one chunk, whose ids are those of [`Tokenizer::encode`]. A prompt with brackets that should be
//! text is not for [`parse`].

mod foreign;

use crate::error::Result;
use crate::tokenizer::{Tokenizer, is_word};
pub use foreign::foreign;

/// A stretch of a prompt and how much it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub text: String,
    pub weight: f32,
}

/// As many tokens as the text encoder takes at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// `[length]`: start, tokens, end, padding.
    pub ids: Vec<u32>,
    /// `[length]`: 1 for all but the tokens.
    pub weights: Vec<f32>,
}

/// The largest weight: beyond it numbers would grow out of range, not into better images.
pub const LIMIT: f32 = 100.0;

/// The word that begins a new chunk.
const BREAK: &str = "BREAK";

/// How many tokens may be left unused at the end of a chunk, to end it with a comma.
const SLACK: usize = 20;

/// The pieces of a prompt, neighbours of one weight joined; at least one. Any text is a prompt.
pub fn parse(prompt: &str) -> Vec<Piece> {
    let mut marks = marks(prompt);
    // A number stands at the end of what it is for: it is carried to the beginning.
    let mut open: [Vec<usize>; 2] = [vec![], vec![]];
    for at in 0..marks.len() {
        match marks[at] {
            Mark::Open(kind, _) => open[kind as usize].push(at),
            Mark::Close(kind, factor, text) => match open[kind as usize].pop() {
                Some(beginning) => marks[beginning] = Mark::Open(kind, factor),
                None => marks[at] = Mark::Text(text),
            },
            Mark::Text(_) => {}
        }
    }
    // The product of all brackets around, for each kind.
    let mut products: [Vec<f64>; 2] = [vec![], vec![]];
    let product = |stack: &[f64]| stack.last().copied().unwrap_or(1.0);
    let mut pieces: Vec<Piece> = vec![];
    for mark in marks {
        match mark {
            Mark::Open(kind, factor) => {
                let stack = &mut products[kind as usize];
                // Far beyond any weight, and within range whatever the prompt.
                let all = product(stack) * factor;
                stack.push(all.clamp(-1e30, 1e30));
            }
            Mark::Close(kind, ..) => _ = products[kind as usize].pop(),
            Mark::Text(text) => {
                let weight = (product(&products[0]) * product(&products[1])) as f32;
                let weight = weight.clamp(-LIMIT, LIMIT);
                match pieces.last_mut().filter(|piece| piece.weight == weight) {
                    Some(piece) => piece.text += text,
                    None => pieces.push(Piece { text: text.to_owned(), weight }),
                }
            }
        }
    }
    if pieces.is_empty() {
        pieces.push(Piece { text: String::new(), weight: 1.0 });
    }
    pieces
}

/// The tokens of a prompt in chunks of as many as there is room for; at least one. A chunk ends before `BREAK`; else, when it
/// is full, after a comma if one is among its last 20 tokens. The vectors of a name stay together.
///
/// # Errors
/// Those of [`Tokenizer::tokens`]; CLIP's has none.
pub fn chunks(tokenizer: &Tokenizer, pieces: &[Piece]) -> Result<Vec<Chunk>> {
    let mut chunks = vec![];
    let mut tokens: Vec<(u32, f32)> = vec![];
    for piece in pieces {
        for (i, text) in sections(&piece.text).into_iter().enumerate() {
            if i > 0 {
                cut(tokenizer, &tokens, &mut chunks)?;
                tokens.clear();
            }
            tokens.extend(tokenizer.tokens(text)?.into_iter().map(|id| (id, piece.weight)));
        }
    }
    if !tokens.is_empty() || chunks.is_empty() {
        cut(tokenizer, &tokens, &mut chunks)?;
    }
    Ok(chunks)
}

/// Gives all prompts of one image the same number of chunks, at least `least`: the missing ones are empty.
pub fn level(tokenizer: &Tokenizer, prompts: &mut [Vec<Chunk>], least: usize) {
    let most = prompts.iter().map(Vec::len).fold(least, usize::max);
    for chunks in prompts {
        chunks.resize(most, Chunk::new(tokenizer, &[]));
    }
}

/// Weighs the hidden states of one chunk, `[tokens, width]`, by its weights, `[tokens]`: each token's states
/// are multiplied by its weight, then all by one number, so that their mean is what it was. Where all weights
/// are 1 nothing changes, to the bit.
pub fn weigh(hidden: &mut [f32], weights: &[f32]) {
    if weights.iter().all(|&weight| weight == 1.0) {
        return;
    }
    assert_eq!(hidden.len() % weights.len(), 0, "{} states, {} weights", hidden.len(), weights.len());
    let width = hidden.len() / weights.len();
    let sum = |hidden: &[f32]| hidden.iter().map(|&z| f64::from(z)).sum::<f64>();
    let before = sum(hidden);
    for (i, z) in hidden.iter_mut().enumerate() {
        *z *= weights[i / width];
    }
    let scale = (before / sum(hidden)) as f32;
    // Not where one of the means is zero.
    if scale.is_normal() {
        hidden.iter_mut().for_each(|z| *z *= scale);
    }
}

impl Chunk {
    /// A chunk of these tokens and their weights, no more than fit.
    fn new(tokenizer: &Tokenizer, tokens: &[(u32, f32)]) -> Chunk {
        let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
        let mut weights = vec![1.0; tokenizer.length()];
        for (weight, (_, given)) in weights[tokenizer.first()..].iter_mut().zip(tokens) {
            *weight = *given;
        }
        Chunk { ids: tokenizer.row(&ids), weights }
    }
}

/// Cuts tokens into chunks; none make an empty one.
fn cut(tokenizer: &Tokenizer, mut tokens: &[(u32, f32)], chunks: &mut Vec<Chunk>) -> Result<()> {
    loop {
        let (chunk, rest) = tokens.split_at(end_of_chunk(tokenizer, tokens)?);
        chunks.push(Chunk::new(tokenizer, chunk));
        tokens = rest;
        if tokens.is_empty() {
            return Ok(());
        }
    }
}

/// How many of these tokens are the first chunk.
fn end_of_chunk(tokenizer: &Tokenizer, tokens: &[(u32, f32)]) -> Result<usize> {
    let room = tokenizer.room();
    if tokens.len() <= room {
        return Ok(tokens.len());
    }
    let inside_name = |at: &usize| tokenizer.inside_name(tokens[*at].0);
    if inside_name(&room) {
        // A name with more vectors than a chunk has room for is cut all the same.
        return Ok((1..room).rev().find(|at| !inside_name(at)).unwrap_or(room));
    }
    let comma = tokenizer.tokens(",")?;
    let is_comma = |at: &usize| comma == [tokens[*at].0];
    if is_comma(&room) {
        return Ok(room);
    }
    Ok((room.saturating_sub(SLACK)..room).rev().find(is_comma).map_or(room, |at| at + 1))
}

/// A text without the word BREAK, which stood between its sections.
fn sections(text: &str) -> Vec<&str> {
    let mut sections = vec![];
    let mut from = 0;
    for (at, word) in text.match_indices(BREAK) {
        if is_word(text, at..at + word.len()) {
            sections.push(&text[from..at]);
            from = at + word.len();
        }
    }
    sections.push(&text[from..]);
    sections
}

#[derive(Clone, Copy)]
enum Bracket {
    Round,
    Square,
}

/// What a prompt is made of.
#[derive(Clone, Copy)]
enum Mark<'a> {
    Text(&'a str),
    /// A bracket and its factor.
    Open(Bracket, f64),
    /// A bracket, its factor, and what was written.
    Close(Bracket, f64, &'a str),
}

/// What brackets without a number multiply by.
const MORE: f64 = 1.1;

fn marks(prompt: &str) -> Vec<Mark<'_>> {
    use Bracket::{Round, Square};
    let mut marks = vec![];
    let mut rest = prompt;
    while let Some(at) = rest.find(['\\', '(', ')', '[', ']', ':']) {
        if at > 0 {
            marks.push(Mark::Text(&rest[..at]));
        }
        rest = &rest[at..];
        let (mark, length) = match rest.as_bytes() {
            [b'\\', b'(' | b')' | b'[' | b']', ..] => (Mark::Text(&rest[1..2]), 2),
            [b'(', ..] => (Mark::Open(Round, MORE), 1),
            [b'[', ..] => (Mark::Open(Square, 1.0 / MORE), 1),
            [b')', ..] => (Mark::Close(Round, MORE, ")"), 1),
            [b']', ..] => (Mark::Close(Square, 1.0 / MORE, "]"), 1),
            _ => match number(rest) {
                Some((factor, length)) => (Mark::Close(Round, factor, &rest[..length]), length),
                None => (Mark::Text(&rest[..1]), 1),
            },
        };
        marks.push(mark);
        rest = &rest[length..];
    }
    if !rest.is_empty() {
        marks.push(Mark::Text(rest));
    }
    marks
}

/// The number in `: 1.25 )` and the length of it all, if the text begins so.
fn number(text: &str) -> Option<(f64, usize)> {
    let inner = text.strip_prefix(':')?;
    let end = inner.find(|c: char| !(c.is_ascii_digit() || c.is_whitespace() || "+-.".contains(c)))?;
    let factor: f64 = inner[..end].trim().parse().ok()?;
    (inner[end..].starts_with(')') && factor.is_finite()).then_some((factor, 1 + end + 1))
}

#[cfg(test)]
mod tests;
