use super::*;
use crate::tokenizer::Files;
use std::path::Path;

/// The tokenizer of a golden model: "a" and "," are one token each.
fn tokenizer() -> Tokenizer {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/sd-turbo-like/tokenizer");
    let read = |name: &str| Some(std::fs::read(folder.join(name)).unwrap());
    Tokenizer::from_files(&Files {
        vocab_json: read("vocab.json"),
        merges_txt: read("merges.txt"),
        tokenizer_config: read("tokenizer_config.json"),
        special_tokens_map: read("special_tokens_map.json"),
        ..Files::default()
    })
    .unwrap()
}

fn escape(text: &str) -> String {
    let letter = |c: char| if "()[]".contains(c) { format!("\\{c}") } else { c.to_string() };
    text.chars().map(letter).collect()
}

fn plain(text: &str) -> Vec<Piece> {
    vec![Piece { text: text.to_owned(), weight: 1.0 }]
}

#[test]
fn brackets_are_weights() {
    const LESS: f32 = (1.0 / 1.1_f64) as f32;
    let wanted: &[(&str, &[(&str, f32)])] = &[
        ("", &[("", 1.0)]),
        ("a red fox: old, 1.5", &[("a red fox: old, 1.5", 1.0)]),
        ("a (red) fox", &[("a ", 1.0), ("red", 1.1), (" fox", 1.0)]),
        ("a ((red)) fox", &[("a ", 1.0), ("red", 1.21), (" fox", 1.0)]),
        ("[red]", &[("red", LESS)]),
        ("([red])", &[("red", 1.0)]),
        ("a (red, old:1.3) fox", &[("a ", 1.0), ("red, old", 1.3), (" fox", 1.0)]),
        ("(very (red:1.5) fox:2)", &[("very ", 2.0), ("red", 3.0), (" fox", 2.0)]),
        ("(a: +.5 )(b:-1.)(c:0)", &[("a", 0.5), ("b", -1.0), ("c", 0.0)]),
        // Neighbours of one weight are one piece.
        ("(a)(b)", &[("ab", 1.1)]),
        ("a () [] (:2) b", &[("a    b", 1.0)]),
        ("()", &[("", 1.0)]),
        // What is literal.
        (r"a \(red\) \[fox\]", &[("a (red) [fox]", 1.0)]),
        (r"(a \(b:1.2\):1.3)", &[("a (b:1.2)", 1.3)]),
        (r"a\b\\", &[(r"a\b\\", 1.0)]),
        (r"\\(a", &[(r"\(a", 1.0)]),
        // Numbers that are none, and colons that are none.
        ("(a:b:1.2)", &[("a:b", 1.2)]),
        ("(a:1.2.3)", &[("a:1.2.3", 1.1)]),
        ("(a:1e3)(b:nan)(c:.)", &[("a:1e3b:nanc:.", 1.1)]),
        ("(a:1.2 b)", &[("a:1.2 b", 1.1)]),
        ("[a:1.2]", &[("a:1.2", LESS)]),
        ("a:1.2)", &[("a:1.2)", 1.0)]),
        // What does not match.
        ("a) b] (c", &[("a) b] ", 1.0), ("c", 1.1)]),
        ("[a (b", &[("a ", LESS), ("b", 1.0)]),
        ("(a [b) c]", &[("a ", 1.1), ("b", 1.0), (" c", LESS)]),
        ("(a:999)(b:-999)", &[("a", LIMIT), ("b", -LIMIT)]),
    ];
    for (prompt, pieces) in wanted {
        let piece = |(text, weight): &(&str, f32)| Piece { text: (*text).to_owned(), weight: *weight };
        let pieces: Vec<Piece> = pieces.iter().map(piece).collect();
        assert_eq!(parse(prompt), pieces, "{prompt}");
    }
}

#[test]
fn any_text_is_a_prompt() {
    // All texts of up to five of these; what is escaped comes back as it was.
    let letters = ["(", ")", "[", "]", ":", "1", "\\", "\u{e9}"];
    let mut texts = vec![String::new()];
    for _ in 0..5 {
        let longer: Vec<String> =
            texts.iter().flat_map(|text| letters.map(|letter| format!("{text}{letter}"))).collect();
        for text in &longer {
            assert!(parse(text).iter().all(|piece| piece.weight.is_finite()), "{text}");
            assert_eq!(parse(&escape(text)), plain(text));
        }
        texts = longer;
    }
    let many = |text: &str| text.repeat(100_000);
    assert_eq!(parse(&(many("(") + "a"))[0].weight, LIMIT);
    assert_eq!(parse(&(many("[") + "a"))[0].weight, 0.0);
    // "a" with 0, then "b" with 100, and with each power of 1.1 from 48 to -1.
    assert_eq!(parse(&(many("(") + "[a:0)" + &many("b)"))).len(), 52);
    assert_eq!(parse(&(many("9") + ":" + &many("9") + ")")).len(), 1);
    assert_eq!(parse(&format!("(a:{})", many("9"))).len(), 1);
}

#[test]
fn a_plain_prompt_is_what_it_was() {
    let tokenizer = tokenizer();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ref/tokens.json");
    let set: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut seen = 0;
    for (key, prompt) in set["prompts"].as_object().unwrap() {
        let prompt = prompt.as_str().unwrap();
        let encoded = tokenizer.encode(prompt).unwrap();
        if !prompt.contains(['(', '[', ')', ']']) {
            assert_eq!(parse(prompt), plain(prompt), "{key}");
        }
        let chunks = chunks(&tokenizer, &parse(&escape(prompt))).unwrap();
        if encoded.overflow.is_none() {
            assert_eq!(chunks, [Chunk { ids: encoded.ids, weights: vec![1.0; 77] }], "{key}");
            seen += 1;
        } else {
            assert!(chunks.len() > 1, "{key}");
        }
    }
    assert!(seen > 10);
}

/// How many tokens each chunk of a prompt has.
fn sizes(tokenizer: &Tokenizer, prompt: &str) -> Vec<usize> {
    let end = tokenizer.row(&[])[1];
    let chunks = chunks(tokenizer, &parse(prompt)).unwrap();
    let size = |chunk: &Chunk| {
        assert_eq!([chunk.ids.len(), chunk.weights.len()], [77, 77]);
        chunk.ids.iter().position(|id| *id == end).unwrap() - 1
    };
    chunks.iter().map(size).collect()
}

#[test]
fn long_prompts_are_cut_at_commas() {
    let tokenizer = tokenizer();
    // `before` words, a comma, `after` words.
    let prompt = |before: usize, after: usize| format!("{}, {}", "a ".repeat(before), "a ".repeat(after));
    let sizes = |prompt: &str| sizes(&tokenizer, prompt);
    assert_eq!(sizes(""), [0]);
    assert_eq!(sizes(&"a ".repeat(75)), [75]);
    assert_eq!(sizes(&"a ".repeat(76)), [75, 1]);
    assert_eq!(sizes(&"a ".repeat(200)), [75, 75, 50]);
    assert_eq!(sizes(&prompt(60, 14)), [75]);
    assert_eq!(sizes(&prompt(60, 20)), [61, 20]);
    assert_eq!(sizes(&prompt(54, 30)), [75, 10]);
    assert_eq!(sizes(&prompt(55, 30)), [56, 30]);
    assert_eq!(sizes(&prompt(74, 30)), [75, 30]);
    assert_eq!(sizes(&prompt(75, 30)), [75, 31]);
    // The last comma of several; and not one that is further on.
    assert_eq!(sizes(&(prompt(60, 5) + &prompt(1, 80))), [68, 75, 5]);
}

#[test]
fn break_begins_a_chunk() {
    let tokenizer = tokenizer();
    let sizes = |prompt: &str| sizes(&tokenizer, prompt);
    assert_eq!(sizes("a BREAK a a"), [1, 2]);
    assert_eq!(sizes("a a,BREAK(a)BREAK"), [3, 1]);
    assert_eq!(sizes("BREAK a BREAK BREAK a"), [0, 1, 0, 1]);
    assert_eq!(sizes(&("a ".repeat(75) + "BREAK a")), [75, 1]);
    assert_eq!(sizes("BREAK"), [0]);
    for word in ["break", "aBREAK", "BREAKBREAK", "BREAK_", "B(REAK)"] {
        assert_eq!(sizes(word).len(), 1, "{word}");
    }
    // It keeps the weights on both sides.
    let chunks = chunks(&tokenizer, &parse("(a BREAK a:1.5) a")).unwrap();
    assert_eq!(chunks[0].weights[..3], [1.0, 1.5, 1.0]);
    assert_eq!(chunks[1].weights[..4], [1.0, 1.5, 1.0, 1.0]);
}

#[test]
fn vectors_of_a_name_stay_together() {
    let mut tokenizer = tokenizer();
    tokenizer.add_name("<toy>", 700..704).unwrap();
    tokenizer.add_name("<long>", 800..900).unwrap();
    let prompt = |before: usize, name: &str| "a ".repeat(before) + name + " a";
    let sizes = |prompt: &str| sizes(&tokenizer, prompt);
    assert_eq!(sizes(&prompt(70, "<toy>")), [75]);
    assert_eq!(sizes(&prompt(71, "<toy>")), [75, 1]);
    assert_eq!(sizes(&prompt(72, "<toy>")), [72, 5]);
    assert_eq!(sizes(&prompt(75, "<toy>")), [75, 5]);
    assert_eq!(sizes(&prompt(0, "<long>")), [75, 26]);
    assert_eq!(sizes(&prompt(3, "<long>")), [3, 75, 26]);
    let chunks = chunks(&tokenizer, &parse("a (<toy>:1.4)")).unwrap();
    assert_eq!(chunks[0].ids[2..6], [700, 701, 702, 703]);
    assert_eq!(chunks[0].weights[..7], [1.0, 1.0, 1.4, 1.4, 1.4, 1.4, 1.0]);
}

#[test]
fn all_prompts_get_the_same_number_of_chunks() {
    let tokenizer = tokenizer();
    let mut prompts = ["a", "a BREAK a BREAK (a)"].map(|prompt| chunks(&tokenizer, &parse(prompt)).unwrap());
    let before = prompts.clone();
    level(&tokenizer, &mut prompts, 1);
    assert_eq!(prompts[1], before[1]);
    assert_eq!(prompts[0][..1], before[0]);
    let empty = Chunk { ids: tokenizer.encode("").unwrap().ids, weights: vec![1.0; 77] };
    assert_eq!(prompts[0][1..], [empty.clone(), empty.clone()]);
    level(&tokenizer, &mut prompts, 4);
    assert_eq!(prompts.each_ref().map(Vec::len), [4, 4]);
    assert_eq!(prompts[1][3], empty);
}

#[test]
fn weights_keep_the_mean() {
    let hidden = [1.0, 2.0, 3.0, 4.0, -1.0, 3.0];
    let weighed = |weights: &[f32]| {
        let mut hidden = hidden;
        weigh(&mut hidden, weights);
        hidden
    };
    // 1 + 2 + 2 * (3 + 4) - 1 + 3 = 19 where 12 was: all is then times 12 / 19. Either side rounds at most
    // twice.
    let wanted = [1.0, 2.0, 6.0, 8.0, -1.0, 3.0].map(|z| z * 12.0 / 19.0);
    for (z, wanted) in weighed(&[1.0, 2.0, 1.0]).iter().zip(wanted) {
        assert!((z - wanted).abs() <= 2.0 * f32::EPSILON * wanted.abs(), "{z} {wanted}");
    }
    assert_eq!(weighed(&[1.0; 3]).map(f32::to_bits), hidden.map(f32::to_bits));
    assert_eq!(weighed(&[0.0; 3]), [0.0; 6]);
    // A mean of zero stays out of it.
    let mut hidden = [1.0, -1.0, 2.0, -2.0];
    weigh(&mut hidden, &[0.0, 0.0, 3.0, 3.0]);
    assert_eq!(hidden, [0.0, 0.0, 6.0, -6.0]);
    let mut hidden = [1.0, -1.0];
    weigh(&mut hidden, &[1.0, 2.0]);
    assert_eq!(hidden, [1.0, -2.0]);
    weigh(&mut [], &[]);
}
