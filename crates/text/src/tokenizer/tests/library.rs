//! The same ids as the `tokenizers` crate, on texts of every kind of letter.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizedString, Normalizer, SplitDelimiterBehavior};
use unicode_normalization::UnicodeNormalization;

use super::super::special::Special;
use super::super::words::PATTERN;
use super::*;

/// What transformers' `CLIPConverter` makes of a vocabulary and merges, with the special tokens of the settings.
pub fn reference(files: &Files) -> tokenizers::Tokenizer {
    let vocab: HashMap<String, u32> = serde_json::from_slice(files.vocab_json.as_ref().unwrap()).unwrap();
    let merges = std::str::from_utf8(files.merges_txt.as_ref().unwrap()).unwrap().lines().skip(1);
    let merges = merges.map(|line| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap());
    let bpe = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges.collect::<Vec<_>>())
        .unk_token("<|endoftext|>".to_owned())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(WORD_END.to_owned())
        .build()
        .unwrap();
    let mut all = tokenizers::Tokenizer::new(bpe);
    let space = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").unwrap();
    all.with_normalizer(Some(Normalizers::new(vec![NFC.into(), space.into(), Lowercase.into()])));
    let pattern = SplitPattern::Regex(PATTERN.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Removed, true).unwrap();
    let steps = vec![split.into(), ByteLevel::new(false, true, true).into()];
    all.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    all.with_decoder(Some(ByteLevel::default()));
    for (token, _) in clip::settings(files).unwrap().special {
        let Special { content, normalized, lstrip, rstrip, single_word } = token;
        let token = AddedToken::from(content, true).normalized(normalized).lstrip(lstrip);
        all.add_special_tokens(&[token.rstrip(rstrip).single_word(single_word)]);
    }
    all
}

/// Texts of a fixed sequence of numbers.
struct Texts(u64);

impl Texts {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }

    fn piece(&mut self) -> String {
        const PIECES: [&str; 42] = [
            "cat",
            "Cat",
            " ",
            "  ",
            "\t",
            "\n",
            "\u{85}",
            "\u{a0}",
            "\u{1680}",
            "\u{2003}",
            "\u{2028}",
            "\u{3000}",
            "\u{200b}",
            "\u{200d}",
            "\u{feff}",
            "'",
            "'s",
            "'S",
            "'re",
            "'ll",
            "'LL",
            "''d",
            "12",
            "\u{664}",
            "\u{216b}",
            "\u{b2}",
            "!",
            "!!",
            "e\u{301}",
            "\u{e9}",
            "\u{130}",
            "\u{3a3}",
            "\u{1e9e}",
            "\u{ac00}",
            "\u{1100}\u{1161}",
            "<|endoftext|>",
            "<|ENDOFTEXT|>",
            "<|startoftext|>",
            "<cat>",
            "the-end",
            "Ox",
            "the",
        ];
        // Letters of one block, of any, or a known piece.
        match self.below(4) {
            0 => char::from_u32(self.below(0x11_0000) as u32).map(String::from).unwrap_or_default(),
            1 => char::from_u32(self.below(0x3000) as u32).map(String::from).unwrap_or_default(),
            _ => PIECES[self.below(PIECES.len())].to_owned(),
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| self.piece()).collect()
    }
}

/// Tokens with every flag, so that all ways to look for one are compared.
const SPECIAL: &str = r#"{"added_tokens_decoder": {
    "520": {"content": "<|startoftext|>", "normalized": true}, "521": {"content": "<|endoftext|>", "normalized": false},
    "522": {"content": "<cat>", "lstrip": true, "rstrip": true}, "523": {"content": "the", "single_word": true},
    "524": {"content": "the-end"}, "525": {"content": "OX", "normalized": true, "single_word": true, "lstrip": true}
}}"#;

#[test]
fn ids_are_the_library_s() {
    let mut texts = Texts(1);
    for settings in [None, Some(SPECIAL)] {
        let mut files = files("!");
        if let Some(settings) = settings {
            files.tokenizer_config = Some(settings.as_bytes().to_vec());
        }
        let (ours, library) = (Tokenizer::from_files(&files).unwrap(), reference(&files));
        let mut older = 0;
        for _ in 0..50_000 {
            let text = texts.text();
            // The library's table of marks is that of Unicode 9: newer ones it leaves in their order.
            let mut normal = NormalizedString::from(text.as_str());
            NFC.normalize(&mut normal).unwrap();
            if !text.nfc().eq(normal.get().chars()) {
                older += 1;
                continue;
            }
            let wanted = library.encode(text.as_str(), false).unwrap();
            assert_eq!(
                ours.tokens(&text).unwrap(),
                wanted.get_ids(),
                "{text:?}, of which the library makes {:?}",
                wanted.get_tokens()
            );
        }
        assert!(older < 100, "{older}");
    }
}

/// Every letter of Unicode alone, between letters, and between digits.
#[test]
fn every_letter_is_the_library_s() {
    let files = files("<|endoftext|>");
    let (ours, library) = (Tokenizer::from_files(&files).unwrap(), reference(&files));
    // Beyond the second plane there are few letters.
    let all: Vec<char> = ('\0'..'\u{18000}').chain(('\u{18000}'..=char::MAX).step_by(37)).collect();
    for letters in all.chunks(64) {
        let text: String =
            letters.iter().flat_map(|c| ['a', *c, 'a', ' ', *c, '1', *c, '!', *c, ' ']).collect();
        assert_eq!(
            ours.tokens(&text).unwrap(),
            library.encode(text, false).unwrap().get_ids(),
            "{letters:?}"
        );
    }
}

#[test]
fn tokens_are_spelled_as_by_the_library() {
    let files = files("!");
    let (ours, library) = (Tokenizer::from_files(&files).unwrap(), reference(&files));
    let mut texts = Texts(2);
    for _ in 0..2_000 {
        let ids: Vec<u32> = (0..texts.below(20)).map(|_| texts.below(522) as u32).collect();
        let wanted = library.decode(&ids, false).unwrap().replace(WORD_END, " ");
        assert_eq!(ours.decode(&ids), wanted.trim(), "{ids:?}");
    }
}

/// Of a word as long as a book.
#[test]
fn time_does_not_grow_with_the_square() {
    let ours = Tokenizer::from_files(&files("!")).unwrap();
    let word = "cat".repeat(300_000);
    let begun = std::time::Instant::now();
    assert_eq!(ours.tokens(&word).unwrap().len(), 599_999);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
