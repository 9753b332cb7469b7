//! What a model's layers ask of a checkpoint, before a byte of it is read.
//!
//! A layer declares handles. A handle is one blob on the GPU; its parts say which tensors of the checkpoint
//! go where in it, so that fused projections, GEGLU and padded heads are plain.

use std::collections::HashSet;
use std::ops::Range;

use tintype_cpu::Form;

use crate::error::{Error, Result};
use crate::quant::{Format, Matrix};

/// Names a blob: its place in [`Declarations::specs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

/// Where the checkpoint's outputs (rows) go.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// One after the other from here.
    From(u32),
    /// Heads of `size` outputs, each padded with zeros to `padded`, from `at`.
    Heads { at: u32, size: u32, padded: u32 },
    /// A GEGLU projection: values and gates, alternating by four.
    Geglu { outputs: u32 },
    /// Of squares of so many places: channels of a place follow one another, where the checkpoint has the places of a channel
    /// so.
    Patches { channels: u32, places: u32 },
    /// Every other four, from here on: of a gated projection the values (0) or the gates (4).
    Fours(u32),
    /// The first so many of a tensor that has others too.
    First(u32),
    /// Behind `skip` others, gates and then values of a gated projection: alternating by four, values first.
    Gated { skip: u32, outputs: u32 },
}

impl Rows {
    /// The same, so much further on.
    pub fn behind(self, by: u32) -> Rows {
        match self {
            Rows::From(at) => Rows::From(at + by),
            Rows::Heads { at, size, padded } => Rows::Heads { at: at + by, size, padded },
            Rows::Fours(at) => Rows::Fours(at + by),
            _ => panic!("{self:?} begins where a matrix does"),
        }
    }

    /// Of so many rows of a tensor those that go here: the others go to another handle.
    pub fn taken(self, all: usize) -> Range<u32> {
        match self {
            Rows::First(end) => 0..end,
            Rows::Gated { skip, outputs } => skip..skip + 2 * outputs,
            _ => 0..all as u32,
        }
    }

    /// Where one of the rows goes that are taken.
    pub fn place(self, row: u32) -> u32 {
        match self {
            Rows::First(_) => row,
            Rows::Gated { skip, outputs } => {
                let (half, r) = ((row - skip) / outputs, (row - skip) % outputs);
                r / 4 * 8 + (1 - half) * 4 + r % 4
            }
            Rows::From(at) => at + row,
            Rows::Heads { at, size, padded } => at + row / size * padded + row % size,
            Rows::Geglu { outputs } => {
                let (half, r) = (row / outputs, row % outputs);
                r / 4 * 8 + half * 4 + r % 4
            }
            Rows::Patches { channels, places } => row % places * channels + row / places,
            Rows::Fours(at) => at + row / 4 * 8 + row % 4,
        }
    }
}

/// Where the checkpoint's inputs (columns) go.
#[derive(Clone, Copy, Debug)]
pub enum Columns {
    Same,
    Heads {
        size: u32,
        padded: u32,
    },
    /// Of a convolution over squares of so many places: channels of a place follow one another, where the checkpoint has the
    /// places of a channel so.
    Patches {
        channels: u32,
        places: u32,
    },
}

impl Columns {
    pub fn place(self, column: u32) -> u32 {
        match self {
            Columns::Same => column,
            Columns::Heads { size, padded } => column / size * padded + column % size,
            Columns::Patches { channels, places } => column % places * channels + column / places,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Role {
    Weight {
        rows: Rows,
        columns: Columns,
    },
    Bias {
        rows: Rows,
    },
    /// Vectors of f32: the first value of a row is where `rows` says, the next ones each `each` values on. A norm's have one.
    Vector {
        rows: Rows,
        each: u32,
    },
    /// A vector of a norm that a checkpoint has as what it is more than one, at this f32 of the blob.
    VectorFromOne {
        at: u32,
    },
    /// An embedding table, kept on the CPU.
    Table,
}

/// One tensor of the checkpoint.
#[derive(Clone, Debug)]
pub struct Part {
    /// The name, then others that older files use.
    pub names: Vec<String>,
    /// Trailing dimensions of one may be there or not: a 1x1 convolution is a linear layer.
    pub shape: Vec<usize>,
    pub role: Role,
}

impl Part {
    /// How many of its values the handle takes, counted where a 32-bit machine could not.
    pub fn values(&self) -> u64 {
        let Some((&all, row)) = self.shape.split_first() else { return 1 };
        let taken = match self.role {
            Role::Weight { rows, .. } | Role::Bias { rows } => rows.taken(all).len() as u64,
            _ => all as u64,
        };
        row.iter().fold(taken, |n: u64, &d| n.saturating_mul(d as u64))
    }

    /// The first row that the handle takes of a tensor that others take rows of too.
    pub fn first_taken(&self) -> Option<u32> {
        match self.role {
            Role::Weight { rows: rows @ (Rows::First(_) | Rows::Gated { .. }), .. } => {
                Some(rows.taken(0).start)
            }
            _ => None,
        }
    }

    /// What its values are stored in, in a handle of this layout: biases and vectors are f32.
    pub fn format(&self, layout: &Layout) -> Format {
        match (self.role, layout) {
            (Role::Weight { .. }, Layout::Matrix(matrix)) => matrix.format,
            (_, Layout::Table { format, .. }) => *format,
            _ => Format::F32,
        }
    }
}

/// No blob is larger: the most that one allocation of a 32-bit machine can have.
const MAX_BYTES: u64 = i32::MAX as u64;

#[derive(Clone, Copy, Debug)]
pub enum Layout {
    Matrix(Matrix),
    /// f32 vectors of this many bytes in all.
    Vectors {
        bytes: usize,
    },
    /// Rows on the CPU, f32 or f16.
    Table {
        format: Format,
        rows: usize,
        width: usize,
    },
}

impl Layout {
    pub fn bytes(&self) -> usize {
        self.size() as usize
    }

    /// Bytes in 64 bits, for layouts that [`Declarations::check`] has not yet accepted: a 32-bit machine could not count
    /// them.
    fn size(&self) -> u64 {
        match *self {
            Layout::Matrix(m) => m.size(),
            Layout::Vectors { bytes } => bytes as u64,
            Layout::Table { format, rows, width } => {
                rows as u64 * width as u64 * if format == Format::F32 { 4 } else { 2 }
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub layout: Layout,
    pub parts: Vec<Part>,
    /// Which of several checkpoints has the parts ([`Declarations::source`]).
    pub source: usize,
    /// How a CPU keeps it.
    pub form: Form,
}

/// A matrix as kernels see it.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    pub handle: Handle,
    pub matrix: Matrix,
}

/// Collects what a model's layers declare.
#[derive(Debug)]
pub struct Declarations {
    pub specs: Vec<Spec>,
    /// The format that is asked for; a matrix may have another ([`Format::of`]).
    pub format: Format,
    /// Of what is declared next: see [`Declarations::sensitive`].
    pub is_sensitive: bool,
    source: usize,
}

impl Declarations {
    pub fn new(format: Format) -> Declarations {
        Declarations { specs: vec![], format, is_sensitive: false, source: 0 }
    }

    /// What `declare` declares stays at 8 bits in q4: layers whose errors show most, such as first and last convolutions, time
    /// embeddings, shortcuts and self-attention.
    pub fn sensitive<T>(&mut self, declare: impl FnOnce(&mut Declarations) -> T) -> T {
        let outer = std::mem::replace(&mut self.is_sensitive, true);
        let made = declare(self);
        self.is_sensitive = outer;
        made
    }

    /// What is declared from here on lies in another checkpoint than what was before: a U-Net and its
    /// ControlNet run in one plan and have names in common. Checkpoints are numbered from 0, the first.
    pub fn next_source(&mut self) {
        self.source += 1;
    }

    /// Every handle with what it was declared as.
    pub fn handles(&self) -> impl Iterator<Item = (Handle, &Spec)> {
        self.specs.iter().enumerate().map(|(i, spec)| (Handle(i as u32), spec))
    }

    /// Whether one of these handles lies in this source.
    pub fn any_of(&self, source: usize, handles: &HashSet<Handle>) -> bool {
        handles.iter().any(|handle| self.specs[handle.0 as usize].source == source)
    }

    /// Values of all tensors, as a checkpoint has them: without padding.
    pub fn parameters(&self) -> u64 {
        self.sources().fold(0, |n: u64, source| n.saturating_add(self.parameters_of(source)))
    }

    /// Values of the tensors that come from one source, without padding.
    pub fn parameters_of(&self, source: usize) -> u64 {
        let specs = self.specs.iter().filter(|spec| spec.source == source);
        specs.flat_map(|spec| &spec.parts).fold(0, |n: u64, part| n.saturating_add(part.values()))
    }

    /// The checkpoints that are declared.
    pub fn sources(&self) -> Range<usize> {
        0..self.source + 1
    }

    /// Whether every blob is one that a 32-bit machine can hold: to be asked before anything is recorded or read.
    /// `what` is declared.
    ///
    /// Errors: `Unsupported`, which names the first tensor of a blob that is too large.
    pub fn check(&self, what: &str) -> Result<()> {
        let Some(spec) = self.specs.iter().find(|spec| spec.layout.size() > MAX_BYTES) else { return Ok(()) };
        let (part, mib) = (&spec.parts[0], |bytes: u64| bytes.div_ceil(1 << 20));
        Err(Error::unsupported(format!(
            "{what}: {} of the shape {:?} is stored in {} MiB, supported are at most {} MiB",
            part.names[0],
            part.shape,
            mib(spec.layout.size()),
            mib(MAX_BYTES)
        )))
    }

    /// What was declared from `first` on may also have its names without this beginning.
    pub fn allow_without(&mut self, first: usize, prefix: &str) {
        for part in self.specs[first..].iter_mut().flat_map(|spec| &mut spec.parts) {
            let short = part.names[0].strip_prefix(prefix).map(str::to_owned);
            part.names.extend(short);
        }
    }

    pub fn add(&mut self, layout: Layout, parts: Vec<Part>) -> Handle {
        self.specs.push(Spec { layout, parts, source: self.source, form: Form::Plain });
        Handle(self.specs.len() as u32 - 1)
    }

    /// A matrix of `outputs` x `inputs` (padded to vec4s here) made of `parts`.
    pub fn matrix(&mut self, outputs: u32, inputs: u32, taps: u32, parts: Vec<Part>) -> Weight {
        let (outputs, inputs) = (outputs.next_multiple_of(4), inputs.next_multiple_of(4));
        let mut matrix = Matrix { format: self.format, outputs, inputs, taps };
        matrix.format = self.format.of(matrix, self.is_sensitive);
        Weight { handle: self.add(Layout::Matrix(matrix), parts), matrix }
    }

    /// `weight` and `bias` of a norm over `channels`.
    pub fn norm(&mut self, path: &str, channels: u32) -> Handle {
        let padded = channels.next_multiple_of(4);
        let part = |name: &str, at| Part {
            names: vec![format!("{path}.{name}")],
            shape: vec![channels as usize],
            role: Role::Vector { rows: Rows::From(at), each: 1 },
        };
        let parts = vec![part("weight", 0), part("bias", padded)];
        self.add(Layout::Vectors { bytes: padded as usize * 8 }, parts)
    }

    /// Vectors of as many channels, one after the other, by their names.
    pub fn vectors(&mut self, names: impl IntoIterator<Item = String>, channels: u32) -> Handle {
        let roles = (0..).map(|i| Role::Vector { rows: Rows::From(i * channels), each: 1 });
        self.vectors_of(names.into_iter().zip(roles), channels)
    }

    /// A vector that a checkpoint has as what it is more than one.
    pub fn vector_from_one(&mut self, name: String, channels: u32) -> Handle {
        self.vectors_of([(name, Role::VectorFromOne { at: 0 })], channels)
    }

    fn vectors_of(&mut self, named: impl IntoIterator<Item = (String, Role)>, channels: u32) -> Handle {
        assert!(channels.is_multiple_of(4), "vectors of {channels}");
        let shape = vec![channels as usize];
        let part = |(name, role)| Part { names: vec![name], shape: shape.clone(), role };
        let parts: Vec<Part> = named.into_iter().map(part).collect();
        let bytes = parts.len() * channels as usize * 4;
        self.add(Layout::Vectors { bytes }, parts)
    }

    /// A small table `[rows, width]` of f32 on the CPU.
    pub fn table(&mut self, name: &str, rows: usize, width: usize) -> Handle {
        self.rows(name, Format::F32, rows, width)
    }

    /// An embedding table `[rows, width]`, gathered on the CPU.
    pub fn tokens(&mut self, name: &str, rows: usize, width: usize) -> Handle {
        self.rows(name, self.format.of_rows(), rows, width)
    }

    /// A table `[rows, width]` that is a part of any form or name, gathered on the CPU.
    pub fn rows_of(&mut self, part: Part, rows: usize, width: usize) -> Handle {
        self.add(Layout::Table { format: self.format.of_rows(), rows, width }, vec![part])
    }

    fn rows(&mut self, name: &str, format: Format, rows: usize, width: usize) -> Handle {
        let part = Part { names: vec![name.to_owned()], shape: vec![rows, width], role: Role::Table };
        self.add(Layout::Table { format, rows, width }, vec![part])
    }
}

/// The parts of an ordinary layer: `path.weight` with this shape, and `path.bias`.
pub fn weight_and_bias(path: &str, shape: Vec<usize>, bias: bool, rows: Rows, columns: Columns) -> Vec<Part> {
    let outputs = shape[0];
    let mut parts =
        vec![Part { names: vec![format!("{path}.weight")], shape, role: Role::Weight { rows, columns } }];
    if bias {
        parts.push(Part {
            names: vec![format!("{path}.bias")],
            shape: vec![outputs],
            role: Role::Bias { rows },
        });
    }
    parts
}
