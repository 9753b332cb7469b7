//! What the house looks like, where no compiler sees it: names, sizes, comments.

use std::fs;
use std::path::Path;

use crate::models::folder::here;

/// A file of the repository: its path from the root with `/`, its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is(&self, ending: &str) -> bool {
        self.path.ends_with(&format!(".{ending}"))
    }

    fn under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }

    /// Lines without their comments. A `//` in a string is taken for one, but that of an address.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(at, line)| {
            let end = line.match_indices("//").find(|(i, _)| !line[..*i].ends_with(':')).map(|(i, _)| i);
            (at, &line[..end.unwrap_or(line.len())])
        })
    }
}

/// Every file of ours that is text.
fn files() -> Vec<File> {
    let mut files = vec![];
    walk(&here(""), "", &mut files);
    // That the walk went everywhere.
    for path in ["src/lib.rs", "tests/tidy.rs", "kernels/lib/activation.wgsl", "Cargo.toml", ".ci/run"] {
        assert!(files.iter().any(|f| f.path == path), "{path} was not looked at");
    }
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    // Not ours, made by a tool, or data.
    const SKIPPED: [&str; 10] = [
        ".git",
        "target",
        "node_modules",
        "models",
        "dist",
        "tests/out",
        "tests/golden/ref",
        "Cargo.lock",
        "bench/compilers/compile/Cargo.lock",
        "package-lock.json",
    ];
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_name().unwrap().to_str().unwrap();
        let path = format!("{prefix}{name}");
        if SKIPPED.contains(&path.as_str()) || path == "tests/golden/models" {
            continue;
        }
        if entry.is_dir() {
            walk(&entry, &format!("{path}/"), files);
        } else if let Ok(text) = fs::read_to_string(&entry) {
            files.push(File { path, text });
        }
    }
}

/// Fails with all findings at once.
fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn names_of_platforms_stay_in_their_rooms() {
    let mut found = vec![];
    for file in files().iter().filter(|f| f.is("rs") && (f.under("src/") || f.under("crates/"))) {
        let web = ["src/web.rs", "crates/base/src/host/web.rs", "crates/tokenizer/src/web.rs"];
        let web = web.contains(&file.path.as_str());
        for (at, code) in file.code().filter(|_| !web && !file.under("src/web/")) {
            if ["wasm_bindgen", "web_sys", "js_sys"].iter().any(|name| code.contains(name)) {
                found.push(format!("{}:{at}: {}", file.path, code.trim()));
            }
        }
    }
    none("names that belong to src/web, crates/base/src/host/web.rs or crates/tokenizer/src/web.rs", found);
}

/// Recording is pure and cannot fail.
#[test]
fn recording_returns_no_result() {
    let mut found = vec![];
    for file in files()
        .iter()
        .filter(|f| ["crates/graph/src/nn", "crates/graph/src/plan/ops"].iter().any(|room| f.under(room)))
    {
        for (at, code) in file.code().filter(|(_, code)| code.contains("Result<")) {
            found.push(format!("{}:{at}: {}", file.path, code.trim()));
        }
    }
    for file in files().iter().filter(|f| f.under("crates/model/") && !f.under("crates/model/src/config")) {
        for (at, code) in file.code().filter(|(_, code)| code.contains("Result<") || code.contains("?;")) {
            found.push(format!("{}:{at}: {}", file.path, code.trim()));
        }
    }
    none("a Result where nothing can fail", found);
}

#[test]
fn every_kernel_has_its_four_places() {
    let files = files();
    let mut found = vec![];
    for file in &files {
        let Some(name) = file.path.strip_prefix("kernels/").and_then(|p| p.strip_suffix(".wgsl")) else {
            continue;
        };
        for (at, line) in file.lines().filter(|(_, line)| line.trim_start().starts_with("#if")) {
            found.push(format!("{}:{at}: {line}", file.path));
        }
        if name.starts_with("lib/") {
            continue;
        }
        let quoted = format!("\"{name}\"");
        if !files.iter().any(|f| f.under("crates/gpu/src/lower/") && f.text.contains(&quoted)) {
            found.push(format!("{name} is used nowhere in crates/gpu/src/lower"));
        }
        // Two kernels of one formula have one twin, which they name.
        let twin = file.text.lines().find_map(|l| l.strip_prefix("// Twin: ")).unwrap_or("no twin");
        if files.iter().all(|f| f.path != twin) {
            found.push(format!("{name} has no {twin}"));
        }
        if !file.text.contains(&format!("fn {name}(")) {
            found.push(format!("{}: the entry point has another name", file.path));
        }
    }
    for operation in files.iter().filter_map(|f| f.path.strip_prefix("crates/graph/src/plan/ops/")) {
        if files.iter().all(|f| f.path != format!("tests/ops/{operation}")) {
            found.push(format!("crates/graph/src/plan/ops/{operation} has no tests/ops/{operation}"));
        }
    }
    none(
        "kernels/x.wgsl, crates/gpu/src/lower, tests/twin/x.rs; crates/graph/src/plan/ops/x.rs, tests/ops/x.rs",
        found,
    );
}

#[test]
fn files_are_short() {
    let most = |f: &File| if f.is("rs") { Some(400) } else { f.is("wgsl").then_some(200) };
    let long = |f: &File| Some(f.text.lines().count()).filter(|n| most(f).is_some_and(|most| *n > most));
    let found = files().iter().filter_map(|f| Some(format!("{}: {} lines", f.path, long(f)?))).collect();
    none("files over 400 lines (Rust) or 200 (WGSL)", found);
}

#[test]
fn notes_have_names_and_exceptions_reasons() {
    let mut found = vec![];
    // Written apart, so that they are not found here.
    let notes = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|word| word.concat());
    let exceptions = ["allow", "expect"].map(|word| format!("[{word}("));
    for file in files().iter().filter(|f| !f.is("md") && !f.is("json") && !f.is("txt")) {
        for (at, line) in file.lines() {
            for note in notes.iter().filter(|note| line.contains(*note)) {
                if !line.contains(&format!("{note}(")) {
                    found.push(format!("{}:{at}: {note} without a name", file.path));
                }
            }
        }
        for (at, _) in exceptions.iter().flat_map(|word| file.text.match_indices(word.as_str())) {
            let attribute = file.text[at..].split(")]").next().unwrap_or_default();
            if file.is("rs") && !attribute.contains("reason =") && !file.under("tests/tidy") {
                found.push(format!("{}: {attribute}", file.path));
            }
        }
    }
    none("notes without names, exceptions without reasons", found);
}

/// A comment is a sentence; what ends like a statement was one once.
#[test]
fn no_code_in_comments() {
    let mut found = vec![];
    for file in files().iter().filter(|f| f.is("rs") || f.is("wgsl") || f.is("mjs") || f.is("js")) {
        for (at, line) in file.lines() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            if comment.starts_with(['/', '!', '#']) {
                continue;
            }
            let comment = comment.trim();
            let words = ["let", "const", "var", "return", "use", "pub", "fn", "if", "for", "}"];
            let mut parts = comment.split_whitespace();
            let first = parts.next().unwrap_or_default();
            let begins = words.contains(&first)
                || first.contains(['(', '.'])
                || first.contains("::")
                || parts.next() == Some("=");
            if begins && (comment.ends_with([';', '{']) || comment == "}") {
                found.push(format!("{}:{at}: {comment}", file.path));
            }
        }
    }
    none("code in comments", found);
}

/// The tree stands alone, wherever it lies and wherever its packages come from.
#[test]
fn nothing_of_one_machine() {
    let places = [["/wo", "rk"], ["/ro", "ot"], ["/ho", "me"], ["/Us", "ers"]].map(|p| p.concat());
    let shared = ["sha", "red/"].concat();
    let hosts = [
        ["crates", ".io"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["pypi", ".org"],
        ["pythonhosted", ".org"],
        ["huggingface", ".co"],
        ["hf", ".co/"],
    ]
    .map(|host| host.concat());
    let mut found = vec![];
    for file in files() {
        for (at, line) in file.lines() {
            // Where repositories are that visitors name.
            let hub = file.path == "www/options.ts" && line.starts_with("const HUB = ");
            let mut saw = |what: &str| found.push(format!("{}:{at}: {what}", file.path));
            for place in &places {
                // As the begin of a path, not as a part of one.
                let begins =
                    |i: usize| !line[..i].ends_with(|c: char| c.is_alphanumeric() || "._-}/".contains(c));
                let ends = |i: usize| !line[i + place.len()..].starts_with(|c: char| c.is_alphanumeric());
                if line.match_indices(place.as_str()).any(|(i, _)| begins(i) && ends(i)) {
                    saw(place);
                }
            }
            let near = |i: usize| !line[..i].ends_with(|c: char| c.is_alphanumeric());
            let tells = file.path == "README.md" || file.under("tools/") || file.under("training/");
            if !tells && line.match_indices(shared.as_str()).any(|(i, _)| near(i)) {
                saw(&shared);
            }
            for host in hosts.iter().filter(|host| !hub && line.contains(host.as_str())) {
                saw(host);
            }
        }
    }
    none("places and hosts that only some machines have", found);
}
