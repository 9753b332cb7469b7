//! The reader of `kernels/variants.txt`. build.rs checks what it lists; `bench/compilers` has drivers compile it.
//! This file is compiled into both, so it uses nothing of either.

use std::fs;
use std::path::Path;

/// A kernel with its compile-time choices.
pub struct Variant {
    pub kernel: String,
    /// The values of its slots and constants, joined by dots.
    pub name: String,
    /// Files of `lib` without their ending.
    pub libraries: Vec<String>,
    pub constants: Vec<(String, u32)>,
}

/// Every variant of the folder's `variants.txt`.
pub fn variants(folder: &Path) -> Vec<Variant> {
    let list = read(folder, "variants.txt");
    let lines = list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.flat_map(|line| product(folder, line)).collect()
}

/// A file of the folder of kernels.
pub fn read(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The product of a line's columns.
fn product(folder: &Path, line: &str) -> Vec<Variant> {
    let mut columns = line.split_whitespace();
    let kernel = columns.next().unwrap().to_owned();
    let text = read(folder, &format!("{kernel}.wgsl"));
    let used: Vec<&str> = directive(&text, "use").collect();
    let columns: Vec<(&str, Vec<&str>)> = columns
        .map(|c| c.split_once('=').unwrap_or_else(|| panic!("variants.txt: {c} is not slot=values")))
        .map(|(slot, values)| (slot, values.split('|').collect()))
        .collect();
    let mut choices: Vec<Vec<&str>> = vec![vec![]];
    for (_, values) in &columns {
        choices = choices
            .iter()
            .flat_map(|c| values.iter().map(|v| c.iter().copied().chain([*v]).collect()))
            .collect();
    }
    choices
        .into_iter()
        .map(|choice| {
            let value = |slot: &str| columns.iter().position(|(s, _)| *s == slot).map(|i| choice[i]);
            let libraries = used
                .iter()
                .map(|slot| value(slot).map_or((*slot).to_owned(), |v| format!("{slot}_{v}")))
                .collect();
            let constants = directive(&text, "const")
                .map(|name| {
                    let v = value(name).unwrap_or_else(|| panic!("variants.txt: {kernel} needs {name}="));
                    (name.to_owned(), v.parse().unwrap_or_else(|_| panic!("{kernel}: {name}={v}")))
                })
                .collect();
            Variant { kernel: kernel.clone(), name: choice.join("."), libraries, constants }
        })
        .collect()
}

/// The words of the lines `//# key word word`.
fn directive<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |l| l.strip_prefix("//# ")?.strip_prefix(key))
        .flat_map(str::split_whitespace)
}
