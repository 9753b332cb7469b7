use super::foreign;

/// What is quoted of a prompt, in plain and in weighted ones.
fn quoted(prompt: &str) -> [Vec<String>; 2] {
    let quote = |sentence: &String| {
        let text = sentence.strip_prefix("the prompt has \"").unwrap();
        text.split("\", which ").next().unwrap().replace(r"\\", r"\")
    };
    [false, true].map(|weighted| foreign(prompt, weighted).iter().map(quote).collect())
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
        ("\"a cat\"-- on a mat", "--"),
    ] {
        let [plain, weighted] = quoted(prompt);
        assert_eq!(plain.first().map(String::as_str), Some(found), "{prompt}: {plain:?}");
        assert_eq!(weighted[..1], [found], "{prompt}");
    }
}

#[test]
fn what_weighted_prompts_run_is_told_of_plain_ones() {
    for (prompt, found) in [
        ("a (red:1.2) cat", "(red:1.2)"),
        ("a (red, (old: -1):1.3) cat", "(old: -1)"),
        ("((masterpiece)), a cat", "(masterpiece)"),
        ("a cat, [[dull]]", "[dull]"),
        (r"saber \(fate\)", r"\("),
        ("a cat BREAK a dog", "BREAK"),
    ] {
        assert_eq!(quoted(prompt), [vec![found.to_owned()], vec![]], "{prompt}");
    }
    let sentence = &foreign("a (red:1.2) cat", false)[0];
    assert_eq!(
        sentence,
        "the prompt has \"(red:1.2)\", which is a weight in other tools: it was read as plain words; in a weighted prompt it would count"
    );
}

/// Each kind is told once, and kinds do not hide one another.
#[test]
fn several_kinds() {
    let prompt = "<lora:a:1> <lora:b:1> [x:y:0.5] [x|y] AND embedding:z, [p:q:3]";
    let found = ["<lora:a:1>", "[x:y:0.5]", "[x|y]", "AND", "embedding:z"];
    assert_eq!(quoted(prompt), [found, found]);
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
