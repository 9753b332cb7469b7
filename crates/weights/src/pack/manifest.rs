//! `tintype.json`: what a pack is made of, and the hashes of its files.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};
use crate::quant::Format;
use crate::source::Folder;

/// The manifest's place in a pack.
pub const MANIFEST: &str = "tintype.json";

/// Where a pack says that it is one, so that nobody looks for a manifest in other folders.
pub const INDEX: &str = "model_index.json";
pub const MARK: &str = "_tintype_pack";

/// The version of the format that is written. Others are refused: their blobs may lie otherwise.
pub const FORMAT: u64 = 1;

/// Files are hashed in chunks of so many bytes; the last one of a file may be shorter.
pub const CHUNK_BYTES: usize = 8 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Where the checkpoint came from, in a sentence for people.
    pub source: String,
    /// Of the source, where it has revisions.
    pub revision: Option<String>,
    pub license: Option<String>,
    /// How the networks and the autoencoder are stored.
    pub weights: Format,
    pub decoder: Format,
    /// By path.
    pub files: BTreeMap<String, Listed>,
}

/// A file of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub bytes: u64,
    /// Of each chunk, in lower-case hex.
    pub sha256: Vec<String>,
}

impl Manifest {
    /// The manifest of a folder, if it is a pack.
    pub async fn of(folder: &dyn Folder) -> Result<Option<Manifest>> {
        match folder.read(MANIFEST).await? {
            Some(json) => Manifest::parse(&json).map(Some),
            None => Ok(None),
        }
    }

    /// Errors: `InvalidModel` for what is no manifest, `Unsupported` for another version.
    pub fn parse(bytes: &[u8]) -> Result<Manifest> {
        let json: Value = crate::json::check(bytes)
            .and_then(|()| serde_json::from_slice(bytes))
            .map_err(|e| Error::model(format!("{MANIFEST} is not valid JSON: {e}")))?;
        let version =
            json.get("format").and_then(Value::as_u64).ok_or_else(|| wrong(&json, "format", "a number"))?;
        if version != FORMAT {
            return Err(Error::unsupported(format!(
                "{MANIFEST}: this pack has the format {version}, wanted {FORMAT}: pack the model anew"
            )));
        }
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let recipe = json.get("recipe").unwrap_or(&Value::Null);
        let format = |key: &str| {
            let word = recipe.get(key).and_then(Value::as_str);
            Format::ALL
                .into_iter()
                .find(|f| word == Some(f.as_str()))
                .ok_or_else(|| wrong(recipe, &format!("recipe.{key}"), "f32, f16, q8 or q4"))
        };
        if json.get("chunk").and_then(Value::as_u64) != Some(CHUNK_BYTES as u64) {
            return Err(wrong(&json, "chunk", &CHUNK_BYTES.to_string()));
        }
        let files = json.get("files").and_then(Value::as_object);
        let files = files.ok_or_else(|| wrong(&json, "files", "an object"))?;
        let listed = |(path, file): (&String, &Value)| Ok((path.clone(), Listed::parse(path, file)?));
        Ok(Manifest {
            source: text("source").ok_or_else(|| wrong(&json, "source", "a text"))?,
            revision: text("revision"),
            license: text("license"),
            weights: format("weights")?,
            decoder: format("decoder")?,
            files: files.iter().map(listed).collect::<Result<_>>()?,
        })
    }

    /// Verifies the files that fit in a chunk, which are not verified as they are read.
    pub async fn check_small(&self, folder: &dyn Folder) -> Result<()> {
        for (path, listed) in self.files.iter().filter(|(path, _)| !path.ends_with(".safetensors")) {
            let found = Listed::of(folder, path, listed.bytes).await?;
            if found != *listed {
                return Err(Error::new(
                    Code::Integrity,
                    format!("{path} is damaged: its sha256 or its length is not what {MANIFEST} says"),
                ));
            }
        }
        Ok(())
    }

    pub fn to_json(&self) -> String {
        let files: Map<String, Value> = self
            .files
            .iter()
            .map(|(path, file)| (path.clone(), json!({ "bytes": file.bytes, "sha256": file.sha256 })))
            .collect();
        let json = json!({
            "format": FORMAT,
            "source": self.source,
            "revision": self.revision,
            "license": self.license,
            "recipe": { "weights": self.weights.as_str(), "decoder": self.decoder.as_str() },
            "chunk": CHUNK_BYTES,
            "files": files,
        });
        format!("{json:#}\n")
    }

    /// The file as it is listed. Errors: `InvalidModel` for one that is not.
    pub fn file(&self, path: &str) -> Result<&Listed> {
        self.files
            .get(path)
            .ok_or_else(|| Error::model(format!("{MANIFEST} does not list {path}: this pack lacks it")))
    }
}

impl Listed {
    /// A file as it is in a folder; of a longer one than `most` bytes, which may have no end, a beginning that is longer.
    pub async fn of(folder: &dyn Folder, path: &str, most: u64) -> Result<Listed> {
        let absent = || Error::not_found(format!("{path} does not exist in {}", folder.describe()));
        let mut file = folder.open(path).await?.ok_or_else(absent)?;
        let (mut listed, mut chunk) = (Listed { bytes: 0, sha256: vec![] }, vec![0; CHUNK_BYTES]);
        loop {
            let got = file.read_full(&mut chunk).await?;
            if got > 0 {
                listed.bytes += got as u64;
                listed.sha256.push(hash(&chunk[..got]));
            }
            if got < chunk.len() || listed.bytes > most {
                return Ok(listed);
            }
        }
    }

    fn parse(path: &str, file: &Value) -> Result<Listed> {
        let inside =
            !path.split('/').any(|part| matches!(part, "" | "." | "..")) && !path.contains(['\\', ':']);
        if !inside {
            return Err(Error::model(format!("{MANIFEST}: wanted a path inside the pack, found {path:?}")));
        }
        let hex = |hash: &Value| {
            let hash = hash.as_str()?;
            let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            (hash.len() == 64 && hash.bytes().all(lower)).then(|| hash.to_owned())
        };
        let bytes = file.get("bytes").and_then(Value::as_u64);
        let hashes = file.get("sha256").and_then(Value::as_array);
        let sha256 = hashes.and_then(|hashes| hashes.iter().map(hex).collect::<Option<Vec<_>>>());
        match bytes.zip(sha256) {
            Some((bytes, sha256)) if bytes.div_ceil(CHUNK_BYTES as u64) == sha256.len() as u64 => {
                Ok(Listed { bytes, sha256 })
            }
            _ => Err(Error::model(format!(
                "{MANIFEST}: {path}: wanted its bytes and the sha256 of each chunk of {CHUNK_BYTES}, found {file}"
            ))),
        }
    }

    /// Errors: `Integrity`, which names the file and the chunk.
    pub fn check(&self, path: &str, chunk: usize, bytes: &[u8]) -> Result<()> {
        let wanted = self.sha256.get(chunk).map_or("no such chunk", String::as_str);
        let found = hash(bytes);
        if wanted == found {
            return Ok(());
        }
        Err(Error::new(
            Code::Integrity,
            format!(
                "{path}: chunk {chunk} of {} is damaged: its sha256 is {found}, wanted {wanted}",
                self.sha256.len()
            ),
        ))
    }

    /// Bytes of a chunk.
    pub fn chunk_bytes(&self, chunk: usize) -> usize {
        (self.bytes - chunk_at(chunk)).min(CHUNK_BYTES as u64) as usize
    }
}

/// Where a chunk begins, counted where a 32-bit machine could not.
pub fn chunk_at(chunk: usize) -> u64 {
    chunk as u64 * CHUNK_BYTES as u64
}

/// The sha256 of some bytes, in lower-case hex.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wrong(json: &Value, key: &str, wanted: &str) -> Error {
    let found = json.get(key.rsplit('.').next().unwrap_or(key)).unwrap_or(&Value::Null);
    Error::model(format!("{MANIFEST}: {key}: wanted {wanted}, found {found}"))
}
