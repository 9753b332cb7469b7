//! Writing a pack while a model is loaded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::manifest::{INDEX, Listed, MANIFEST, MARK, Manifest};
use super::{describe, name, packed};
use crate::declare::{Declarations, Handle};
use crate::error::{Error, Result};
use crate::piece::Piece;
use crate::source::{Folder, OpenFile, SingleFile};
use async_trait::async_trait;

/// Where a pack is written: files of a known length, whose bytes come in any order.
pub trait Keep {
    fn begin(&self, path: &str, bytes: u64) -> Result<()>;
    fn write(&self, path: &str, at: u64, bytes: &[u8]) -> Result<()>;
    fn end(&self, path: &str) -> Result<()>;
}

/// What is kept of a load. The first thing that goes wrong ends the keeping, and never the load.
pub struct Keeping {
    keep: Box<dyn Keep>,
    paths: RefCell<Vec<String>>,
    failed: RefCell<Option<Error>>,
}

impl Keeping {
    pub fn new(keep: impl Keep + 'static) -> Self {
        Keeping { keep: Box::new(keep), paths: RefCell::default(), failed: RefCell::default() }
    }

    /// A small file as it is.
    pub fn file(&self, path: &str, bytes: &[u8]) {
        self.attempt(|keep| {
            keep.begin(path, bytes.len() as u64)?;
            keep.write(path, 0, bytes)?;
            keep.end(path)
        });
        self.paths.borrow_mut().push(path.to_owned());
    }

    /// The weights of a component, whose pieces follow.
    pub(crate) fn weights(&self, component: &str, declarations: &Declarations) -> Weights<'_> {
        let path = packed(component);
        let (header, places) = header(declarations);
        let bytes = places.values().map(|(_, end)| *end).max().unwrap_or(header.len() as u64);
        self.attempt(|keep| {
            keep.begin(&path, bytes)?;
            keep.write(&path, 0, &header)
        });
        Weights { keeping: self, path, places }
    }

    /// The weights of a pack, whose chunks follow as they are.
    pub(super) fn copy(&self, path: &str, bytes: u64) -> Weights<'_> {
        self.attempt(|keep| keep.begin(path, bytes));
        Weights { keeping: self, path: path.to_owned(), places: HashMap::new() }
    }

    /// The manifest of all that was kept, as `folder` now has it; `of` has what is known of the source. The error is
    /// the first thing that went wrong.
    pub async fn finish(&self, folder: &dyn Folder, of: Manifest) -> Result<Manifest> {
        if let Some(failed) = self.failed.borrow().clone() {
            return Err(failed);
        }
        let mut manifest = of;
        let paths = self.paths.borrow().clone();
        for path in paths {
            let listed = Listed::of(folder, &path, u64::MAX).await?;
            manifest.files.insert(path, listed);
        }
        Ok(manifest)
    }

    fn attempt(&self, write: impl FnOnce(&dyn Keep) -> Result<()>) {
        if self.failed.borrow().is_some() {
            return;
        }
        if let Err(e) = write(&*self.keep) {
            self.failed.replace(Some(e));
        }
    }
}

/// Takes the pieces of one component.
pub(crate) struct Weights<'a> {
    keeping: &'a Keeping,
    path: String,
    /// Where each handle's blob begins and ends in the file.
    places: HashMap<Handle, (u64, u64)>,
}

impl Weights<'_> {
    pub fn write(&self, piece: Piece<'_>) {
        let Some((begin, _)) = self.places.get(&piece.handle) else { return };
        self.bytes(begin + piece.at as u64, piece.bytes);
    }

    /// Bytes of the file as they are.
    pub(super) fn bytes(&self, at: u64, bytes: &[u8]) {
        self.keeping.attempt(|keep| keep.write(&self.path, at, bytes));
    }

    pub fn end(self) {
        self.keeping.attempt(|keep| keep.end(&self.path));
        self.keeping.paths.borrow_mut().push(self.path);
    }
}

/// The beginning of a file of packed weights, and where the blobs are in it, in the order of the declarations.
fn header(declarations: &Declarations) -> (Vec<u8>, HashMap<Handle, (u64, u64)>) {
    let (mut places, mut entries, mut metadata) = (HashMap::new(), Map::new(), Map::new());
    let mut end = 0;
    for (handle, spec) in declarations.handles().filter(|(_, spec)| spec.source == 0) {
        let (begin, bytes) = (end, spec.layout.bytes() as u64);
        end += bytes;
        places.insert(handle, (begin, end));
        let name = name(declarations, handle);
        entries.insert(
            name.to_owned(),
            json!({ "dtype": "U8", "shape": [bytes], "data_offsets": [begin, end] }),
        );
        metadata.insert(name.to_owned(), Value::String(describe(&spec.layout)));
    }
    entries.insert("__metadata__".to_owned(), Value::Object(metadata));
    let mut json = Value::Object(entries).to_string();
    // The blobs begin at whole units.
    while json.len() % 16 != 8 {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    let before = bytes.len() as u64;
    let places = places.into_iter().map(|(handle, (a, b))| (handle, (before + a, before + b)));
    (bytes, places.collect())
}

/// A folder whose small files are read once, and kept as they are read.
pub struct Recorded<F> {
    folder: F,
    keeping: Option<Rc<Keeping>>,
    read: RefCell<HashMap<String, Option<Vec<u8>>>>,
}

impl<F> Recorded<F> {
    pub fn new(folder: F, keeping: Option<Rc<Keeping>>) -> Self {
        Recorded { folder, keeping, read: RefCell::default() }
    }
}

#[async_trait(?Send)]
impl<F: Folder> Folder for Recorded<F> {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        self.folder.open(path).await
    }

    async fn open_at(&self, path: &str, begin: u64, fresh: bool) -> Result<Option<OpenFile>> {
        self.folder.open_at(path, begin, fresh).await
    }

    fn sha256(&self, path: &str) -> Option<String> {
        self.folder.sha256(path)
    }

    fn hashed(&self, path: &str, sha256: &str) {
        self.folder.hashed(path, sha256);
    }

    fn describe(&self) -> String {
        self.folder.describe()
    }

    fn single(&self) -> Option<&SingleFile> {
        self.folder.single()
    }

    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if let Some(known) = self.read.borrow().get(path) {
            return Ok(known.clone());
        }
        let bytes = self.folder.read(path).await?;
        if let Some((keeping, bytes)) = self.keeping.as_ref().zip(bytes.as_ref()) {
            match path {
                INDEX => keeping.file(path, marked(bytes).as_bytes()),
                // A manifest tells of another pack, and an index of shards that a pack has not.
                MANIFEST => {}
                _ if path.contains(".safetensors.index.") => {}
                _ => keeping.file(path, bytes),
            }
        }
        // Configurations are asked for by whoever wants to know something.
        if path.ends_with("config.json") || path == INDEX {
            self.read.borrow_mut().insert(path.to_owned(), bytes.clone());
        }
        Ok(bytes)
    }
}

/// The index of a model, as that of a pack. What is none is refused by whoever reads it.
fn marked(index: &[u8]) -> String {
    let mut index: Value = serde_json::from_slice(index).unwrap_or_default();
    if let Some(index) = index.as_object_mut() {
        index.insert(MARK.to_owned(), true.into());
    }
    format!("{index:#}\n")
}

/// A folder on the disk that a pack is written to.
#[cfg(not(target_arch = "wasm32"))]
pub struct DiskKeep {
    root: std::path::PathBuf,
    open: RefCell<HashMap<String, std::fs::File>>,
}

#[cfg(not(target_arch = "wasm32"))]
impl DiskKeep {
    pub fn new(root: impl Into<std::path::PathBuf>) -> Self {
        DiskKeep { root: root.into(), open: RefCell::default() }
    }

    fn failed(&self, path: &str, e: &std::io::Error) -> Error {
        Error::network(format!("could not write {}: {e}", self.root.join(path).display()))
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Keep for DiskKeep {
    fn begin(&self, path: &str, bytes: u64) -> Result<()> {
        let place = self.root.join(path);
        let made = place.parent().map_or(Ok(()), std::fs::create_dir_all);
        let file = made.and_then(|()| std::fs::File::create(&place)).and_then(|file| {
            file.set_len(bytes)?;
            Ok(file)
        });
        self.open.borrow_mut().insert(path.to_owned(), file.map_err(|e| self.failed(path, &e))?);
        Ok(())
    }

    fn write(&self, path: &str, at: u64, bytes: &[u8]) -> Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        let mut open = self.open.borrow_mut();
        let file = open.get_mut(path).expect("a file that was begun");
        let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes));
        written.map_err(|e| self.failed(path, &e))
    }

    fn end(&self, path: &str) -> Result<()> {
        let file = self.open.borrow_mut().remove(path).expect("a file that was begun");
        file.sync_all().map_err(|e| self.failed(path, &e))
    }
}
