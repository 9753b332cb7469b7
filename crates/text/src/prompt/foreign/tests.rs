use super::foreign;

/// What is quoted of a prompt, in plain and in weighted ones.
fn quoted(prompt: &str) -> [Vec<String>; 2] {
    let quotes = |sentence: String| {
        let text = sentence.strip_prefix("the prompt has \"").unwrap();
        let (list, _) = text.split_once("\", which other tools run: it was read as plain words").unwrap();
        list.split("\", \"").map(str::to_owned).collect::<Vec<_>>()
    };
    [false, true].map(|weighted| foreign(prompt, weighted).into_iter().flat_map(quotes).collect())
}

#[test]
fn what_is_never_run_is_told() {
    for (prompt, found) in [
        ("a cat <lora:detail tweaker:0.8> on a mat", "<lora:detail tweaker:0.8>"),
        ("<lyco:style:te=0.5:unet=1>", "<lyco:style:te=0.5:unet=1>"),
        ("(a cat, <hypernet:paint:1>)", "<hypernet:paint:1>"),
        ("a <b <wildcard:colours> c", "<wildcard:colours>"),
        ("a [cat:dog:0.5]", "[cat:dog:0.5]"),
        ("a [cat:12] b", "[cat:12]"),
        ("[cat::.25]", "[cat::.25]"),
        ("[a (red) cat : (dog) :10 ]", "[a (red) cat : (dog) :10 ]"),
        ("[a [dog|fox]:10]", "[dog|fox]"),
        ("[cat2:dog2:10]", "[cat2:dog2:10]"),
        ("a [cow|horse|\u{e9}] in a field", "[cow|horse|\u{e9}]"),
        ("a {red|blue} cat", "{red|blue}"),
        ("{{masterpiece}}, a cat", "{masterpiece}"),
        ("a cat, embedding:easy-negative.pt, b", "embedding:easy-negative.pt"),
        ("a __colours/warm__ cat", "__colours/warm__"),
        ("a cat AND a dog", "AND"),
        ("a cat :1.2 AND_PERP a dog", "AND_PERP"),
        ("sky ADDCOMM a cat", "ADDCOMM"),
        ("a cat --ar 3:2", "--ar"),
        ("hot::2 dog", "::"),
        ("a cat++ on a mat", "cat++"),
        ("(a cat)++ on a mat", "++"),
        ("(a cat)-- on a mat", "--"),
    ] {
        let [plain, weighted] = quoted(prompt);
        assert_eq!(plain.first().map(String::as_str), Some(found), "{prompt}: {plain:?}");
        assert_eq!(weighted[..1], [found], "{prompt}");
    }
}

#[test]
fn what_weighted_prompts_run_is_told_of_plain_ones() {
    for (prompt, found) in [
        ("a (red:1.2) cat", &["(red:1.2)"][..]),
        ("a (red, (old: -1):1.3) cat", &["(old: -1)", "(red, (old: -1):1.3)"]),
        ("((masterpiece)), a cat", &["(masterpiece)"]),
        ("a cat, [[dull]]", &["[dull]"]),
        (r"saber \(fate\), miku \(vocaloid\)", &[r"\(", r"\)"]),
        ("a cat BREAK a dog", &["BREAK"]),
    ] {
        assert_eq!(quoted(prompt), [found, &[]], "{prompt}");
    }
}

#[test]
fn what_is_found_is_one_list() {
    let prompt = "<lora:a:1> (x:2) <lora:b:1> [x:y:0.5] [x|y] AND embedding:z, [x|y] AND";
    let found = "\"<lora:a:1>\", \"<lora:b:1>\", \"[x:y:0.5]\", \"[x|y]\", \"AND\", \"embedding:z\"";
    let never = format!("the prompt has {found}, which other tools run: it was read as plain words");
    let plainly = "the prompt has \"(x:2)\", which other tools run: it was read as plain words; a weighted prompt has it run";
    assert_eq!(foreign(prompt, false), [&never, plainly]);
    assert_eq!(foreign(prompt, true), [never]);
}

#[test]
fn words_are_words() {
    for prompt in [
        "",
        "a photo (close up) of a [sic] cat, 16:9",
        "at (10:30) or [10:30], (ratio 4:3)",
        "a cat: old, <very> old; 1 < 2 and 3 > 2: yes",
        "<toy> and <a: b",
        "salt and pepper, a band, SAND, an ANDROID, a_AND_b",
        "A CAT AND A DOG, BREAK",
        "break dance, breakfast and LEGO",
        "the C++ logo, a cat -- a dog, well-known, 5--6",
        "embedding: a drawing; an embedding",
        "a|b, a || b, __init, snake_case_name",
        "() [] {} ( [ { ) ] }",
        ":",
        "[:]",
        "(:)",
        "<:>",
        "|",
        "\\",
        "a [red] fox, a (red) fox",
        "[a: b]",
    ] {
        assert_eq!(quoted(prompt), [Vec::<String>::new(), vec![]], "{prompt}");
    }
}

#[test]
fn any_text_is_looked_at() {
    let parts = ["(", ")", "[", "]", "{", "}", ":", "|", "<", ">", "\\", "1", "\u{e9}", "++", "__", " AND "];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        texts = texts.iter().flat_map(|text| parts.map(|part| format!("{text}{part}"))).collect();
        for text in &texts {
            foreign(text, false);
        }
    }
    for part in parts {
        foreign(&part.repeat(100_000), false);
        foreign(&("(".repeat(100_000) + &part.repeat(100_000)), false);
    }
}
