//! What reads hostile files, and the files that it reads when nobody has changed them.

mod network;
mod pipeline;
mod single;
mod text;
mod weights;

use std::path::Path;

use tintype::error::Result;
use tintype::weights::MemoryFolder;

use super::corpus::{here, read};
use super::mutate::Files;
use super::random::Random;

pub struct Target {
    pub name: &'static str,
    /// How many are run every time.
    pub cases: u64,
    /// Sets of files.
    pub seeds: fn() -> Vec<Files>,
    /// How the paths end that are changed.
    pub open: &'static [&'static str],
    /// What is done after the changes.
    pub finish: fn(&mut Files, &mut Random),
    pub run: fn(&Files) -> Result<()>,
}

const fn target(
    name: &'static str,
    cases: u64,
    seeds: fn() -> Vec<Files>,
    open: &'static [&'static str],
    run: fn(&Files) -> Result<()>,
) -> Target {
    Target { name, cases, seeds, open, finish: |_, _| {}, run }
}

const SMALL: &[&str] = &[".json", ".txt"];
const TENSORS: &[&str] = &[".safetensors"];

pub static TARGETS: [Target; 11] = [
    target("header", 12000, weights::tensors, TENSORS, weights::stream_all),
    target("index", 9000, weights::shards, &[".json", ".safetensors"], weights::stream_shards),
    target("lora", 900, weights::loras, TENSORS, weights::merge_lora),
    target("embedding", 6000, weights::embeddings, TENSORS, weights::read_embedding),
    target("single", 600, single::files, TENSORS, single::fill),
    target("network", 1800, network::configs, SMALL, network::plan),
    target("processor", 6000, network::processors, SMALL, network::process),
    target("scheduler", 4500, network::schedulers, SMALL, network::schedule),
    target("tokenizer", 1200, text::tokenizers, SMALL, text::encode),
    target("model", 300, pipeline::models, SMALL, pipeline::load),
    Target {
        finish: pipeline::rehash,
        ..target("pack", 300, pipeline::packs, &[".json", ".txt", ".safetensors"], pipeline::load)
    },
];

fn folder(files: &Files) -> MemoryFolder {
    let mut folder = MemoryFolder::new();
    files.iter().for_each(|(path, bytes)| folder.insert(path.clone(), bytes.clone()));
    folder
}

/// A file of the small models under another path.
fn one(path: &str, as_path: &str) -> Files {
    let golden = here("tests/golden/models").join(path);
    let name = golden.file_name().unwrap().to_str().unwrap();
    let bytes = read(golden.parent().unwrap()).remove(name).unwrap_or_else(|| panic!("there is no {path}"));
    Files::from([(as_path.to_owned(), bytes)])
}

/// Every file called `name` below a folder of the tests, each as a set of its own.
fn every(folder: &str, name: &str) -> Vec<Files> {
    let all = read(&here(folder));
    let found = all.into_iter().filter(|(path, _)| Path::new(path).ends_with(name));
    found.map(|(_, bytes)| Files::from([(name.to_owned(), bytes)])).collect()
}
