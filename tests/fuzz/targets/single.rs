//! A single file under the original names: a text encoder of transformers' and one of OpenCLIP's.

use std::sync::OnceLock;

use pollster::block_on;
use serde_json::Value;
use tintype::error::{Error, Result};
use tintype::model::clip::ClipTextModel;
use tintype::model::config::ClipTextConfig;
use tintype::quant::Format;
use tintype::weights::{Checkpoint, Declarations, Hooks, header, places};

use super::{folder, one};
use crate::mutate::Files;
use crate::tensors::file;

const FILE: &str = "x.safetensors";

/// Renames the tensors of the smallest text encoder.
pub fn files() -> Vec<Files> {
    let own = one("sd15-like/text_encoder/model.fp16.safetensors", FILE);
    let start = 8 + u64::from_le_bytes(own[FILE][..8].try_into().unwrap()) as usize;
    let Value::Object(entries) = serde_json::from_slice(&own[FILE][8..start]).unwrap() else {
        panic!("no header")
    };
    let data = &own[FILE][start..];
    let renamed = |prefix: &str, rename: fn(&str) -> Option<String>| {
        let entries = entries.iter().filter(|(name, _)| *name != "__metadata__");
        let kept = entries.filter_map(|(name, entry)| Some((rename(name)?, entry.clone())));
        kept.map(|(name, entry)| (format!("{prefix}{name}"), entry)).collect::<serde_json::Map<_, _>>()
    };
    let clip = renamed("cond_stage_model.transformer.", |name| Some(name.to_owned()));
    let clip = file(Value::Object(clip).to_string().as_bytes(), data);
    vec![Files::from([(FILE.to_owned(), clip.into())])]
}

fn declared() -> &'static Declarations {
    static DECLARED: OnceLock<Declarations> = OnceLock::new();
    DECLARED.get_or_init(|| {
        let json = one("sd15-like/text_encoder/config.json", FILE);
        let config = ClipTextConfig::from_json(&json[FILE], "text_encoder/config.json").unwrap();
        let mut declarations = Declarations::new(Format::F16);
        ClipTextModel::declare(&mut declarations, &config);
        declarations
    })
}

pub fn fill(files: &Files) -> Result<()> {
    let folder = folder(files);
    let places = places(&block_on(header(&folder, FILE))?);
    let place = places.first().ok_or_else(|| Error::not_found("no network in the file"))?;
    let checkpoint = Checkpoint::single(&folder, FILE, *place);
    block_on(checkpoint.fill(declared(), 0, None, Hooks::NONE, &mut |_| Ok(())))
}
