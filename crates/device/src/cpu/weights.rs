//! The handles' blobs on the CPU: matrices as products want them, vectors, rows of tokens.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tintype_cpu::Dense;

use crate::error::Result;
use crate::weights::{Checkpoint, Declarations, Handle, Hooks, Layout, Piece, Pieces, Table};

/// What a model's handles were filled with.
pub struct Weights {
    blobs: RefCell<HashMap<Handle, Blob>>,
}

/// Shared with whoever computes with it, since another may take its place meanwhile.
enum Blob {
    Matrix(Rc<Dense>),
    Vectors(Rc<Vec<f32>>),
    Table(Rc<Table>),
}

impl Weights {
    /// Streams checkpoints into the handles: as many as the declarations have sources.
    pub async fn load(
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_>],
        hooks: Hooks<'_>,
    ) -> Result<Weights> {
        let weights = Weights { blobs: RefCell::default() };
        let mut pieces = Pieces::new(declarations);
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let mut insert = |piece: Piece<'_>| {
                if let Some((handle, blob)) = pieces.add(piece) {
                    weights.insert(declarations, handle, blob);
                }
                Ok(())
            };
            checkpoint.fill(declarations, source, None, hooks, &mut insert).await?;
        }
        Ok(weights)
    }

    /// Streams handles again. Sessions see them from their next step on.
    pub async fn reload(
        &self,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_>],
        handles: &HashSet<Handle>,
        hooks: Hooks<'_>,
    ) -> Result<()> {
        let mut pieces = Pieces::new(declarations);
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let mut replace = |piece: Piece<'_>| {
                if let Some((handle, blob)) = pieces.add(piece) {
                    self.insert(declarations, handle, blob);
                }
                Ok(())
            };
            if declarations.any_of(source, handles) {
                checkpoint.fill(declarations, source, Some(handles), hooks, &mut replace).await?;
            }
        }
        Ok(())
    }

    /// Blobs that were made elsewhere (tests).
    pub fn from_blobs(
        declarations: &Declarations,
        blobs: impl IntoIterator<Item = (Handle, Vec<u8>)>,
    ) -> Weights {
        let weights = Weights { blobs: RefCell::default() };
        for (handle, blob) in blobs {
            weights.insert(declarations, handle, blob);
        }
        weights
    }

    /// The vectors of a norm.
    pub fn vectors(&self, handle: Handle) -> Rc<Vec<f32>> {
        match &self.blobs.borrow()[&handle] {
            Blob::Vectors(values) => values.clone(),
            _ => panic!("{handle:?} is no vectors"),
        }
    }

    pub fn table(&self, handle: Handle) -> Rc<Table> {
        match &self.blobs.borrow()[&handle] {
            Blob::Table(table) => table.clone(),
            _ => panic!("{handle:?} is no table"),
        }
    }

    pub fn matrix(&self, handle: Handle) -> Rc<Dense> {
        match &self.blobs.borrow()[&handle] {
            Blob::Matrix(dense) => dense.clone(),
            _ => panic!("{handle:?} is no matrix"),
        }
    }

    fn insert(&self, declarations: &Declarations, handle: Handle, blob: Vec<u8>) {
        let spec = &declarations.specs[handle.0 as usize];
        let made = match spec.layout {
            Layout::Matrix(matrix) => Blob::Matrix(Rc::new(Dense::new(&matrix, blob, spec.form))),
            Layout::Vectors { .. } => Blob::Vectors(Rc::new(bytemuck::pod_collect_to_vec(&blob))),
            Layout::Table { format, width, .. } => Blob::Table(Rc::new(Table::new(format, width, blob))),
        };
        self.blobs.borrow_mut().insert(handle, made);
    }
}
