//! The handles' blobs on the GPU, and the tables that stay on the CPU.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Gpu;
use super::buffer::Buffer;
use crate::error::{Code, Error, Result};
use tintype_weights::{Checkpoint, Declarations, Handle, Hooks, Layout, Piece, Pieces, Table};

/// Written data waits in staging memory until a submit: after this much there is one.
const FLUSH_BYTES: u64 = 64 << 20;

/// What a model's handles were filled with.
pub struct GpuWeights {
    pub gpu: Rc<Gpu>,
    /// Shared with the sessions that read them.
    blobs: Vec<Option<Rc<Buffer>>>,
    /// Shared too, since another may take a table's place.
    tables: RefCell<HashMap<Handle, Rc<Table>>>,
}

/// Writes blobs.
struct Upload<'a> {
    gpu: &'a Gpu,
    /// Bytes written since the queue was last flushed.
    pending: u64,
}

impl GpuWeights {
    fn empty(gpu: &Rc<Gpu>, declarations: &Declarations) -> GpuWeights {
        GpuWeights {
            gpu: gpu.clone(),
            blobs: declarations.specs.iter().map(|_| None).collect(),
            tables: RefCell::default(),
        }
    }

    /// Streams checkpoints into the handles: as many as the declarations have sources.
    pub async fn load(
        gpu: &Rc<Gpu>,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_>],
        hooks: Hooks<'_>,
    ) -> Result<GpuWeights> {
        let mut weights = GpuWeights::empty(gpu, declarations);
        let mut upload = Upload { gpu, pending: 0 };
        let mut tables = Pieces::new(declarations);
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let mut insert = |piece: Piece<'_>| {
                let size = declarations.specs[piece.handle.0 as usize].layout.bytes();
                weights.insert(&mut upload, &mut tables, declarations, piece, size);
                gpu.check()
            };
            let filled = checkpoint.fill(declarations, source, None, hooks, &mut insert).await;
            if let Some(e) = scope.pop().await {
                return Err(Error::new(
                    Code::OutOfMemory,
                    format!("{}: the GPU has no room for the weights: {e}", checkpoint.component),
                ));
            }
            filled?;
        }
        // Nothing was waited for since the last piece.
        gpu.poll_until_idle();
        gpu.check()?;
        Ok(weights)
    }

    /// Streams handles again into the buffers that they have: sessions hold on to those.
    pub async fn reload(
        &self,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_>],
        handles: &HashSet<Handle>,
        hooks: Hooks<'_>,
    ) -> Result<()> {
        let gpu = &*self.gpu;
        let (mut upload, mut tables) = (Upload { gpu, pending: 0 }, Pieces::new(declarations));
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let mut replace = |piece: Piece<'_>| {
                if !self.take_table(&mut tables, declarations, piece) {
                    upload.write(self.blob(piece.handle), piece.at, piece.bytes);
                }
                gpu.check()
            };
            if declarations.any_of(source, handles) {
                checkpoint.fill(declarations, source, Some(handles), hooks, &mut replace).await?;
            }
        }
        Ok(())
    }

    /// Puts blobs that were made elsewhere (tests) on the GPU.
    pub fn from_blobs(
        gpu: &Rc<Gpu>,
        declarations: &Declarations,
        blobs: impl IntoIterator<Item = (Handle, Vec<u8>)>,
    ) -> GpuWeights {
        let mut weights = GpuWeights::empty(gpu, declarations);
        let (mut upload, mut tables) = (Upload { gpu, pending: 0 }, Pieces::new(declarations));
        for (handle, blob) in blobs {
            let whole = Piece { handle, at: 0, bytes: &blob };
            // Tests put more behind a blob than belongs to it.
            weights.insert(&mut upload, &mut tables, declarations, whole, blob.len());
        }
        weights
    }

    pub fn table(&self, handle: Handle) -> Rc<Table> {
        self.tables.borrow()[&handle].clone()
    }

    pub(super) fn blob(&self, handle: Handle) -> &Rc<Buffer> {
        self.blobs[handle.0 as usize].as_ref().expect("a filled handle")
    }

    fn insert(
        &mut self,
        upload: &mut Upload<'_>,
        tables: &mut Pieces<'_>,
        declarations: &Declarations,
        piece: Piece<'_>,
        size: usize,
    ) {
        if self.take_table(tables, declarations, piece) {
            return;
        }
        let at = piece.handle.0 as usize;
        let buffer = self.blobs[at].get_or_insert_with(|| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            Rc::new(upload.gpu.buffer("weights", size as u64, usage))
        });
        upload.write(buffer, piece.at, piece.bytes);
    }

    /// Takes a piece if it is a table's.
    fn take_table(&self, tables: &mut Pieces<'_>, declarations: &Declarations, piece: Piece<'_>) -> bool {
        let Layout::Table { format, width, .. } = declarations.specs[piece.handle.0 as usize].layout else {
            return false;
        };
        if let Some((handle, blob)) = tables.add(piece) {
            self.tables.borrow_mut().insert(handle, Rc::new(Table::new(format, width, blob)));
        }
        true
    }
}

impl Upload<'_> {
    fn write(&mut self, buffer: &wgpu::Buffer, at: usize, bytes: &[u8]) {
        self.gpu.write(buffer, at as u64, bytes);
        self.pending += bytes.len() as u64;
        if self.pending > FLUSH_BYTES {
            self.gpu.queue.submit([]);
            self.gpu.poll_until_idle();
            self.pending = 0;
        }
    }
}
