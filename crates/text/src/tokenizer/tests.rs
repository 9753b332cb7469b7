//! On a tiny vocabulary; what it should give was worked out by hand from CLIP's rules.

mod kinds;
mod library;

use std::collections::HashMap;

use super::merges::WORD_END;
use super::*;
use crate::error::Code;

const START: u32 = 520;
const END: u32 = 521;

/// Ids 0..256 are the bytes in the order of their letters ("!" is 0, "a" is 64), 256..512 the same at
/// the end of a word, then the merges below, then start and end.
const MERGES: &str =
    "#version: 0.2\nc a\nca t</w>\n\u{120} a</w>\n! !</w>\nn \u{ef}\nr e</w>\n' s</w>\n1 2</w>\n";

pub fn vocab() -> HashMap<String, u32> {
    let mut letters = bytes::letters();
    letters.sort_unstable();
    let inner = letters.iter().map(|c| c.to_string());
    let ends = letters.iter().map(|c| format!("{c}{WORD_END}"));
    let merged = MERGES.lines().skip(1).map(|line| line.replace(' ', ""));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
    inner.chain(ends).chain(merged).chain(special).zip(0..).collect()
}

fn files(pad: &str) -> Files {
    let config = format!(
        r#"{{"pad_token": "{pad}", "model_max_length": 9, "unk_token": {{"content": "<|endoftext|>"}}}}"#
    );
    Files {
        folder: "tokenizer".to_string(),
        vocab_json: Some(serde_json::to_vec(&vocab()).unwrap()),
        merges_txt: Some(MERGES.as_bytes().to_vec()),
        tokenizer_config: Some(config.into_bytes()),
        ..Files::default()
    }
}

/// The tokens of a text, without start, end and padding.
fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text).unwrap().ids;
    assert_eq!(ids.len(), tokenizer.length());
    assert_eq!(ids[0], START);
    let end = ids.iter().rposition(|&id| id == END && id != tokenizer.form.pad);
    let end = end.unwrap_or_else(|| ids.iter().rposition(|&id| id != END).unwrap() + 1);
    ids[1..end].iter().map(|&id| tokenizer.form.codec.token(id).unwrap().to_owned()).collect()
}

#[test]
fn words_become_tokens() {
    let t = Tokenizer::from_files(&files("<|endoftext|>")).unwrap();
    assert_eq!(t.encode("cat").unwrap().ids, [START, 513, END, END, END, END, END, END, END]);
    assert_eq!(
        t.encode("").unwrap(),
        Encoded { ids: [&[START][..], &[END; 8]].concat(), tokens: 0, attended: 2, overflow: None }
    );
    // Lower case, white space of any kind, single digits, the pattern, composed letters.
    assert_eq!(tokens(&t, " CAT\u{a0}\n cat12"), ["cat</w>", "cat</w>", "1</w>", "2</w>"]);
    assert_eq!(tokens(&t, "cat's!!"), ["cat</w>", "'s</w>", "!!</w>"]);
    assert_eq!(tokens(&t, "e\u{301}"), tokens(&t, "\u{e9}"));
    assert_eq!(tokens(&t, "\u{e9}").len(), 2);
    // CLIP's own tokens are found in lowered text.
    assert_eq!(tokens(&t, "a<|ENDOFTEXT|>b").len(), 3);
}

#[test]
fn a_pad_that_is_a_letter_is_split_out_of_the_text() {
    let t = Tokenizer::from_files(&files("!")).unwrap();
    assert_eq!(t.encode("cat!!").unwrap().ids, [START, 513, 0, 0, END, 0, 0, 0, 0]);
    // Pads within a text are no padding.
    assert_eq!(t.unpadded(&t.encode("cat!!").unwrap().ids), 5);
    let plain = Tokenizer::from_files(&files("<|endoftext|>")).unwrap();
    assert_eq!(plain.encode("cat!!").unwrap().ids[2], vocab()["!!</w>"]);
    // It is looked for in the text as it is written, before it is lowered.
    let letter = Tokenizer::from_files(&files("a")).unwrap();
    assert_eq!(letter.encode("Aa").unwrap().ids[..4], [START, vocab()["a</w>"], letter.form.pad, END]);
    // In a configuration with a list of added tokens, special_tokens_map.json comes second.
    let mut newer = files("<|endoftext|>");
    let map = br#"{"pad_token": "!"}"#.to_vec();
    newer.special_tokens_map = Some(map.clone());
    assert_eq!(Tokenizer::from_files(&newer).unwrap().form.pad, 0);
    newer.tokenizer_config = Some(br#"{"pad_token": "<|endoftext|>", "added_tokens_decoder": {}}"#.to_vec());
    assert_eq!(Tokenizer::from_files(&newer).unwrap().form.pad, END);
    assert_eq!(Tokenizer::from_files(&newer).unwrap().length(), 77);
}

#[test]
fn what_is_cut_off_is_reported() {
    let mut files = files("!");
    let text = "cat cat cat cat cat cat cat cat, cat";
    let encoded = Tokenizer::from_files(&files).unwrap().encode(text).unwrap();
    assert_eq!(encoded.ids, [START, 513, 513, 513, 513, 513, 513, 513, END]);
    assert_eq!(encoded.tokens, 10);
    assert_eq!(encoded.overflow.as_deref(), Some("cat , cat"));
    assert_eq!(
        Tokenizer::from_files(&files).unwrap().encode("cat cat cat cat cat cat cat").unwrap().overflow,
        None
    );
    let config = br#"{"model_max_length": 9, "clean_up_tokenization_spaces": true}"#;
    files.tokenizer_config = Some(config.to_vec());
    let encoded = Tokenizer::from_files(&files).unwrap().encode(text).unwrap();
    assert_eq!(encoded.overflow.as_deref(), Some("cat, cat"));
}

#[test]
fn names_are_whole_words() {
    let plain = Tokenizer::from_files(&files("<|endoftext|>")).unwrap();
    let mut t = Tokenizer::from_files(&files("<|endoftext|>")).unwrap();
    t.add_name(" <Cat-Toy> ", 522..525).unwrap();
    t.add_name("cat", 530..531).unwrap();
    t.add_name("Cat cat", 531..533).unwrap();
    t.add_name("\u{130}", 600..601).unwrap();
    let a = vocab()["a</w>"];
    // In any case of letters, the longest first; marks at a name's edge may have letters beside them.
    assert_eq!(t.tokens("A <cat-toy>").unwrap(), [a, 522, 523, 524]);
    assert_eq!(t.tokens("a<CAT-TOY>a").unwrap(), [a, 522, 523, 524, a]);
    assert_eq!(t.tokens("cat <cat-toy>cat CAT a").unwrap(), [530, 522, 523, 524, 531, 532, a]);
    assert_eq!(t.tokens("cat cat cat").unwrap(), [531, 532, 530]);
    assert_eq!(t.tokens("cat's").unwrap(), [530, vocab()["'s</w>"]]);
    assert_eq!(t.tokens("i\u{307} \u{130}").unwrap(), [600, 600]);
    for text in ["cats", "concat", "cat_1", "cat1", "<toy>", "", " ", "\u{e9}cat\u{e9}", "i"] {
        assert_eq!(t.tokens(text).unwrap(), plain.tokens(text).unwrap(), "{text}");
    }
    assert_eq!([521, 522, 523, 524, 525].map(|id| t.inside_name(id)), [false, false, true, true, false]);
    // Seven tokens count; a name is told once, as it was given.
    let rest = |text: &str| t.encode(text).unwrap().overflow;
    assert_eq!(rest("a a a a <cat-toy>"), None);
    assert_eq!(rest("a a a a a a <cat-toy> a").as_deref(), Some("<Cat-Toy> a"));
    assert_eq!(rest("a a a a a a a a cat a, cat").as_deref(), Some("a cat a , cat"));
    let wrong: [(&str, Range<u32>, &str); 5] = [
        (" ", 700..701, "is empty"),
        ("dog", 700..700, "\"dog\" has no vectors"),
        ("CAT", 700..701, "\"CAT\" already"),
        ("dog", END..700, "the id 521 is taken"),
        ("dog", 599..603, "the id 600 is taken"),
    ];
    for (name, ids, words) in wrong {
        let error = t.add_name(name, ids).unwrap_err();
        assert_eq!(error.code, Code::InvalidOption, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

#[test]
fn tokenizer_json_gives_the_same() {
    let plain = files("!");
    let from_parts = Tokenizer::from_files(&plain).unwrap();
    let json = library::reference(&plain).to_string(false).unwrap();
    let whole = Files { tokenizer_json: Some(json.into()), vocab_json: None, merges_txt: None, ..plain };
    let from_whole = Tokenizer::from_files(&whole).unwrap();
    for text in ["cat!! cats", "", "\u{e9} <|endoftext|> 12 cat, cat cat cat cat"] {
        assert_eq!(from_whole.encode(text).unwrap(), from_parts.encode(text).unwrap());
    }
    // What would give other tokens is refused, and named.
    let json: serde_json::Value = serde_json::from_slice(whole.tokenizer_json.as_ref().unwrap()).unwrap();
    for (pointer, value, words) in [
        ("/model/type", "WordPiece", "model.type: wanted \"BPE\", found \"WordPiece\""),
        ("/model/end_of_word_suffix", "", "model.end_of_word_suffix: wanted \"</w>\""),
        ("/normalizer/normalizers/0/type", "NFKC", "normalizer: wanted"),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", r"\w+", "pre_tokenizer: wanted"),
        ("/pre_tokenizer/pretokenizers/1/type", "Digits", "ByteLevel"),
    ] {
        let mut other = json.clone();
        *other.pointer_mut(pointer).unwrap() = value.into();
        let files = Files { tokenizer_json: Some(other.to_string().into_bytes()), ..whole.clone() };
        let error = Tokenizer::from_files(&files).err().expect(words);
        assert!(error.code == Code::InvalidModel && error.message.contains(words), "{error}");
        assert!(error.message.starts_with("tokenizer/tokenizer.json"), "{error}");
    }
    let mut other = json.clone();
    let pattern = format!(r"<\|startoftext\|>|<\|endoftext\|>|{}", words::PATTERN);
    *other.pointer_mut("/pre_tokenizer/pretokenizers/0/pattern/Regex").unwrap() = pattern.into();
    let files = Files { tokenizer_json: Some(other.to_string().into_bytes()), ..whole };
    assert_eq!(
        Tokenizer::from_files(&files).unwrap().encode("cat!!").unwrap(),
        from_parts.encode("cat!!").unwrap()
    );
    *other.pointer_mut("/pre_tokenizer/pretokenizers/1/use_regex").unwrap() = false.into();
    let files = Files { tokenizer_json: Some(other.to_string().into_bytes()), ..files };
    let error = Tokenizer::from_files(&files).err().expect("other tokens");
    assert!(error.message.contains("pre_tokenizer: wanted"), "{error}");
}

#[test]
fn errors_name_the_file() {
    let refused = |change: &dyn Fn(&mut Files), code: Code, words: &str| {
        let mut files = files("!");
        change(&mut files);
        let error = Tokenizer::from_files(&files).err().expect(words);
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    let without = |token: &str| {
        let mut vocab = vocab();
        vocab.remove(token);
        Some(serde_json::to_vec(&vocab).unwrap())
    };
    let config = |text: &str| Some(text.as_bytes().to_vec());
    let model = Code::InvalidModel;
    refused(&|f| f.vocab_json = None, Code::NotFound, "tokenizer/vocab.json is missing");
    refused(&|f| f.merges_txt = None, Code::NotFound, "tokenizer/merges.txt is missing");
    refused(&|f| f.vocab_json = config("[]"), model, "tokenizer/vocab.json is not");
    refused(&|f| f.merges_txt = config("c a\nca\n"), model, "merges.txt, line 2: \"ca\" is not a pair");
    refused(&|f| f.merges_txt = config("c b\n"), model, "tokenizer/merges.txt does not fit");
    refused(&|f| f.tokenizer_json = config("{"), model, "tokenizer/tokenizer.json is not a tokenizer");
    refused(&|f| f.tokenizer_config = config("7"), model, "tokenizer_config.json is not a JSON object");
    refused(
        &|f| f.tokenizer_config = config(r#"{"model_max_length": 1}"#),
        model,
        "model_max_length: 1 is not",
    );
    refused(&|f| f.special_tokens_map = config("7"), model, "special_tokens_map.json is not a JSON object");
    refused(&|f| f.vocab_json = without("a</w>"), model, "does not fit");
    refused(&|f| f.vocab_json = without("b</w>"), model, "vocab.json has no id for the token \"b</w>\"");
    refused(&|f| f.vocab_json = without("<|startoftext|>"), model, "no id for the token \"<|start");
    let wrong = r#"{"added_tokens_decoder": {"5": {"content": "!"}}}"#;
    refused(&|f| f.tokenizer_config = config(wrong), model, "says that \"!\" has id 5");
}
