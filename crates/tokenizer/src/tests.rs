//! On tiny vocabularies; what they should give was worked out by hand.

use serde_json::{Value, json};
use tintype_base::error::Code;

use super::*;

/// A map of normal forms as SentencePiece writes it: the letters, each one byte, and what they become.
fn charsmap(pairs: &[(u8, &str)]) -> Vec<u8> {
    // The letters of the root are in block 1, what follows each in a block of its own.
    let mut units = vec![0u32; 256 * (2 + pairs.len())];
    let mut forms = vec![];
    units[0] = 256 << 10;
    for (i, (letter, form)) in pairs.iter().enumerate() {
        let (at, end) = (256 ^ usize::from(*letter), (512 + 256 * i) ^ usize::from(*letter));
        // The way from one to the other, counted in blocks; a normal form is there.
        units[at] = ((at ^ end) as u32 >> 8) << 10 | 1 << 9 | 1 << 8 | u32::from(*letter);
        units[end] = 1 << 31 | forms.len() as u32;
        forms.extend(form.bytes().chain([0]));
    }
    let trie = units.iter().flat_map(|unit| unit.to_le_bytes());
    let size = (units.len() as u32 * 4).to_le_bytes();
    size.into_iter().chain(trie).chain(forms).collect()
}

fn added(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
}

fn unigram() -> Value {
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "added_tokens": [added(0, "<pad>"), added(1, "</s>"), added(2, "<unk>"), added(9, "<extra_id_0>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": base64::encode(charsmap(&[(b'R', "r"), (b'&', "and")]))},
            {"type": "Strip", "strip_left": false, "strip_right": true},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u{2581}"},
        ]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
        "decoder": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [
            ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u{2581}", -2.0], ["\u{2581}red", -3.0],
            ["\u{2581}fox", -3.5], ["re", -2.5], ["d", -4.0], ["and", -3.0], ["<extra_id_0>", 0.0],
        ]},
    })
}

fn bytes(json: &Value) -> Vec<u8> {
    serde_json::to_vec(json).unwrap()
}

fn library(json: &Value) -> Library {
    Library::from_json(&bytes(json), "t/tokenizer.json").unwrap()
}

#[test]
fn pieces_with_the_best_scores() {
    let t = library(&unigram());
    assert_eq!(t.encode("red fox  red").unwrap(), [4, 5, 4]);
    assert_eq!(t.encode("Red & fox").unwrap(), [4, 3, 8, 5]);
    // Better in two pieces; letters that are none together; a token in the text.
    assert_eq!(t.encode("red redre").unwrap(), [4, 4, 6]);
    assert_eq!(t.encode("xyz<extra_id_0>red   ").unwrap(), [3, 2, 9, 4]);
    assert_eq!(t.encode("").unwrap(), [0u32; 0]);
    assert_eq!(t.decode(&[4, 5, 77]).unwrap(), "red fox");
    assert_eq!((t.token(5).as_deref(), t.token(10)), (Some("\u{2581}fox"), None));
    assert_eq!((t.id("</s>"), t.id("cat")), (Some(1), None));
}

/// A message of protocol buffers: numbers of fields and what they hold.
enum Field<'a> {
    Number(u64),
    Score(f32),
    Bytes(&'a [u8]),
}

fn message(fields: &[(u64, Field<'_>)]) -> Vec<u8> {
    let mut out = vec![];
    let number = |out: &mut Vec<u8>, mut n: u64| {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    };
    for (field, value) in fields {
        match value {
            Field::Number(n) => {
                number(&mut out, field << 3);
                number(&mut out, *n);
            }
            Field::Score(score) => {
                number(&mut out, field << 3 | 5);
                out.extend(score.to_le_bytes());
            }
            Field::Bytes(bytes) => {
                number(&mut out, field << 3 | 2);
                number(&mut out, bytes.len() as u64);
                out.extend(*bytes);
            }
        }
    }
    out
}

/// The vocabulary of [`unigram`], but for its extra token.
fn spiece(trainer: &[(u64, Field<'_>)], normalizer: &[(u64, Field<'_>)]) -> Vec<u8> {
    let pieces = unigram()["model"]["vocab"].as_array().unwrap()[..9].to_vec();
    let mut out = vec![];
    for (i, piece) in pieces.iter().enumerate() {
        let (text, score) = (piece[0].as_str().unwrap(), piece[1].as_f64().unwrap() as f32);
        let kind = [3, 3, 2].get(i).copied().unwrap_or(1);
        let piece = [(1, Field::Bytes(text.as_bytes())), (2, Field::Score(score)), (3, Field::Number(kind))];
        out.extend(message(&[(1, Field::Bytes(&message(&piece)))]));
    }
    let (trainer, normalizer) = (message(trainer), message(normalizer));
    out.extend(message(&[(2, Field::Bytes(&trainer)), (3, Field::Bytes(&normalizer))]));
    out
}

const UNIGRAM: [(u64, Field<'static>); 2] = [(3, Field::Number(1)), (40, Field::Number(2))];

#[test]
fn the_file_of_sentencepiece_gives_the_same() {
    let map = charsmap(&[(b'R', "r"), (b'&', "and")]);
    let file = spiece(&UNIGRAM, &[(1, Field::Bytes(b"nmt_nfkc")), (2, Field::Bytes(&map))]);
    let (ours, whole) = (Library::from_sentencepiece(&file, "spiece.model", 1).unwrap(), library(&unigram()));
    for text in ["", "red fox  red", "Red & fox", "xyz<extra_id_0>red   ", "</s> fox", " \u{e9}red\n"] {
        assert_eq!(ours.encode(text).unwrap(), whole.encode(text).unwrap(), "{text:?}");
    }
    let more = Library::from_sentencepiece(&file, "spiece.model", 100).unwrap();
    assert_eq!(["<extra_id_99>", "<extra_id_0>"].map(|token| more.id(token)), [Some(9), Some(108)]);
}

#[test]
fn what_is_not_built_is_refused_by_its_name() {
    let of = |trainer: &[(u64, Field<'_>)], normalizer: &[(u64, Field<'_>)]| {
        let e =
            Library::from_sentencepiece(&spiece(trainer, normalizer), "t/spiece.model", 100).err().unwrap();
        assert_eq!(e.code, Code::Unsupported);
        assert!(e.message.starts_with("t/spiece.model: "), "{e}");
        e.message
    };
    let found = of(&[(3, Field::Number(2))], &[]);
    assert!(found.contains("model_type") && found.contains("found BPE"), "{found}");
    let found = of(&[(35, Field::Number(1)), (40, Field::Number(2))], &[]);
    assert!(found.contains("byte_fallback: wanted false"), "{found}");
    let found = of(&UNIGRAM, &[(3, Field::Number(0))]);
    assert!(found.contains("add_dummy_prefix: wanted true"), "{found}");
}

fn refused(json: &Value, parts: &[&str]) {
    let e = Library::from_json(&bytes(json), "t/tokenizer.json").map(drop).expect_err(parts[0]);
    assert_eq!(e.code, Code::InvalidModel);
    for part in ["t/tokenizer.json"].iter().chain(parts) {
        assert!(e.message.contains(part), "{e}: not {part}");
    }
}

#[test]
fn errors_name_the_file_and_the_key() {
    let set = |path: &str, value: Value| {
        let mut json = unigram();
        *json.pointer_mut(path).unwrap() = value;
        json
    };
    refused(&json!({}), &["model"]);
    refused(&set("/model/type", json!("WordPiece")), &["model.type", "\"Unigram\"", "WordPiece"]);
    refused(&set("/model/unk_id", Value::Null), &["model.unk_id"]);
    refused(&set("/model/unk_id", json!(99)), &["UnkIdNotInVocabulary"]);
    refused(
        &set("/pre_tokenizer/type", json!("BertPreTokenizer")),
        &["pre_tokenizer.type", "Metaspace", "Bert"],
    );
    refused(&set("/normalizer/normalizers", json!(1)), &["normalizer.normalizers"]);
    refused(&set("/decoder/type", json!("Strip")), &["decoder.type", "Strip"]);
    refused(&set("/added_tokens/1/id", json!(5)), &["added_tokens", "</s>", "5", "1"]);
    let map = "/normalizer/normalizers/0/precompiled_charsmap";
    refused(&set(map, json!("?")), &["precompiled_charsmap", "base64"]);
    let bpe = |key: &str, value: Value| {
        let mut json = unigram();
        json["added_tokens"] = json!([]);
        json["model"] = json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]});
        json["model"][key] = value;
        json
    };
    assert_eq!(library(&bpe("unk_token", json!("a"))).id("ab"), Some(2));
    refused(&bpe("unk_token", json!("<unk>")), &["model.unk_token", "<unk>"]);
    refused(&bpe("dropout", json!(0.5)), &["model.dropout", "0.5"]);
    refused(&bpe("continuing_subword_prefix", json!("##")), &["continuing_subword_prefix", "##"]);
    refused(&bpe("merges", json!([["a", "c"]])), &["c"]);
}

/// Every map that is cut short or has another byte is refused, or followed without harm.
#[test]
fn no_map_leads_astray() {
    let map = charsmap(&[(b'R', "r"), (b'&', "and")]);
    let with = |map: &[u8]| {
        let mut json = unigram();
        json["normalizer"]["normalizers"][0]["precompiled_charsmap"] = base64::encode(map).into();
        bytes(&json)
    };
    let texts = ["Red & fox", "\u{e9}\0\u{1f98a} &", ""];
    let places = (0..map.len()).filter(|at| map[*at] != 0 || at % 61 == 0);
    let mut refused = 0;
    for (at, byte) in places.flat_map(|at| [0, 1, 3, 0x52, 0xff].map(|byte| (at, byte))) {
        let mut other = map.clone();
        other[at] = byte;
        for other in [&other[..], &map[..at]] {
            match Library::from_json(&with(other), "t") {
                Ok(t) => texts.iter().for_each(|text| drop(t.encode(text).unwrap())),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

/// Every model of SentencePiece that is cut short or has another byte is refused, or read without harm.
#[test]
fn no_message_leads_astray() {
    let file = spiece(&UNIGRAM, &[(1, Field::Bytes(b"nmt_nfkc"))]);
    for at in 0..file.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut other = file.clone();
            other[at] = byte;
            for other in [&other[..], &file[..at]] {
                match Library::from_sentencepiece(other, "t/spiece.model", 3) {
                    Ok(t) => drop(t.encode("Red & fox</s>")),
                    Err(e) => assert!(e.message.starts_with("t/spiece.model"), "{e}"),
                }
            }
        }
    }
}
