//! Token ids of every tokenizer of the set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tintype::error::{Error, Result};
use tintype::tokenizer::{Files, Tokenizer};

use super::{Bench, Check};

pub fn run(bench: &Bench) -> Result<Vec<Check>> {
    let path = bench.root.join("ref/tokens.json");
    let text = std::fs::read(&path).map_err(|e| Error::not_found(format!("{}: {e}", path.display())))?;
    let set: Value =
        serde_json::from_slice(&text).map_err(|e| Error::model(format!("{}: {e}", path.display())))?;
    let mut checks = vec![];
    for folder in tokenizers(&bench.root.join("models")) {
        let read = |name: &str| std::fs::read(folder.join(name)).ok();
        let files = Files {
            folder: folder.display().to_string(),
            tokenizer_json: read("tokenizer.json"),
            vocab_json: read("vocab.json"),
            merges_txt: read("merges.txt"),
            tokenizer_config: read("tokenizer_config.json"),
            special_tokens_map: read("special_tokens_map.json"),
        };
        let config: Value =
            serde_json::from_slice(files.tokenizer_config.as_deref().unwrap_or(b"{}")).unwrap_or_default();
        let kind = if config["pad_token"] == "!" { "bang_pad" } else { "eos_pad" };
        let tokenizer = Tokenizer::from_files(&files)?;
        // Where text repair would change the ids, the fast semantics are what we follow.
        let mut wanted: BTreeMap<&str, &Value> = BTreeMap::new();
        for table in [kind.to_owned(), format!("{kind}_fast")] {
            wanted.extend(set["ids"][&table].as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v)));
        }
        for (key, ids) in wanted {
            let prompt = set["prompts"][key].as_str().unwrap_or_default();
            let got: Vec<f32> = tokenizer.encode(prompt).ids.iter().map(|&id| id as f32).collect();
            let want: Vec<f32> =
                ids.as_array().into_iter().flatten().filter_map(|v| Some(v.as_f64()? as f32)).collect();
            let name = folder.strip_prefix(&bench.root).unwrap_or(&folder).display().to_string();
            checks.push(Check::new(format!("{name} {key}"), &got, &want));
        }
    }
    Ok(checks)
}

/// Folders below `root` that hold a vocab.json.
fn tokenizers(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else if entry.file_name() == "vocab.json" {
                found.push(folder.clone());
            }
        }
    }
    found.sort();
    found
}
