//! The linker of kernels: build.rs links every variant to check it, the runtime links the one it needs.
//! This file is compiled into both, so it uses nothing of either.

/// `enable` lines first, then constants, then the libraries, then the kernel.
///
/// `constants` are (name, value), `libraries` the texts that fill the kernel's slots. Lines between `//# repeat i COUNT` and
/// its `//# end` are there COUNT times, with the number of the copy for `$i`; COUNT is a number, or a constant, which may be
/// divided by another. Registers that no loop indexes are made so, since many drivers keep an array in memory.
pub fn link(kernel: &str, libraries: &[&str], constants: &[(&str, u32)]) -> String {
    let mut enables = Vec::new();
    let mut body = String::new();
    for (name, value) in constants {
        body += &format!("const {name}: u32 = {value}u;\n");
    }
    for text in libraries.iter().chain([&kernel]) {
        let lines: Vec<&str> = text.lines().collect();
        for line in repeated(&lines, constants) {
            if line.starts_with("enable ") {
                enables.push(line);
            } else {
                body += &line;
                body.push('\n');
            }
        }
    }
    enables.dedup();
    enables.iter().map(|line| format!("{line}\n")).collect::<String>() + &body
}

/// The lines with all repetitions written out.
fn repeated(lines: &[&str], constants: &[(&str, u32)]) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = lines;
    while let [line, after @ ..] = rest {
        rest = after;
        let Some((name, count)) = line.trim().strip_prefix("//# repeat ").and_then(|l| l.split_once(' '))
        else {
            out.push((*line).to_owned());
            continue;
        };
        let mut depth = 1;
        let end = after.iter().position(|line| {
            let line = line.trim();
            depth += usize::from(line.starts_with("//# repeat "));
            depth -= usize::from(line == "//# end");
            depth == 0
        });
        let end = end.unwrap_or_else(|| panic!("'{line}' has no end"));
        let body = repeated(&after[..end], constants);
        for i in 0..number(count, constants) {
            out.extend(body.iter().map(|line| line.replace(&format!("${name}"), &i.to_string())));
        }
        rest = &after[end + 1..];
    }
    out
}

/// A number, the name of a constant, or one of them divided by another.
fn number(words: &str, constants: &[(&str, u32)]) -> u32 {
    let value = |word: &str| {
        let known = constants.iter().find(|(constant, _)| *constant == word).map(|(_, value)| *value);
        known.or_else(|| word.parse().ok()).unwrap_or_else(|| panic!("a repetition has no count: {words}"))
    };
    let (whole, divisor) = words.split_once('/').unwrap_or((words, "1"));
    value(whole) / value(divisor)
}
