//! CLIP's vocabulary (OpenAI's CLIP, MIT licence) from its merges alone: each as the ids of the two tokens that become
//! one, two bytes each, lowest first. What a pair becomes has the next id.

use super::bytes;
use super::merges::WORD_END;

/// Tokens of the vocabulary, the two that begin and end a text included.
pub const CLIP_TOKENS: usize = 49408;

/// `vocab.json` and `merges.txt`, as a tokenizer's folder has them; none of bytes that are no such merges.
pub fn clip_files(merges: &[u8]) -> Option<[String; 2]> {
    let mut letters = bytes::letters();
    letters.sort_unstable();
    let mut tokens: Vec<String> = letters.iter().map(char::to_string).collect();
    tokens.extend(letters.iter().map(|letter| format!("{letter}{WORD_END}")));
    let mut lines = "#version: 0.2\n".to_owned();
    for pair in merges.chunks(4) {
        let id = |at: usize| Some(usize::from(u16::from_le_bytes([*pair.get(at)?, *pair.get(at + 1)?])));
        let [a, b] = [tokens.get(id(0)?)?, tokens.get(id(2)?)?];
        let joined = format!("{a}{b}");
        lines.extend([a, " ", b, "\n"]);
        tokens.push(joined);
    }
    tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(str::to_owned));
    let entry = |(id, token): (usize, &String)| {
        format!("\"{}\":{id}", token.replace('\\', "\\\\").replace('"', "\\\""))
    };
    let entries: Vec<String> = tokens.iter().enumerate().map(entry).collect();
    (tokens.len() == CLIP_TOKENS).then(|| [format!("{{{}}}", entries.join(",")), lines])
}
