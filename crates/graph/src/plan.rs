//! A plan is plain data: which operations run, on which tensors. Recording one touches no device and cannot fail; which
//! kernels, loops and buffers compute it is said where a device lowers it (`gpu/lower.rs`, `cpu/lower.rs`).

mod memory;
pub mod ops;
mod watch;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::{Code, Error, Result};
use crate::shape::{Elem, Shape};
use ops::Op;

pub use memory::{Buffers, Uses};
pub use watch::{Faults, WATCH};

/// What a plan is recorded for.
#[derive(Clone, Debug)]
pub struct Target {
    /// How activations are stored.
    pub elem: Elem,
    /// Keep the output of every named module, for comparison with the reference.
    pub taps: bool,
}

impl Target {
    /// Without taps.
    pub fn new(elem: Elem) -> Target {
        Target { elem, taps: false }
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

/// Work, for reports and for cutting it into submits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What the model defines: a multiply-add is two; direct convolution; unpadded sizes.
    pub model_flops: u64,
    /// What the kernel does.
    pub executed_flops: u64,
}

/// An operation of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub op: Op,
    /// What it writes.
    pub y: Tensor,
}

impl Step {
    pub fn cost(&self) -> Cost {
        self.op.cost(self.y)
    }

    /// Bytes that it reads and writes.
    pub fn bytes_moved(&self) -> u64 {
        let weight = self.op.weight().map_or(0, |(_, bytes)| bytes);
        weight + self.tensors().iter().map(Tensor::bytes).sum::<u64>()
    }

    /// What it reads, changes and writes.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut all = self.op.reads();
        all.extend(self.op.changes());
        all.push(self.y);
        all
    }
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
}

impl Plan {
    /// Whether a device can hold this plan at all.
    pub fn check(&self, what: &str, limits: &Limits) -> Result<()> {
        let largest = self.tensors.iter().map(Tensor::bytes).max().unwrap_or(0);
        let limit = limits.binding.min(limits.buffer);
        if largest > limit {
            return Err(Error::new(
                Code::LimitTooLow,
                format!(
                    "{what}: one tensor needs {} MiB, this device takes at most {} MiB; ask for a smaller image \
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

    /// The steps of a section; none if the plan has no such section.
    fn steps_of(&self, name: &str) -> &[Step] {
        let found = self.sections.iter().find(|s| s.name == name);
        found.map_or(&[], |section| &self.steps[section.steps.clone()])
    }

    /// Executed FLOPs of a section; 0 if the plan has none of this name.
    pub fn work(&self, name: &str) -> f64 {
        self.steps_of(name).iter().map(|step| step.cost().executed_flops as f64).sum()
    }

    /// An output, or an input.
    pub fn named(&self, name: &str) -> &Tensor {
        let found = self.outputs.get(name).or_else(|| self.inputs.get(name));
        found.unwrap_or_else(|| panic!("the plan has no output {name}"))
    }

    /// Halves of a section that are looked at for what is wrong with them; 0 if the plan has no such section.
    pub fn watched_halves(&self, section: &str) -> u64 {
        let watched =
            self.steps_of(section).iter().filter_map(|step| step.op.watch()).flat_map(|(_, seen)| seen);
        watched.filter(|t| t.elem != Elem::F32).map(|t| t.shape.vec4s() * 4).sum()
    }

    /// Tensors that keep their buffer for themselves: callers write and read them when they like.
    pub fn kept(&self) -> impl Iterator<Item = TensorId> {
        self.inputs.values().chain(self.outputs.values()).map(|t| t.id)
    }
}

/// Records a plan, step by step.
#[derive(Clone)]
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

    /// Records an operation that writes `y`, and returns that.
    pub fn record(&mut self, op: impl Into<Op>, y: Tensor) -> Tensor {
        let step = Step { op: op.into(), y };
        // WebGPU forbids a buffer that is read and written in one dispatch.
        let written = [Some(y), step.op.changes()].map(|t| t.map(|t| t.id));
        assert!(
            step.op.reads().iter().all(|t| !written.contains(&Some(t.id))),
            "{} writes an input",
            step.op.name()
        );
        self.steps.push(step);
        y
    }

    pub fn finish(self) -> Plan {
        let ends = self.sections.iter().skip(1).map(|s| s.1).chain([self.steps.len()]);
        let sections = self.sections.iter().zip(ends);
        Plan {
            sections: sections.map(|(&(name, start), end)| Section { name, steps: start..end }).collect(),
            steps: self.steps,
            tensors: self.tensors,
            inputs: self.inputs,
            outputs: self.outputs,
        }
    }
}
