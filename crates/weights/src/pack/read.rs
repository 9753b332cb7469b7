//! Packed weights to the handles' blobs, verified chunk by chunk before any of them is used.

use std::collections::{HashMap, HashSet};

use super::manifest::{Listed, MANIFEST, Manifest, chunk_at};
use super::write::Weights;
use super::{describe, name, packed};
use crate::declare::{Declarations, Handle};
use crate::error::{Code, Error, Result};
use crate::finite::{NotFinite, count_stored};
use crate::head::read_header;
use crate::host::breathe;
use crate::piece::{PIECE_BYTES, Piece};
use crate::source::{ByteStream, Folder, OpenFile};
use crate::stream::Hooks;
use async_trait::async_trait;

/// Fills the handles of the first source from the packed weights of a component.
///
/// Errors: `Integrity` for a chunk that is damaged, twice; `InvalidModel` for a pack that lacks what is declared or has
/// it in another layout; `Cancelled`; and what the folder answers.
pub async fn fill_packed(
    folder: &dyn Folder,
    manifest: &Manifest,
    component: &str,
    declarations: &Declarations,
    hooks: Hooks<'_>,
    upload: &mut dyn FnMut(Piece<'_>) -> Result<()>,
) -> Result<()> {
    let path = packed(component);
    let listed = manifest.file(&path)?;
    let kept = hooks.keeping.map(|keeping| keeping.copy(&path, listed.bytes));
    let mut file = Verified::open(folder, &path, listed, kept.as_ref()).await?;
    let (header, _) = read_header(&mut file, &path).await?;
    let mut wanted: HashMap<String, Handle> = declarations
        .handles()
        .filter(|(_, spec)| spec.source == 0)
        .map(|(handle, _)| (name(declarations, handle), handle))
        .collect();
    let missing: HashSet<&str> = header.tensors.iter().map(|info| info.name.as_str()).collect();
    if let Some(absent) = wanted.keys().filter(|name| !missing.contains(name.as_str())).min() {
        return Err(Error::model(format!(
            "{path}: the pack lacks {absent}: it was made without this part of the model"
        )));
    }
    let (total, mut read, mut buffer) = (header.data_len(), 0, vec![]);
    (hooks.progress)(0, Some(total));
    let mut spoilt = NotFinite::default();
    for info in &header.tensors {
        let handle = wanted.remove(info.name.as_str());
        if let Some(handle) = handle {
            let layout = &declarations.specs[handle.0 as usize].layout;
            let (found, layout_wanted) = (header.metadata.get(&info.name), describe(layout));
            if found != Some(&layout_wanted) || info.end - info.begin != layout.bytes() as u64 {
                return Err(Error::model(format!(
                    "{path}: {} is stored as {} in {} bytes, wanted {layout_wanted} in {}",
                    info.name,
                    found.map_or("nothing known", String::as_str),
                    info.end - info.begin,
                    layout.bytes()
                )));
            }
        }
        let (mut at, mut not_finite) = (info.begin, 0);
        while at < info.end {
            breathe().await;
            if (hooks.cancelled)() {
                return Err(Error::cancelled());
            }
            buffer.resize((info.end - at).min(PIECE_BYTES as u64) as usize, 0);
            if file.read_full(&mut buffer).await? < buffer.len() {
                return Err(Error::model(format!("{path} is truncated inside {}", info.name)));
            }
            if let Some(handle) = handle {
                let from = (at - info.begin) as usize;
                not_finite += count_stored(&declarations.specs[handle.0 as usize].layout, from, &buffer);
                upload(Piece { handle, at: from, bytes: &buffer })?;
            }
            at += buffer.len() as u64;
            read += buffer.len() as u64;
            (hooks.progress)(read, Some(total));
        }
        // Of a blob nobody can say how many numbers it is made of, padding and all.
        spoilt.add(&path, &info.name, not_finite, u64::MAX)?;
    }
    spoilt.warning(&path).into_iter().for_each(hooks.warn);
    if let Some(kept) = kept {
        kept.end();
    }
    Ok(())
}

/// A file whose chunks are verified before they are handed on. A damaged one is fetched once more.
struct Verified<'a> {
    folder: &'a dyn Folder,
    path: &'a str,
    listed: &'a Listed,
    /// Takes what is verified.
    kept: Option<&'a Weights<'a>>,
    file: OpenFile,
    /// The next chunk.
    next: usize,
    /// What was verified, and how much of it was handed on.
    chunk: Vec<u8>,
    at: usize,
}

impl<'a> Verified<'a> {
    async fn open(
        folder: &'a dyn Folder,
        path: &'a str,
        listed: &'a Listed,
        kept: Option<&'a Weights<'a>>,
    ) -> Result<Verified<'a>> {
        let file = open(folder, path, 0, false).await?;
        Ok(Verified { folder, path, listed, kept, file, next: 0, chunk: vec![], at: 0 })
    }

    async fn fetch(&mut self) -> Result<()> {
        self.chunk.resize(self.listed.chunk_bytes(self.next), 0);
        let mut got = self.file.read_full(&mut self.chunk).await?;
        if let Err(e) = self.listed.check(self.path, self.next, &self.chunk[..got]) {
            self.file = open(self.folder, self.path, chunk_at(self.next), true).await?;
            got = self.file.read_full(&mut self.chunk).await?;
            self.listed.check(self.path, self.next, &self.chunk[..got]).map_err(|_| e)?;
        }
        // A hash may be that of less than the manifest lists.
        if got < self.chunk.len() {
            let (chunk, wanted) = (self.next, self.chunk.len());
            let message = format!("{}: chunk {chunk} has {got} bytes, {MANIFEST} lists {wanted}", self.path);
            return Err(Error::model(message));
        }
        if let Some(kept) = self.kept {
            kept.bytes(chunk_at(self.next), &self.chunk);
        }
        (self.next, self.at) = (self.next + 1, 0);
        Ok(())
    }
}

#[async_trait(?Send)]
impl ByteStream for Verified<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        if self.at == self.chunk.len() && self.next < self.listed.sha256.len() {
            self.fetch().await?;
        }
        let rest = &self.chunk[self.at..];
        let got = rest.len().min(buf.len());
        buf[..got].copy_from_slice(&rest[..got]);
        self.at += got;
        Ok(got)
    }

    fn len(&self) -> Option<u64> {
        Some(self.listed.bytes)
    }
}

async fn open(folder: &dyn Folder, path: &str, begin: u64, fresh: bool) -> Result<OpenFile> {
    let file = folder.open_at(path, begin, fresh).await?;
    file.ok_or_else(|| Error::new(Code::NotFound, format!("{path} does not exist in {}", folder.describe())))
}
