//! Tokenizers, from their files to the ids of texts.

use pollster::block_on;
use tintype::error::Result;
use tintype::tokenizer::{Files as Parts, Tokenizer};
use tintype::weights::Folder;

use super::folder;
use crate::corpus::{here, read};
use crate::mutate::Files;

/// With tokenizer.json and without, each alone: what has it does not read the others.
pub fn tokenizers() -> Vec<Files> {
    let of = |model: &str| read(&here("tests/golden/models").join(model));
    let whole = of("sdxs-like/tokenizer");
    let mut alone = whole.clone();
    alone.retain(|path, _| path != "vocab.json" && path != "merges.txt");
    vec![alone, of("sd-turbo-like/tokenizer"), of("sdxl-like/tokenizer")]
}

const TEXTS: [&str; 5] = [
    "",
    "a red fox",
    "<|startoftext|> it's  <|endoftext|>!! 12½ \u{130}x\u{301} \u{1f98a}\u{0}",
    "!<a>  <a>x",
    "\u{feff}\n\t",
];

pub fn encode(files: &Files) -> Result<()> {
    let folder = folder(files);
    let file = |name: &str| block_on(folder.read(name));
    let mut tokenizer = Tokenizer::from_files(&Parts {
        folder: "tokenizer".to_owned(),
        tokenizer_json: file("tokenizer.json")?,
        vocab_json: file("vocab.json")?,
        merges_txt: file("merges.txt")?,
        sentencepiece: file("spiece.model")?,
        tokenizer_config: file("tokenizer_config.json")?,
        special_tokens_map: file("special_tokens_map.json")?,
    })?;
    // Ids that a model's embeddings would have; taken ones are refused.
    let _ = tokenizer.add_name("<a>", 1000..1003);
    let long = "a fox, ".repeat(100);
    for text in TEXTS.into_iter().chain([long.as_str()]) {
        let encoded = tokenizer.encode(text)?;
        assert_eq!(encoded.ids.len(), tokenizer.length(), "ids of {text:?}");
    }
    Ok(())
}
