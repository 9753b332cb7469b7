//! Files of a component -> slabs of f32: found, read strictly forward, converted, handed on.

use std::collections::{BTreeMap, HashMap};

use super::checked::Checked;
use super::finite::{NotFinite, TooLarge, count_too_large};
use super::head::read_header;
use super::index::Index;
use super::pack::Keeping;
use super::pickle::refuse_pickle;
use super::safetensors::{Dtype, TensorInfo};
use super::scaled::{Scales, changed, refuse_apart};
use super::source::{ByteStream, Folder, OpenFile, join};
use super::widen::{SUPPORTED, widen, widens};
use crate::error::{Code, Error, Result};
use crate::host::breathe;
use crate::quant::Format;
use crate::quant::floats::count_not_finite;
use crate::warning::Warning;

/// A slab has at most this many bytes of f32, unless [`SLAB_ROWS`] rows (or one longer row) have more.
pub const SLAB_BYTES: usize = 8 << 20;

/// Slabs begin at multiples of this many rows, unless one row alone is longer than [`SLAB_BYTES`].
pub const SLAB_ROWS: usize = 8;

/// Between two looks at `cancelled` lie at most this many bytes.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Takes the tensors of a component, under the names they have in the file.
pub trait Sink {
    /// The strings of a file's header, before its tensors are asked for.
    fn metadata(&mut self, _: &BTreeMap<String, String>) -> Result<()> {
        Ok(())
    }

    /// Whether the tensor is to be delivered. Asked once for each tensor, for all of a file before
    /// any of its data is read: here is the place to refuse a wrong shape.
    fn wants(&mut self, info: &TensorInfo) -> Result<bool>;

    /// What the values of a wanted tensor are stored in.
    fn stored_in(&self, _: &TensorInfo) -> Format {
        Format::F32
    }

    /// Rows `first_row..first_row + rows` of a wanted tensor; `data` is [rows, info.row_len()]. The
    /// slabs of a tensor come in order and cover it exactly once; an empty tensor has none. Infinite
    /// and NaN values are passed on as they are.
    fn slab(&mut self, info: &TensorInfo, first_row: usize, rows: usize, data: &[f32]) -> Result<()>;
}

/// What the caller sees and says while files are read.
#[derive(Clone, Copy)]
pub struct Hooks<'a> {
    /// Bytes of tensor data read or left out so far, and how many there will be, once that is known. Every checkpoint
    /// begins with 0, once, before any of its data.
    pub progress: &'a dyn Fn(u64, Option<u64>),
    /// Asked at least once a MiB; `true` ends the reading with `Cancelled`.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Takes what is read, to write a pack of it.
    pub keeping: Option<&'a Keeping>,
    /// Is told what a caller should know of the files, beside what is an error.
    pub warn: &'a dyn Fn(Warning),
}

impl Hooks<'_> {
    pub const NONE: Hooks<'static> =
        Hooks { progress: &|_, _| {}, cancelled: &|| false, keeping: None, warn: &|_| {} };
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Paths in the folder, in the order of reading, an index included.
    pub files: Vec<String>,
    /// Infinite or NaN elements among those delivered. Some published files have them.
    pub non_finite: u64,
}

/// Delivers the tensors of `component` ("unet", or "" for the folder itself) to `sink`. `stem` is
/// "diffusion_pytorch_model" or "model". The first of these is read:
///
/// `stem.fp16.safetensors`, `stem.safetensors`, the shards of `stem.safetensors.index.fp16.json`,
/// the shards of `stem.safetensors.index.json`.
///
/// Errors: `NotFound` if there is none or a shard is missing, `Unsupported` for pickle files or a
/// wanted tensor of another type than can be read as floats, `InvalidModel` for a damaged file, `NotFinite` for a wanted
/// tensor without a finite value, `Cancelled`, and whatever the folder and the sink answer. Some values that are not
/// finite are a warning.
pub async fn stream(
    folder: &dyn Folder,
    component: &str,
    stem: &str,
    sink: &mut dyn Sink,
    hooks: Hooks<'_>,
) -> Result<Streamed> {
    let mut reader = Reader::new(hooks);
    let single = ["fp16.safetensors", "safetensors"].map(|end| join(component, &format!("{stem}.{end}")));
    for path in &single {
        reader.check_cancelled()?;
        if let Some(file) = folder.open(path).await? {
            reader.file(folder, file, path, &[], sink).await?;
            return Ok(reader.done);
        }
    }
    let index = ["fp16.json", "json"].map(|end| join(component, &format!("{stem}.safetensors.index.{end}")));
    for path in &index {
        reader.check_cancelled()?;
        if let Some(json) = folder.read(path).await? {
            let index = Index::parse(&json, path)?;
            reader.total = index.total;
            reader.begin();
            reader.done.files.push(path.clone());
            for (shard, names) in &index.shards {
                let shard = join(component, shard);
                reader.check_cancelled()?;
                let Some(file) = folder.open(&shard).await? else {
                    return Err(Error::not_found(format!(
                        "{shard} does not exist in {}, but {path} says that it holds {} tensors, \
                         such as '{}'",
                        folder.describe(),
                        names.len(),
                        names[0]
                    )));
                };
                reader.file(folder, file, &shard, names, sink).await?;
            }
            return Ok(reader.done);
        }
    }
    let pickle = if stem == "model" { "pytorch_model" } else { stem };
    for end in ["bin", "fp16.bin"] {
        let path = join(component, &format!("{pickle}.{end}"));
        if folder.open(&path).await?.is_some() {
            refuse_pickle(&path)?;
        }
    }
    let [a, b] = &single;
    let [c, d] = &index;
    Err(Error::not_found(format!("no weights in {}: looked for {a}, {b}, {c}, {d}", folder.describe())))
}

/// Delivers the tensors of one safetensors file, of any name. Errors as [`stream()`].
pub async fn stream_file(
    folder: &dyn Folder,
    path: &str,
    sink: &mut dyn Sink,
    hooks: Hooks<'_>,
) -> Result<Streamed> {
    let mut reader = Reader::new(hooks);
    reader.check_cancelled()?;
    refuse_pickle(path)?;
    let Some(file) = folder.open(path).await? else { return Err(absent(folder, path)) };
    reader.file(folder, file, path, &[], sink).await?;
    Ok(reader.done)
}

pub(super) fn absent(folder: &dyn Folder, path: &str) -> Error {
    Error::not_found(format!("{path} does not exist in {}", folder.describe()))
}

/// Reads one file after another, with buffers that are reused.
struct Reader<'a> {
    hooks: Hooks<'a>,
    done: Streamed,
    /// The file that each tensor was found in.
    found: HashMap<String, String>,
    read: u64,
    total: Option<u64>,
    floats: Vec<f32>,
    halves: Vec<u16>,
}

impl<'a> Reader<'a> {
    fn new(hooks: Hooks<'a>) -> Self {
        let (floats, halves) = (Vec::new(), Vec::new());
        Reader {
            hooks,
            done: Streamed::default(),
            found: HashMap::new(),
            read: 0,
            total: None,
            floats,
            halves,
        }
    }

    fn check_cancelled(&self) -> Result<()> {
        if (self.hooks.cancelled)() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// One file of a folder. `names` are the tensors that it must hold according to an index.
    async fn file(
        &mut self,
        folder: &dyn Folder,
        file: OpenFile,
        path: &str,
        names: &[String],
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let mut file = Checked::new(file, folder.sha256(path));
        let (header, data) = read_header(&mut file, path).await?;
        self.done.files.push(path.to_string());
        // Of shards only the index knows the total, and may not say it.
        if names.is_empty() {
            self.total = Some(header.data_len());
            self.begin();
        }
        for info in &header.tensors {
            if let Some(other) = self.found.insert(info.name.clone(), path.to_string()) {
                return Err(Error::model(format!("tensor '{}' is both in {other} and in {path}", info.name)));
            }
        }
        if let Some(name) = names.iter().find(|name| !self.found.contains_key(*name)) {
            return Err(Error::model(format!("{path} has no tensor '{name}', but the index says so")));
        }
        refuse_apart(&header, path, &self.found)?;
        sink.metadata(&header.metadata).map_err(|e| in_file(e, path))?;
        let mut wanted = Vec::new();
        for info in &header.tensors {
            let wants = sink.wants(info).map_err(|e| in_file(e, path))?;
            if wants && !widens(info) {
                return Err(Error::unsupported(format!(
                    "{path}: tensor '{}' is {} {:?}, supported are {SUPPORTED}",
                    info.name, info.dtype, info.shape
                )));
            }
            wanted.push(wants);
        }
        let scales = Scales::read(folder, path, (&header, data), &wanted).await?;
        let (mut spoilt, mut too_large) = (NotFinite::default(), TooLarge::default());
        for (info, wanted) in header.tensors.iter().zip(wanted) {
            if wanted {
                let format = sink.stored_in(info);
                let [not_finite, above] = self.tensor(&mut file, path, info, &scales, format, sink).await?;
                spoilt.add(path, &info.name, not_finite, info.shape.iter().map(|&d| d as u64).product())?;
                too_large.add(&info.name, above, format);
            } else if let Some(wanted) = scales.bytes(&info.name) {
                let mut found = vec![0; wanted.len()];
                self.fill(&mut file, &mut found, path, info).await?;
                if found != wanted {
                    return Err(changed(path, &info.name));
                }
            } else {
                self.skip(&mut file, path, info).await?;
            }
        }
        self.done.non_finite += spoilt.values();
        let warnings = [spoilt.warning(path), too_large.warning(path), scales.warning(path)];
        warnings.into_iter().flatten().for_each(self.hooks.warn);
        file.finish(path, |sha256| folder.hashed(path, sha256)).await
    }

    /// Returns how many of its values are not finite, and how many others are not in the format.
    async fn tensor(
        &mut self,
        file: &mut dyn ByteStream,
        path: &str,
        info: &TensorInfo,
        scales: &Scales,
        format: Format,
        sink: &mut dyn Sink,
    ) -> Result<[u64; 2]> {
        let [mut not_finite, mut too_large] = [0; 2];
        if info.begin == info.end {
            return Ok([not_finite, too_large]);
        }
        let row_len = info.row_len();
        let step = slab_rows(row_len);
        let mut floats = std::mem::take(&mut self.floats);
        let mut halves = std::mem::take(&mut self.halves);
        for first in (0..info.rows()).step_by(step) {
            let rows = step.min(info.rows() - first);
            let (mut filled, len) = (0, rows * row_len);
            while filled < len {
                // One row may be longer than the file is: memory grows as it comes.
                floats.resize(len.min(filled + SLAB_BYTES / 4), 0.0);
                let piece = &mut floats[filled..];
                if info.dtype == Dtype::F32 {
                    self.fill(file, bytemuck::cast_slice_mut(piece), path, info).await?;
                    #[cfg(target_endian = "big")]
                    piece.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits().swap_bytes()));
                } else {
                    let bytes = piece.len() * info.dtype.size().unwrap_or(1) as usize;
                    halves.resize(bytes.div_ceil(2), 0);
                    self.fill(file, &mut bytemuck::cast_slice_mut(&mut halves)[..bytes], path, info).await?;
                    widen(&info.dtype, &halves, piece);
                }
                filled = floats.len();
            }
            scales.apply(info, first, &mut floats);
            not_finite += count_not_finite(&floats);
            too_large += count_too_large(&floats, format);
            sink.slab(info, first, rows, &floats).map_err(|e| in_file(e, path))?;
        }
        (self.floats, self.halves) = (floats, halves);
        Ok([not_finite, too_large])
    }

    /// Leaves out a tensor that nobody wants.
    async fn skip(&mut self, file: &mut dyn ByteStream, path: &str, info: &TensorInfo) -> Result<()> {
        let mut left = info.end - info.begin;
        if file.len().is_some() {
            // The header has been compared with the length: the file does not end in between.
            self.check_cancelled()?;
            file.skip(left).await?;
            self.count(left);
            return Ok(());
        }
        let mut halves = std::mem::take(&mut self.halves);
        halves.resize(PIECE_BYTES / 2, 0);
        while left > 0 {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut halves);
            let piece = left.min(PIECE_BYTES as u64);
            self.fill(file, &mut bytes[..piece as usize], path, info).await?;
            left -= piece;
        }
        self.halves = halves;
        Ok(())
    }

    async fn fill(
        &mut self,
        file: &mut dyn ByteStream,
        buf: &mut [u8],
        path: &str,
        info: &TensorInfo,
    ) -> Result<()> {
        for piece in buf.chunks_mut(PIECE_BYTES) {
            // What cancels may be a message to this thread.
            breathe().await;
            self.check_cancelled()?;
            let got = file.read_full(piece).await?;
            if got < piece.len() {
                return Err(Error::model(format!(
                    "{path} is truncated: it ends inside tensor '{}', which takes bytes {}..{} of the data",
                    info.name, info.begin, info.end
                )));
            }
            self.count(got as u64);
        }
        Ok(())
    }

    fn begin(&self) {
        (self.hooks.progress)(0, self.total);
    }

    fn count(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.read += bytes;
        (self.hooks.progress)(self.read, self.total.map(|total| total.max(self.read)));
    }
}

/// Rows of a slab, for rows of `row_len` elements.
pub(super) fn slab_rows(row_len: usize) -> usize {
    let fit = SLAB_BYTES / 4 / row_len;
    if fit == 0 { 1 } else { (fit / SLAB_ROWS * SLAB_ROWS).max(SLAB_ROWS) }
}

/// The sink knows the tensor but not the file.
fn in_file(e: Error, path: &str) -> Error {
    match e.code {
        Code::InvalidModel | Code::Unsupported => Error::new(e.code, format!("{path}: {}", e.message)),
        _ => e,
    }
}
