//! Whole models, and packs of them: everything that loading reads.

use std::process::Command;
use std::sync::OnceLock;

use pollster::block_on;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tintype::device::Device;
use tintype::error::Result;
use tintype::pipeline::{Budget, LoadOptions, Pipeline};
use tintype::weights::{CHUNK_BYTES, Hooks, MANIFEST};

use super::folder;
use crate::corpus::{here, read};
use crate::mutate::Files;
use crate::random::Random;

pub fn models() -> Vec<Files> {
    ["lcm-like", "sdxl-like"].map(|model| read(&here("tests/golden/models").join(model))).to_vec()
}

/// On the CPU, with a budget that everything is surveyed for.
pub fn load(files: &Files) -> Result<()> {
    let budget = Some(Budget { bytes: 1 << 30, firm: true });
    let options = LoadOptions { budget, encoder: true, ..LoadOptions::parse("auto", "auto")? };
    block_on(Pipeline::load(&Device::Cpu, &folder(files), &options, Hooks::NONE)).map(drop)
}

/// What the command makes of a model.
pub fn packs() -> Vec<Files> {
    static PACK: OnceLock<Files> = OnceLock::new();
    let pack = PACK.get_or_init(|| {
        let out = std::env::temp_dir().join(format!("tintype-fuzz-{}", std::process::id()));
        let model = here("tests/golden/models/lcm-like");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tintype"));
        let done = command
            .args(["pack", "--weights", "q8", "--image-input", "--model"])
            .arg(model)
            .arg("--out")
            .arg(&out)
            .output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let files = read(&out);
        std::fs::remove_dir_all(&out).unwrap();
        files
    });
    vec![pack.clone()]
}

/// Makes the manifest of most cases true again, or nothing but hashes would be looked at.
pub fn rehash(files: &mut Files, random: &mut Random) {
    if random.one_in(4) {
        return;
    }
    let Some(manifest) = files.get(MANIFEST) else { return };
    let Ok(mut manifest) = serde_json::from_slice::<Value>(manifest) else { return };
    let Some(listed) = manifest.get_mut("files").and_then(Value::as_object_mut) else { return };
    for (path, listed) in listed {
        if let Some(bytes) = files.get(path) {
            let hash =
                |chunk: &[u8]| Sha256::digest(chunk).iter().map(|b| format!("{b:02x}")).collect::<String>();
            let hashes: Vec<String> = bytes.chunks(CHUNK_BYTES).map(hash).collect();
            *listed = json!({"bytes": bytes.len(), "sha256": hashes});
        }
    }
    files.insert(MANIFEST.to_owned(), manifest.to_string().into_bytes().into());
}
