//! Where a model's files come from: a folder that opens files, a file that is read forward.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use async_trait::async_trait;

use super::limits::limit;
use super::place::Place;
use crate::error::{Error, Result};
use crate::warning::Warning;

/// A model folder in the diffusers layout. Paths are relative to it and use `/`: `unet/config.json`.
#[async_trait(?Send)]
pub trait Folder {
    /// Opens a file at its beginning. `None` means that there is no such file; every other failure
    /// is an error (`Network`).
    async fn open(&self, path: &str) -> Result<Option<OpenFile>>;

    /// Opens a file at byte `begin`. `fresh`: not from a cache on the way, where an earlier answer was damaged.
    async fn open_at(&self, path: &str, begin: u64, fresh: bool) -> Result<Option<OpenFile>> {
        let _ = fresh;
        let Some(mut file) = self.open(path).await? else { return Ok(None) };
        file.skip(begin).await?;
        Ok(Some(file))
    }

    /// The sha256 that the file must have, in lower-case hex, where it is known. An empty text where it is not, but
    /// [`Folder::hashed`] is to be told.
    fn sha256(&self, _path: &str) -> Option<String> {
        None
    }

    /// Is told the sha256 of a file that was read whole, where [`Folder::sha256`] has said something.
    fn hashed(&self, _path: &str, _sha256: &str) {}

    /// The folder in a sentence for people: a path, a URL.
    fn describe(&self) -> String;

    /// The file that has the tensors, where one file stands for a whole model.
    fn single(&self) -> Option<&SingleFile> {
        None
    }

    /// A whole small file, such as a `config.json`. `None` means that there is no such file.
    ///
    /// Errors: `InvalidModel` for one that is larger than such a file may be, wherever it ends.
    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open(path).await? else { return Ok(None) };
        let (what, most) = limit(path);
        // The length is only a hint: 64 KiB to begin with however much is promised.
        let hint = file.len().unwrap_or(0).clamp(1 << 10, 1 << 16);
        let mut bytes = Vec::new();
        loop {
            let filled = bytes.len();
            // A byte beyond the limit is asked for, and no memory beyond it.
            let more = hint.max(filled as u64).min(most - filled as u64).max(1) as usize;
            bytes.reserve_exact(more);
            bytes.resize(filled + more, 0);
            let got = file.read_full(&mut bytes[filled..]).await?;
            bytes.truncate(filled + got);
            if bytes.len() as u64 > most {
                return Err(Error::model(format!(
                    "{path} in {}: wanted {what} of at most {most} bytes, found more",
                    self.describe()
                )));
            }
            if got == 0 {
                return Ok(Some(bytes));
            }
        }
    }
}

/// A file that holds the tensors of several components under the names of the original code.
#[derive(Clone, Debug)]
pub struct SingleFile {
    pub path: String,
    pub places: Vec<Place>,
    /// Of tensor data.
    pub bytes: u64,
    /// What a caller should know of it before it is read.
    pub warnings: Vec<Warning>,
}

impl SingleFile {
    /// Where a component is in it.
    pub fn place(&self, component: &str) -> Option<Place> {
        self.places.iter().find(|place| place.component == component).copied()
    }
}

/// A file that [`Folder::open`] opened.
pub type OpenFile = Box<dyn ByteStream>;

/// An open file, read forward only.
#[async_trait(?Send)]
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait ByteStream {
    /// Reads the next bytes into the front of `buf` and says how many: any number from 1 to
    /// `buf.len()`, and 0 only at the end of the file or for an empty `buf`.
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// Bytes of the whole file, where they are known beforehand (a compressed answer of a server
    /// has no length that counts).
    fn len(&self) -> Option<u64>;

    /// Leaves out so many bytes, or what there is before the end.
    async fn skip(&mut self, bytes: u64) -> Result<()> {
        let (mut left, mut dropped) = (bytes, vec![0; bytes.min(1 << 16) as usize]);
        while left > 0 {
            let most = left.min(dropped.len() as u64) as usize;
            match self.read(&mut dropped[..most]).await? {
                0 => break,
                got => left -= got as u64,
            }
        }
        Ok(())
    }

    /// Reads until `buf` is full or the file ends, and says how many bytes there were. That the
    /// file ends early is for the caller to judge, who knows what the bytes were for.
    async fn read_full(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read(&mut buf[filled..]).await? {
                0 => break,
                got => filled += got,
            }
        }
        Ok(filled)
    }
}

/// `component/file`, or `file` alone where the component is the folder itself ("").
pub fn join(component: &str, file: &str) -> String {
    if component.is_empty() { file.to_string() } else { format!("{component}/{file}") }
}

/// A folder on disk.
#[cfg(not(target_arch = "wasm32"))]
pub struct DiskFolder {
    root: std::path::PathBuf,
    /// Folders that take the place of the model's own, by the name of the component.
    components: BTreeMap<&'static str, std::path::PathBuf>,
}

#[cfg(not(target_arch = "wasm32"))]
impl DiskFolder {
    pub fn new(root: impl Into<std::path::PathBuf>) -> Self {
        DiskFolder { root: root.into(), components: BTreeMap::new() }
    }

    /// This folder, with one component taken from another folder.
    pub fn with(mut self, component: &'static str, folder: impl Into<std::path::PathBuf>) -> Self {
        self.components.insert(component, folder.into());
        self
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[async_trait(?Send)]
impl Folder for DiskFolder {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        let own =
            path.split_once('/').and_then(|(component, rest)| Some((self.components.get(component)?, rest)));
        let path = own.map_or_else(|| self.root.join(path), |(folder, rest)| folder.join(rest));
        let failed = |e| Error::network(format!("could not open {}: {e}", path.display()));
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Ok(None);
        }
        let len = metadata.is_file().then_some(metadata.len());
        Ok(Some(Box::new(DiskFile { path, len, file })))
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

/// An open file of a [`DiskFolder`].
#[cfg(not(target_arch = "wasm32"))]
pub struct DiskFile {
    file: std::fs::File,
    path: std::path::PathBuf,
    len: Option<u64>,
}

#[cfg(not(target_arch = "wasm32"))]
#[async_trait(?Send)]
impl ByteStream for DiskFile {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        use std::io::Read;
        loop {
            match self.file.read(buf) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(Error::network(format!("could not read {}: {e}", self.path.display())));
                }
                Ok(got) => return Ok(got),
            }
        }
    }

    fn len(&self) -> Option<u64> {
        self.len
    }

    async fn skip(&mut self, bytes: u64) -> Result<()> {
        use std::io::{Seek, SeekFrom};
        let failed = |e| Error::network(format!("could not read {}: {e}", self.path.display()));
        let at = self.file.stream_position().map_err(failed)?;
        // Behind its end a file reads as ended.
        self.file.seek(SeekFrom::Start(at.saturating_add(bytes))).map_err(failed)?;
        Ok(())
    }
}

/// Files in memory: a model that is compiled in, or one made by a test.
#[derive(Clone, Default)]
pub struct MemoryFolder {
    files: BTreeMap<String, Rc<Cow<'static, [u8]>>>,
}

impl MemoryFolder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a file. Static bytes are not copied.
    pub fn insert(&mut self, path: impl Into<String>, bytes: impl Into<Cow<'static, [u8]>>) {
        self.files.insert(path.into(), Rc::new(bytes.into()));
    }
}

#[async_trait(?Send)]
impl Folder for MemoryFolder {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        let Some(bytes) = self.files.get(path) else { return Ok(None) };
        Ok(Some(Box::new(MemoryFile { bytes: bytes.clone(), at: 0 })))
    }

    fn describe(&self) -> String {
        format!("{} files in memory", self.files.len())
    }
}

/// An open file of a [`MemoryFolder`].
pub struct MemoryFile {
    bytes: Rc<Cow<'static, [u8]>>,
    at: usize,
}

impl MemoryFile {
    pub fn new(bytes: Vec<u8>) -> Self {
        MemoryFile { bytes: Rc::new(bytes.into()), at: 0 }
    }
}

#[async_trait(?Send)]
impl ByteStream for MemoryFile {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let rest = &self.bytes[self.at..];
        let got = rest.len().min(buf.len());
        buf[..got].copy_from_slice(&rest[..got]);
        self.at += got;
        Ok(got)
    }

    fn len(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }
}
