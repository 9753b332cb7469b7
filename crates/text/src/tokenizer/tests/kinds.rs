//! Tokenizers of large text encoders: which kind a folder is of, and what begins, ends and pads a text. Their vocabularies
//! are tiny; the ids were worked out by hand.

use serde_json::{Value, json};

use super::*;

fn added(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
}

fn template(single: Value, token: &str, id: u32) -> Value {
    json!({"type": "TemplateProcessing", "single": single, "pair": single,
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}}})
}

fn unigram() -> Value {
    let metaspace =
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    let single =
        json!([{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]);
    json!({
        "version": "1.0",
        "added_tokens": [added(0, "<pad>"), added(1, "</s>"), added(2, "<unk>")],
        "normalizer": null,
        "pre_tokenizer": metaspace,
        "post_processor": template(single, "</s>", 1),
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [
            ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u{2581}", -2.0], ["\u{2581}red", -3.0], ["\u{2581}fox", -3.5],
        ]},
    })
}

/// With a fallback to bytes, of which it has two.
fn fallback() -> Value {
    let single =
        json!([{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
    json!({
        "version": "1.0",
        "added_tokens": [added(0, "<pad>"), added(1, "<eos>"), added(2, "<bos>"), added(3, "<unk>")],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false},
        "post_processor": template(single, "<bos>", 2),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        ]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": {
            "<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<0xC3>": 4, "<0xA9>": 5, "\u{2581}": 6, "a": 7, "b": 8, "ab": 9,
            "\u{2581}ab": 10, "\u{2581}\u{2581}": 11,
        }, "merges": [["a", "b"], ["\u{2581}", "\u{2581}"], ["\u{2581}", "ab"]]},
    })
}

/// Of bytes: 0 to 255 in the order of their letters ("a" is 64, a space 220), then what is merged, then special ones.
fn byte_level() -> Value {
    let mut letters = bytes::letters();
    letters.sort_unstable();
    let mut vocab: serde_json::Map<String, Value> =
        letters.iter().zip(0..).map(|(letter, id)| (letter.to_string(), json!(id))).collect();
    vocab.extend([("ab".to_owned(), json!(256)), ("\u{120}ab".to_owned(), json!(257))]);
    json!({
        "version": "1.0",
        "added_tokens": [added(258, "<|endoftext|>"), added(259, "<|im_start|>"), added(260, "<|im_end|>")],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\p{N}| ?[^\s\p{N}]+|\s+(?!\S)|\s+"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "end_of_word_suffix": "", "byte_fallback": false, "vocab": vocab,
            "merges": [["a", "b"], ["\u{120}", "ab"]]},
    })
}

fn files_of(json: &Value, config: Value) -> Files {
    Files {
        folder: "tokenizer_3".to_owned(),
        tokenizer_json: Some(json.to_string().into_bytes()),
        tokenizer_config: Some(config.to_string().into_bytes()),
        ..Files::default()
    }
}

fn read(json: &Value, config: Value) -> Tokenizer {
    Tokenizer::from_files(&files_of(json, config)).unwrap()
}

#[test]
fn t5_ends_a_text() {
    let mut t = read(&unigram(), json!({"tokenizer_class": "T5Tokenizer", "model_max_length": 512}));
    assert_eq!((t.length(), t.room(), t.first()), (512, 511, 0));
    t.set_length(6).unwrap();
    let row = |ids: [u32; 6], tokens, attended| Encoded { ids: ids.into(), tokens, attended, overflow: None };
    assert_eq!(t.encode("red fox").unwrap(), row([4, 5, 1, 0, 0, 0], 2, 3));
    assert_eq!(t.encode("").unwrap(), row([1, 0, 0, 0, 0, 0], 0, 1));
    assert_eq!(t.encode("red</s>x").unwrap(), row([4, 1, 3, 2, 1, 0], 4, 5));
    // What ends a text is kept when it is cut.
    let cut = t.encode("red red red red red fox red").unwrap();
    assert_eq!((cut.ids, cut.tokens, cut.attended), (vec![4, 4, 4, 4, 4, 1], 7, 6));
    assert_eq!(cut.overflow.as_deref(), Some("fox red"));
    let e = t.set_length(1).unwrap_err();
    assert_eq!(e.code, Code::InvalidOption);
    assert!(e.message.contains("wanted 2"), "{e}");
    // Where the file has no template the class says what ends a text.
    let mut bare = unigram();
    bare["post_processor"] = Value::Null;
    assert_eq!(
        read(&bare, json!({"tokenizer_class": "T5TokenizerFast"})).encode("fox").unwrap().ids[..3],
        [5, 1, 0]
    );
    // A learnt token within a text.
    t.add_name("<toy>", 32_000..32_002).unwrap();
    assert_eq!(t.tokens("red <toy>").unwrap(), [4, 3, 32_000, 32_001]);
}

#[test]
fn gemma_begins_a_text() {
    let config = |more: Value| {
        let mut config = json!({"tokenizer_class": "GemmaTokenizer", "model_max_length": 8});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let t = read(&fallback(), config(json!({})));
    assert_eq!(t.encode("ab  ab\u{e9}").unwrap().ids, [2, 9, 11, 9, 4, 5, 0, 0]);
    // Bytes that it lacks; spaces in front and behind are tokens.
    assert_eq!(t.encode(" ab x ").unwrap().ids, [2, 10, 6, 3, 6, 0, 0, 0]);
    assert_eq!((t.encode("").unwrap().ids[..2].to_vec(), t.encode("").unwrap().attended), (vec![2, 0], 1));
    // The configuration counts, not the template.
    let t = read(&fallback(), config(json!({"add_bos_token": false, "add_eos_token": true})));
    assert_eq!(t.encode("ab").unwrap().ids[..3], [9, 1, 0]);
}

#[test]
fn qwen_neither_begins_nor_ends_a_text() {
    let config = json!({"tokenizer_class": "Qwen2Tokenizer", "bos_token": null, "model_max_length": 131_072, "pad_token": "<|endoftext|>"});
    let t = read(&byte_level(), config);
    assert_eq!(t.length(), 512);
    t.set_length(5).unwrap();
    let encoded = t.encode("ab ab").unwrap();
    assert_eq!((encoded.ids, encoded.attended), (vec![256, 257, 258, 258, 258], 2));
    assert_eq!((t.encode("").unwrap().ids, t.encode("").unwrap().attended), (vec![258; 5], 0));
    assert_eq!(t.encode("a<|im_end|>  ").unwrap().ids, [64, 260, 220, 220, 258]);
    assert_eq!(t.tokens("e\u{301}").unwrap(), t.tokens("\u{e9}").unwrap());
}

/// Classes that say nothing, and none at all: the file says of what kind it is.
#[test]
fn the_file_says_its_kind() {
    let ids = |json: &Value, config: Value| read(json, config).encode("ab").unwrap().ids[..3].to_vec();
    for config in [json!({}), json!({"tokenizer_class": "PreTrainedTokenizerFast"})] {
        assert_eq!(ids(&unigram(), config.clone()), [3, 2, 1]);
        assert_eq!(ids(&fallback(), config), [2, 9, 0]);
    }
    let any = json!({"tokenizer_class": "TokenizersBackend", "pad_token": "<|endoftext|>"});
    assert_eq!(ids(&byte_level(), any), [256, 258, 258]);
}

fn refused(files: &Files, code: Code, parts: &[&str]) {
    let e = Tokenizer::from_files(files).map(drop).expect_err(parts[0]);
    assert_eq!(e.code, code, "{e}");
    for part in parts {
        assert!(e.message.contains(part), "{e}: not {part}");
    }
}

#[test]
fn other_kinds_are_refused_by_name() {
    let class = |class: &str| json!({"tokenizer_class": class});
    let config = "tokenizer_3/tokenizer_config.json";
    let file = "tokenizer_3/tokenizer.json";
    refused(
        &files_of(&fallback(), class("LlamaTokenizer")),
        Code::Unsupported,
        &[config, "GemmaTokenizer", "\"LlamaTokenizer\""],
    );
    refused(
        &files_of(&unigram(), class("Qwen2Tokenizer")),
        Code::InvalidModel,
        &[file, "BPE of bytes", "Unigram"],
    );
    refused(&files_of(&byte_level(), class("GemmaTokenizer")), Code::InvalidModel, &[file, "byte_fallback"]);
    // Byte pairs without a class are looked at as CLIP's.
    refused(&files_of(&byte_level(), json!({})), Code::InvalidModel, &[file, "model.end_of_word_suffix"]);
    refused(&files_of(&json!({"model": 1}), class("T5Tokenizer")), Code::InvalidModel, &[file]);
    let none = Files { tokenizer_json: None, ..files_of(&json!({}), class("T5Tokenizer")) };
    refused(&none, Code::NotFound, &[file, "tokenizer_3/spiece.model"]);
    refused(
        &Files { sentencepiece: Some(vec![0xff]), ..none.clone() },
        Code::InvalidModel,
        &["tokenizer_3/spiece.model"],
    );
    let gemma = Files {
        tokenizer_config: Some(class("GemmaTokenizer").to_string().into_bytes()),
        sentencepiece: Some(vec![0x12, 2, 0x18, 2]),
        ..none
    };
    refused(&gemma, Code::Unsupported, &["tokenizer_3/spiece.model", "found BPE", "tokenizer.json"]);
}

#[test]
fn the_configuration_must_fit_the_vocabulary() {
    let t5 = |more: Value| {
        let mut config = json!({"tokenizer_class": "T5Tokenizer"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        files_of(&unigram(), config)
    };
    refused(
        &t5(json!({"pad_token": "<none>"})),
        Code::InvalidModel,
        &["tokenizer.json", "pad_token", "<none>"],
    );
    refused(
        &t5(json!({"added_tokens_decoder": {"7": {"content": "</s>"}}})),
        Code::InvalidModel,
        &["tokenizer_config.json", "</s>", "7", "1"],
    );
    refused(&t5(json!({"model_max_length": 1})), Code::InvalidModel, &["model_max_length", "1"]);
    let mut json = unigram();
    json["post_processor"]["single"][1]["SpecialToken"]["id"] = json!("<end>");
    refused(&files_of(&json, json!({"tokenizer_class": "T5Tokenizer"})), Code::InvalidModel, &["<end>"]);
}

/// Whoever loads the model may bring the tokenizer: a browser has it in a module of its own.
#[test]
fn the_codec_may_come_from_elsewhere() {
    struct Letters;
    impl Codec for Letters {
        fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
            match text.is_ascii() {
                true => ids.extend(text.bytes().map(u32::from)),
                false => return Err(Error::network("the other module is gone")),
            }
            Ok(())
        }
        fn decode(&self, ids: &[u32]) -> String {
            ids.iter().filter_map(|id| char::from_u32(*id)).collect()
        }
        fn token(&self, id: u32) -> Option<String> {
            (id < 128).then(|| self.decode(&[id]))
        }
        fn id(&self, token: &str) -> Option<u32> {
            ["<pad>", "</s>", "<unk>"].iter().position(|known| *known == token).map(|id| id as u32)
        }
    }
    let files = files_of(&unigram(), json!({"tokenizer_class": "T5Tokenizer"}));
    let t = Tokenizer::with(&files, &|_| Ok(Box::new(Letters))).unwrap();
    t.set_length(4).unwrap();
    assert_eq!(t.encode("abcde").unwrap().ids, [97, 98, 99, 1]);
    assert_eq!(t.encode("abcde").unwrap().overflow.as_deref(), Some("de"));
    assert_eq!(t.encode("\u{e9}").unwrap_err().code, Code::Network);
    let refused = Tokenizer::with(&files, &|_| Err(Error::network("not there"))).map(drop).unwrap_err();
    assert_eq!(refused.code, Code::Network);
}
