//! A plan is plain data: which kernels run, on which tensors, in which buffers. Recording one touches no
//! GPU and cannot fail; executing one is `gpu/`'s business.

mod memory;
mod print;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::error::{Code, Error, Result};
use crate::kernels::{Access, VariantId};
use crate::shape::{Elem, Shape};
use crate::weights::Handle;

pub use print::Summary;
pub use watch::{Faults, WATCH};

/// What a plan is recorded for.
#[derive(Clone, Debug)]
pub struct Target {
    /// How activations are stored.
    pub elem: Elem,
    pub block: Block,
    /// Keep the output of every named module, for comparison with the reference.
    pub taps: bool,
}

impl Target {
    /// For a GPU, without taps.
    pub fn new(elem: Elem) -> Target {
        Target { elem, block: Block::Small, taps: false }
    }
}

/// How much of a product one thread makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Block {
    /// 4 rows x 8 outputs: what the registers of a GPU hold.
    #[default]
    Small,
    /// 16 rows x 16 outputs, of f32 activations: for SwiftShader, where loads cost most.
    Large,
}

impl Block {
    /// The library that fills the kernels' slot.
    pub fn as_str(self) -> &'static str {
        match self {
            Block::Small => "4x8",
            Block::Large => "16x16",
        }
    }

    /// Rows of a thread's block, divided by four.
    pub fn row_quads(self) -> u32 {
        match self {
            Block::Small => 1,
            Block::Large => 4,
        }
    }

    /// Outputs of a thread's block, divided by four.
    pub fn out_vec4s(self) -> u32 {
        match self {
            Block::Small => 2,
            Block::Large => 4,
        }
    }
}

/// The limits of a device that a plan must keep to, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub binding: u64,
    pub buffer: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub u32);

/// An activation: `[N, H, W, C]`, C padded to vec4s.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    pub id: TensorId,
    pub shape: Shape,
    pub elem: Elem,
}

impl Tensor {
    pub fn bytes(&self) -> u64 {
        self.shape.vec4s() * self.elem.bytes()
    }

    /// A view of the same rows as another image or sequence.
    pub fn viewed(self, shape: Shape) -> Tensor {
        assert!(shape.vec4s() == self.shape.vec4s(), "view of {} as {shape}", self.shape);
        Tensor { shape, ..self }
    }
}

/// What a kernel's binding holds.
#[derive(Clone, Copy, Debug)]
pub enum Binding {
    Tensor(TensorId),
    /// The blob of a handle and its size in bytes.
    Weight(Handle, u64),
    /// Nothing: the kernel's flags say that it is not read.
    Unused,
}

impl From<Tensor> for Binding {
    fn from(t: Tensor) -> Binding {
        Binding::Tensor(t.id)
    }
}

impl From<Option<Tensor>> for Binding {
    fn from(t: Option<Tensor>) -> Binding {
        t.map_or(Binding::Unused, Into::into)
    }
}

/// Work, for reports and for cutting it into submits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What the model defines: a multiply-add is two; direct convolution; unpadded sizes.
    pub model_flops: u64,
    /// What the kernel does.
    pub executed_flops: u64,
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Step {
    pub variant: VariantId,
    /// The bytes of the kernel's `Params`; its first word is the first thread in y.
    pub params: Vec<u8>,
    pub bindings: Vec<Binding>,
    /// Threads in x and y.
    pub threads: [u32; 2],
    pub cost: Cost,
}

/// Steps that are executed together: the prompt's part of a U-Net, a time step's, the rest.
#[derive(Clone, Debug)]
pub struct Section {
    pub name: &'static str,
    pub steps: Range<usize>,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub sections: Vec<Section>,
    pub tensors: Vec<Tensor>,
    pub inputs: BTreeMap<String, Tensor>,
    /// Named tensors that can be read after a run: outputs, and taps when they were asked for.
    pub outputs: BTreeMap<String, Tensor>,
    /// Sizes in bytes of the shared buffers, and which one each tensor has.
    pub buffers: Vec<u64>,
    pub assignment: Vec<usize>,
}

impl Plan {
    /// Whether a device can hold this plan at all.
    pub fn check(&self, what: &str, limits: &Limits) -> Result<()> {
        let largest = self.buffers.iter().copied().max().unwrap_or(0);
        let limit = limits.binding.min(limits.buffer);
        if largest > limit {
            return Err(Error::new(
                Code::LimitTooLow,
                format!(
                    "{what}: one tensor needs {} MiB, this device takes at most {} MiB; ask for a smaller picture \
                     or for 16-bit activations",
                    largest.div_ceil(1 << 20),
                    limit >> 20
                ),
            ));
        }
        Ok(())
    }

    pub fn section(&self, name: &str) -> Range<usize> {
        let found = self.sections.iter().find(|s| s.name == name);
        found.unwrap_or_else(|| panic!("the plan has no section {name}")).steps.clone()
    }

    /// Executed FLOPs of a section; 0 if the plan has none of this name.
    pub fn work(&self, name: &str) -> f64 {
        let steps =
            self.sections.iter().filter(|s| s.name == name).flat_map(|s| &self.steps[s.steps.clone()]);
        steps.map(|step| step.cost.executed_flops as f64).sum()
    }

    /// An output, or an input.
    pub fn named(&self, name: &str) -> &Tensor {
        let found = self.outputs.get(name).or_else(|| self.inputs.get(name));
        found.unwrap_or_else(|| panic!("the plan has no output {name}"))
    }

    /// Halves that the kernels of a section look at for what is wrong with them; 0 if the plan has no such section.
    pub fn watched_halves(&self, section: &str) -> u64 {
        let Some(watch) = self.inputs.get(WATCH) else { return 0 };
        let steps =
            self.sections.iter().filter(|s| s.name == section).flat_map(|s| &self.steps[s.steps.clone()]);
        let watched = steps.filter(|s| tensors_of(s, Access::ReadWrite).any(|t| t == watch.id));
        let read = watched.flat_map(|s| tensors_of(s, Access::Read)).map(|id| self.tensors[id.0 as usize]);
        read.filter(|t| t.elem != Elem::F32).map(|t| t.shape.vec4s() * 4).sum()
    }

    /// Bytes that a step reads and writes.
    pub fn bytes_moved(&self, step: &Step) -> u64 {
        let bytes = |b: &Binding| match b {
            Binding::Tensor(id) => self.tensors[id.0 as usize].bytes(),
            Binding::Weight(_, bytes) => *bytes,
            Binding::Unused => 0,
        };
        step.bindings.iter().map(bytes).sum()
    }
}

/// Records a plan, step by step.
pub struct Recorder {
    pub target: Target,
    steps: Vec<Step>,
    sections: Vec<(&'static str, usize)>,
    tensors: Vec<Tensor>,
    inputs: BTreeMap<String, Tensor>,
    outputs: BTreeMap<String, Tensor>,
}

impl Recorder {
    pub fn new(target: &Target) -> Recorder {
        Recorder {
            target: target.clone(),
            steps: vec![],
            sections: vec![],
            tensors: vec![],
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
        }
    }

    /// What follows belongs to this section.
    pub fn section(&mut self, name: &'static str) {
        self.sections.push((name, self.steps.len()));
    }

    /// A tensor that the caller writes before a run.
    pub fn input(&mut self, name: &str, shape: Shape, elem: Elem) -> Tensor {
        let t = self.tensor_of(shape, elem);
        assert!(self.inputs.insert(name.to_owned(), t).is_none(), "two inputs {name}");
        t
    }

    /// What kernels count wrong values in. An input, since the caller sets it to zero.
    pub fn watch(&mut self) -> Tensor {
        match self.inputs.get(WATCH) {
            Some(watch) => *watch,
            None => self.input(WATCH, Shape::new(1, 1, 1, 4), Elem::F32),
        }
    }

    /// A tensor that the caller reads after a run.
    pub fn output(&mut self, name: &str, t: Tensor) {
        assert!(self.outputs.insert(name.to_owned(), t).is_none(), "two outputs {name}");
    }

    /// The output of the module at `path`, kept when the target asks for taps.
    pub fn tap(&mut self, path: &str, t: Tensor) -> Tensor {
        if self.target.taps {
            self.output(path, t);
        }
        t
    }

    /// A new activation in the target's storage.
    pub fn tensor(&mut self, shape: Shape) -> Tensor {
        self.tensor_of(shape, self.target.elem)
    }

    pub fn tensor_of(&mut self, shape: Shape, elem: Elem) -> Tensor {
        let t = Tensor { id: TensorId(self.tensors.len() as u32), shape, elem };
        self.tensors.push(t);
        t
    }

    pub fn step(&mut self, step: Step) {
        let v = step.variant.get();
        assert!(step.bindings.len() == v.bindings.len(), "{} takes {} bindings", v.kernel, v.bindings.len());
        assert!(step.params.len() == v.params_size, "{}: Params of {} bytes", v.kernel, v.params_size);
        // WebGPU forbids a buffer that is read and written in one dispatch.
        let written: BTreeSet<TensorId> = tensors_of(&step, Access::ReadWrite).collect();
        assert!(
            tensors_of(&step, Access::Read).all(|t| !written.contains(&t)),
            "{} writes an input",
            v.kernel
        );
        self.steps.push(step);
    }

    pub fn finish(self) -> Plan {
        let ends = self.sections.iter().skip(1).map(|s| s.1).chain([self.steps.len()]);
        let sections: Vec<Section> = self
            .sections
            .iter()
            .zip(ends)
            .map(|(&(name, start), end)| Section { name, steps: start..end })
            .collect();
        let kept = self.inputs.values().chain(self.outputs.values()).map(|t| t.id).collect();
        let (buffers, assignment) = memory::share(&self.tensors, &self.steps, &sections, &kept);
        Plan {
            steps: self.steps,
            sections,
            tensors: self.tensors,
            inputs: self.inputs,
            outputs: self.outputs,
            buffers,
            assignment,
        }
    }
}

fn tensors_of(step: &Step, access: Access) -> impl Iterator<Item = TensorId> {
    step.bindings.iter().zip(step.variant.get().bindings).filter_map(move |(b, a)| match b {
        Binding::Tensor(id) if *a == access => Some(*id),
        _ => None,
    })
}
