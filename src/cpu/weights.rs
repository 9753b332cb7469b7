//! The handles' blobs on the CPU: matrices as `[taps * inputs, outputs]`, which products want.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use half::f16;

use super::PANEL;
use crate::error::Result;
use crate::quant::{Format, Matrix};
use crate::weights::{Checkpoint, Declarations, Folder, Handle, Hooks, Layout};

/// What a model's handles were filled with.
pub struct Weights {
    blobs: HashMap<Handle, Blob>,
}

enum Blob {
    /// May be replaced while sessions share the weights.
    Matrix(RefCell<Rc<Dense>>),
    Vectors(Vec<f32>),
}

/// A matrix, `[taps * inputs, outputs]`, and its bias.
pub struct Dense {
    pub depth: usize,
    pub outputs: usize,
    values: Values,
    pub bias: Vec<f32>,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    /// With a scale for each output.
    Q8(Vec<i8>, Vec<f32>),
}

impl Weights {
    /// Streams checkpoints into the handles: as many as the declarations have sources.
    pub async fn load<F: Folder>(
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_, F>],
        hooks: Hooks<'_>,
    ) -> Result<Weights> {
        let mut weights = Weights { blobs: HashMap::new() };
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let mut insert = |handle, blob: Vec<u8>| {
                weights.insert(declarations, handle, &blob);
                Ok(())
            };
            checkpoint.fill(declarations, source, None, hooks, &mut insert).await?;
        }
        Ok(weights)
    }

    /// Streams matrices again. Sessions see them from their next step on.
    pub async fn reload<F: Folder>(
        &self,
        declarations: &Declarations,
        checkpoints: &[Checkpoint<'_, F>],
        handles: &HashSet<Handle>,
        hooks: Hooks<'_>,
    ) -> Result<()> {
        for (source, checkpoint) in checkpoints.iter().enumerate() {
            let mut replace = |handle: Handle, blob: Vec<u8>| {
                match (&self.blobs[&handle], declarations.specs[handle.0 as usize].layout) {
                    (Blob::Matrix(dense), Layout::Matrix(matrix)) => {
                        dense.replace(Rc::new(Dense::new(&matrix, &blob)));
                    }
                    (_, layout) => panic!("{layout:?} is no matrix"),
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
        let mut weights = Weights { blobs: HashMap::new() };
        for (handle, blob) in blobs {
            weights.insert(declarations, handle, &blob);
        }
        weights
    }

    /// An embedding table, or the vectors of a norm.
    pub fn table(&self, handle: Handle) -> &[f32] {
        match &self.blobs[&handle] {
            Blob::Vectors(values) => values,
            Blob::Matrix(_) => panic!("{handle:?} is a matrix"),
        }
    }

    pub fn matrix(&self, handle: Handle) -> Rc<Dense> {
        match &self.blobs[&handle] {
            Blob::Matrix(dense) => dense.borrow().clone(),
            Blob::Vectors(_) => panic!("{handle:?} is no matrix"),
        }
    }

    fn insert(&mut self, declarations: &Declarations, handle: Handle, blob: &[u8]) {
        let made = match declarations.specs[handle.0 as usize].layout {
            Layout::Matrix(matrix) => Blob::Matrix(RefCell::new(Rc::new(Dense::new(&matrix, blob)))),
            Layout::Vectors { .. } | Layout::Table { .. } => {
                Blob::Vectors(bytemuck::pod_collect_to_vec(blob))
            }
        };
        self.blobs.insert(handle, made);
    }
}

impl Dense {
    fn new(m: &Matrix, blob: &[u8]) -> Dense {
        let (depth, outputs) = ((m.taps * m.inputs) as usize, m.outputs as usize);
        let floats = |at: u32| -> Vec<f32> {
            bytemuck::pod_collect_to_vec(&blob[at as usize * 16..at as usize * 16 + outputs * 4])
        };
        // Position i of the result is the weight of tap and input i / outputs, output i % outputs.
        let element = |i: usize| {
            let (k, output) = ((i / outputs) as u32, (i % outputs) as u32);
            m.element(output, k / m.inputs, k % m.inputs)
        };
        let all = 0..depth * outputs;
        let bytes2 = |at: usize| [blob[at * 2], blob[at * 2 + 1]];
        let bytes4 = |at: usize| [blob[at * 4], blob[at * 4 + 1], blob[at * 4 + 2], blob[at * 4 + 3]];
        let values = match m.format {
            Format::F32 => Values::F32(all.map(|i| f32::from_le_bytes(bytes4(element(i)))).collect()),
            Format::F16 => Values::F16(all.map(|i| f16::from_le_bytes(bytes2(element(i)))).collect()),
            Format::Q8 => Values::Q8(all.map(|i| blob[element(i)] as i8).collect(), floats(m.scale_at())),
        };
        Dense { depth, outputs, values, bias: floats(m.bias_at()) }
    }

    /// Outputs of one panel: a multiple of four, all of them when the weights are f32.
    pub fn panel(&self) -> usize {
        match self.values {
            Values::F32(_) => self.outputs,
            _ => (PANEL / self.depth / 4 * 4).clamp(4, self.outputs),
        }
    }

    /// Columns `first..first + count` as f32, `[depth, count]`; `scratch` holds them when they are unpacked.
    /// Returns the values and the distance between rows.
    pub fn columns<'a>(
        &'a self,
        first: usize,
        count: usize,
        scratch: &'a mut Vec<f32>,
    ) -> (&'a [f32], usize) {
        let rows = |i: usize| i * self.outputs + first..i * self.outputs + first + count;
        scratch.clear();
        match &self.values {
            Values::F32(values) => return (&values[first..], self.outputs),
            Values::F16(values) => {
                (0..self.depth).for_each(|i| scratch.extend(values[rows(i)].iter().map(|v| v.to_f32())));
            }
            Values::Q8(values, scales) => {
                let scales = &scales[first..first + count];
                for i in 0..self.depth {
                    scratch.extend(values[rows(i)].iter().zip(scales).map(|(&q, s)| f32::from(q) * s));
                }
            }
        }
        (scratch, count)
    }
}
