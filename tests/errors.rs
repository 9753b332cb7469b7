//! Whatever is wrong with the outside world is an error with a stable code and a sentence that names the
//! thing; the command says the same sentence and exits with 1. Nothing panics, nothing half-made stays behind.

mod cancel;
mod command;
mod damage;
mod lost;
mod requests;

use std::path::Path;

use pollster::block_on;
use tintype::device::Device;
use tintype::error::{Code, Error, Result};
use tintype::host::Cancel;
use tintype::pipeline::{LoadOptions, Pipeline, Report, Request, Watch};
use tintype::weights::{DiskFolder, Hooks};

use crate::cli::failure;
use crate::models::folder::Temp;

const PROMPT: &str = "a red fox";

/// Loads a model and draws one image, in f32.
fn draw(gpu: &Device, model: &Path, request: &Request) -> Result<Report> {
    let load = LoadOptions::parse("f32", "f32")?;
    let pipeline = block_on(Pipeline::load(gpu, &DiskFolder::new(model), &load, Hooks::NONE))?;
    generate(&pipeline, request)
}

fn generate(pipeline: &Pipeline, request: &Request) -> Result<Report> {
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
    block_on(pipeline.generate(request, &watch))
}

/// The error that was wanted: this code, and a sentence with these words.
fn wanted(what: &str, result: Result<Report>, code: Code, words: &[&str]) -> Error {
    let Err(e) = result else { panic!("{what}: an image came out") };
    assert_eq!(e.code, code, "{what}: {e}");
    for word in words {
        assert!(e.message.contains(word), "{what}: {word} is missing: {e}");
    }
    e
}

/// `tintype generate` with this model and more arguments fails, writes nothing, and says these words.
fn refused_by_command(what: &str, model: &Path, more: &[&str], words: &[&str]) {
    let out = Temp::new();
    let (png, dump) = (out.path("a.png"), out.path("a.safetensors"));
    let paths = [model, &png, &dump].map(|p| p.to_str().unwrap());
    let mut args = vec!["generate", PROMPT, "--model", paths[0], "--out", paths[1], "--dump", paths[2]];
    // An option that is given twice is refused for that alone.
    for usual in [["--seed", "1"], ["--weights", "f32"], ["--activations", "f32"]] {
        if !more.iter().any(|arg| arg.split('=').next() == Some(usual[0])) {
            args.extend(usual);
        }
    }
    args.extend(more);
    let sentence = failure(&args);
    for word in words {
        assert!(sentence.contains(word), "{what}: {word} is missing: {sentence}");
    }
    let left: Vec<_> = std::fs::read_dir(&out.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{what}: {left:?} stayed behind");
}
