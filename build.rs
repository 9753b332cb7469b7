//! Lists the files of the built-in model, which the native command carries inside.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=models");
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("models/builtin");
    let mut rows = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                rows.push(format!("(\"{name}\", include_bytes!(\"{}\")),\n", path.display()));
            }
        }
    }
    rows.sort();
    let text = format!("pub static FILES: &[(&str, &[u8])] = &[\n{}];\n", rows.concat());
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("builtin.rs"), text).unwrap();
}
