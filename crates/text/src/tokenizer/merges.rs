//! Byte pairs: a word's letters are joined, the pair with the lowest rank first (arXiv:1508.07909).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::bytes;

/// The end of a word in CLIP's vocabulary.
pub const WORD_END: &str = "</w>";

/// Tokens, their ids, and the pairs that become one token.
pub struct Merges {
    pub ids: HashMap<String, u32>,
    texts: HashMap<u32, String>,
    /// Rank and id of what two tokens become.
    pairs: HashMap<(u32, u32), (u32, u32)>,
    /// Of every byte: within a word, and at its end.
    bytes: [[u32; 2]; 256],
}

/// A place of a word that a pair may be joined at; `next` is the place behind it.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    before: usize,
    next: usize,
    gone: bool,
}

const NONE: usize = usize::MAX;

impl Merges {
    /// # Errors
    /// A token that the vocabulary lacks: one of a pair, or what a pair becomes; or a byte's, within a word or at its
    /// end, without which some text could not be written.
    pub fn new(ids: HashMap<String, u32>, pairs: &[(&str, &str)]) -> Result<Merges, Missing> {
        let id = |token: &str| ids.get(token).copied();
        let mut table = HashMap::new();
        for (rank, (a, b)) in pairs.iter().enumerate() {
            let joined = format!("{a}{b}");
            let of_pair = |token: &str| id(token).ok_or_else(|| Missing::OfPair(token.to_owned()));
            table.insert((of_pair(a)?, of_pair(b)?), (rank as u32, of_pair(&joined)?));
        }
        let letters = bytes::letters();
        let ends = letters.map(|letter| [letter.to_string(), format!("{letter}{WORD_END}")]);
        // The smallest, so that the message is the same every time.
        if let Some(token) = ends.iter().flatten().filter(|token| id(token).is_none()).min() {
            return Err(Missing::Byte(token.clone()));
        }
        let bytes = ends.map(|pair| pair.map(|token| ids[&token]));
        let texts = ids.iter().map(|(text, id)| (*id, text.clone())).collect();
        Ok(Merges { texts, pairs: table, bytes, ids })
    }

    pub fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(&id).map(String::as_str)
    }

    /// The tokens of a word, in time that grows with its length, not with the square of it.
    pub fn tokens(&self, word: &str, ids: &mut Vec<u32>) {
        let count = word.len();
        let symbol = |(i, byte): (usize, u8)| Symbol {
            id: self.bytes[byte as usize][usize::from(i + 1 == count)],
            before: i.checked_sub(1).unwrap_or(NONE),
            next: if i + 1 < count { i + 1 } else { NONE },
            gone: false,
        };
        let mut symbols: Vec<Symbol> = word.bytes().enumerate().map(symbol).collect();
        let mut queue = BinaryHeap::new();
        // The lowest rank first, of one rank the leftmost.
        let offer = |queue: &mut BinaryHeap<_>, symbols: &[Symbol], at: usize| {
            let next = symbols[at].next;
            if next != NONE
                && let Some(&(rank, id)) = self.pairs.get(&(symbols[at].id, symbols[next].id))
            {
                queue.push(Reverse((rank, at, id)));
            }
        };
        for at in 0..count {
            offer(&mut queue, &symbols, at);
        }
        while let Some(Reverse((_, at, id))) = queue.pop() {
            let Symbol { id: left, next, gone, .. } = symbols[at];
            // The pair may have become part of something else meanwhile.
            let still = !gone && next != NONE && {
                self.pairs.get(&(left, symbols[next].id)).is_some_and(|(_, made)| *made == id)
            };
            if !still {
                continue;
            }
            let after = symbols[next].next;
            symbols[next].gone = true;
            symbols[at] = Symbol { id, next: after, ..symbols[at] };
            if after != NONE {
                symbols[after].before = at;
            }
            let before = symbols[at].before;
            if before != NONE {
                offer(&mut queue, &symbols, before);
            }
            offer(&mut queue, &symbols, at);
        }
        ids.extend(symbols.iter().filter(|symbol| !symbol.gone).map(|symbol| symbol.id));
    }
}

/// A token that a vocabulary lacks.
#[derive(Debug)]
pub enum Missing {
    OfPair(String),
    Byte(String),
}
