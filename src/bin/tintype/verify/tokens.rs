//! Token ids of every tokenizer of the set: CLIP's (ref/tokens.json), those of diffusion transformers (ref/tokens-dit.json);
//! or of the one tokenizer that the set is (golden.json).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tintype::chat;
use tintype::error::{Error, Result};
use tintype::tokenizer::{Files, Tokenizer};

use super::{Bench, Check};

/// Of a folder that is a tokenizer: prompts, and their ids by the reference.
pub const ALONE: &str = "golden.json";

pub fn run(bench: &Bench) -> Result<Vec<Check>> {
    let (models, alone) = (bench.root.join("models"), bench.root.join(ALONE));
    let mut checks = vec![];
    if alone.exists() {
        let set = read(&alone)?;
        compare(&set, &set["ids"], "tokenizer", Tokenizer::from_files(&files(&bench.root))?, &mut checks)?;
        chats(&set, &Tokenizer::from_files(&files(&bench.root))?, &mut checks)?;
        return Ok(checks);
    }
    let transformers = bench.root.join("ref/tokens-dit.json");
    if transformers.exists() {
        let set = read(&transformers)?;
        for (kind, folder) in set["directories"].as_object().into_iter().flatten() {
            let folder = models.join(folder.as_str().unwrap_or_default());
            let tokenizer = || Tokenizer::from_files(&files(&folder));
            compare(&set, &set["ids"][kind], kind, tokenizer()?, &mut checks)?;
            padded(&set, kind, tokenizer()?, &mut checks)?;
            if kind == "qwen" {
                chats(&set, &tokenizer()?, &mut checks)?;
            }
            let pieces = Files { tokenizer_json: None, ..files(&folder) };
            if pieces.sentencepiece.is_some() {
                // Its own file is made into what transformers' converter makes: the first of the two forms.
                let name = format!("{kind} of spiece.model");
                compare(&set, &set["ids"]["t5_spm"], &name, Tokenizer::from_files(&pieces)?, &mut checks)?;
            }
        }
    }
    let clips = bench.root.join("ref/tokens.json");
    if !transformers.exists() || clips.exists() {
        clip(bench, &read(&clips)?, &mut checks)?;
    }
    Ok(checks)
}

/// Every prompt's ids, with what begins and ends it, as long as it is.
fn compare(
    set: &Value,
    wanted: &Value,
    name: &str,
    tokenizer: Tokenizer,
    checks: &mut Vec<Check>,
) -> Result<()> {
    for (key, ids) in wanted.as_object().into_iter().flatten() {
        let prompt = set["prompts"][key].as_str().unwrap_or_default();
        // Long enough for all.
        tokenizer.set_length(ids.as_array().map_or(0, Vec::len).max(tokenizer.length()))?;
        let encoded = tokenizer.encode(prompt)?;
        checks.push(check(format!("{name} {key}"), &encoded.ids[..encoded.attended], ids));
    }
    Ok(())
}

/// Rows of one length, with their masks.
fn padded(set: &Value, kind: &str, tokenizer: Tokenizer, checks: &mut Vec<Check>) -> Result<()> {
    for (key, wanted) in set["padded"][kind].as_object().into_iter().flatten() {
        let (prompt, length) = key.rsplit_once('.').unwrap_or((key, ""));
        let wrong = |_| Error::model(format!("padded.{kind}: {key} has no length"));
        tokenizer.set_length(length.parse().map_err(wrong)?)?;
        let encoded = tokenizer.encode(set["prompts"][prompt].as_str().unwrap_or_default())?;
        checks.push(check(format!("{kind} padded {key}"), &encoded.ids, &wanted["ids"]));
        // CLIP's rows are read whole, but for what the text encoder's causal mask hides.
        let mask: Vec<u32> = (0..encoded.ids.len()).map(|at| u32::from(at < encoded.attended)).collect();
        checks.push(check(format!("{kind} mask {key}"), &mask, &wanted["mask"]));
    }
    Ok(())
}

/// Prompts as a conversation.
fn chats(set: &Value, tokenizer: &Tokenizer, checks: &mut Vec<Check>) -> Result<()> {
    for (key, wanted) in set["chat"].as_object().into_iter().flatten() {
        let (prompt, thinking) = key.rsplit_once('.').unwrap_or((key, ""));
        let prompt = set["prompts"][prompt].as_str().unwrap_or_default();
        let text = if thinking == "thinking_true" {
            chat::qwen(prompt)
        } else {
            chat::qwen_without_thinking(prompt)
        };
        checks.push(check(format!("chat {key}"), &tokenizer.tokens(&text)?, &wanted["ids"]));
        let same = text == wanted["text"].as_str().unwrap_or_default();
        checks.push(Check::below(format!("chat {key}, text"), f64::from(u8::from(!same)), 0.0));
    }
    Ok(())
}

/// CLIP's tokenizers, by the token that pads.
fn clip(bench: &Bench, set: &Value, checks: &mut Vec<Check>) -> Result<()> {
    for folder in tokenizers(&bench.root.join("models")) {
        let files = files(&folder);
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
            let name = folder.strip_prefix(&bench.root).unwrap_or(&folder).display().to_string();
            checks.push(check(format!("{name} {key}"), &tokenizer.encode(prompt)?.ids, ids));
        }
    }
    Ok(())
}

/// Whether ids are the same: any other number of them, or one other id, is an infinite error.
fn check(what: String, got: &[u32], wanted: &Value) -> Check {
    let wanted = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted: Option<Vec<u32>> = wanted.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect();
    let same = wanted.is_some_and(|wanted| wanted == got);
    Check::below(what, if same { 0.0 } else { f64::INFINITY }, 0.0)
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(|e| Error::not_found(format!("{}: {e}", path.display())))?;
    serde_json::from_slice(&text).map_err(|e| Error::model(format!("{}: {e}", path.display())))
}

fn files(folder: &Path) -> Files {
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    Files {
        folder: folder.display().to_string(),
        tokenizer_json: read("tokenizer.json"),
        vocab_json: read("vocab.json"),
        merges_txt: read("merges.txt"),
        sentencepiece: read("spiece.model"),
        tokenizer_config: read("tokenizer_config.json"),
        special_tokens_map: read("special_tokens_map.json"),
    }
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
