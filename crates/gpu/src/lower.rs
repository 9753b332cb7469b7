//! From the operations of a plan to the dispatches of a GPU: which kernel for which shape, its parameters, workspace, and
//! the buffers that all tensors share.

mod attention;
mod conv;
mod elementwise;
mod group_norm;
mod linear_attention;
mod matmul;
mod winograd;

use bytemuck::NoUninit;

use super::program::{Binding, Dispatch, Program};
use super::tuning::Tuning;
use crate::kernels::{Access, VariantId, find};
use crate::plan::ops::{Epilogue, Op};
use crate::plan::{Cost, Plan, Step, Tensor, TensorId, Uses};
use crate::shape::{Elem, Shape};
use tintype_weights::Weight;

/// Flags of kernels, as their WGSL has them.
const ADD: u32 = 1;
const RESIDUAL: u32 = 2;
const GATED: u32 = 4;
const GATE: u32 = 8;
const CAUSAL: u32 = 1;
const KEYS_BIAS: u32 = 2;
const DISTANCES_BIAS: u32 = 4;
const GUIDED: u32 = 1;

/// An operation that a GPU computes.
trait Lower {
    /// The dispatches that write `y`.
    fn lower(&self, l: &mut Lowering, y: Tensor);
}

/// The kernels that a plan runs, one for each dispatch.
pub fn variants(plan: &Plan, tuning: &Tuning) -> impl Iterator<Item = VariantId> {
    Lowering::of(plan, tuning).0.dispatches.into_iter().map(|dispatch| dispatch.variant)
}

pub fn lower(plan: Plan, tuning: &Tuning) -> Program {
    let (Lowering { tensors, order, dispatches, .. }, starts) = Lowering::of(&plan, tuning);
    let of = |steps: std::ops::Range<usize>| starts[steps.start]..starts[steps.end];
    let uses = Uses {
        tensors: &tensors,
        order: &|t| order[t],
        steps: dispatches.iter().map(|d| tensors_of(d).collect()).collect(),
        sections: plan.sections.iter().map(|s| of(s.steps.clone())).collect(),
        kept: plan.kept().collect(),
    };
    let buffers = uses.share();
    Program { plan, dispatches, starts, tensors, buffers }
}

fn of(op: &Op) -> &dyn Lower {
    match op {
        Op::Add(op) => op,
        Op::Attention(op) => op,
        Op::Conv(op) => op,
        Op::CopyTensor(op) => op,
        Op::GroupConv(op) => op,
        Op::GroupNorm(op) => op,
        Op::HeadNorm(op) => op,
        Op::Image(op) => op,
        Op::Join(op) => op,
        Op::LayerNorm(op) => op,
        Op::LinearAttention(op) => op,
        Op::Matmul(op) => op,
        Op::Mean(op) => op,
        Op::MultiplyAdd(op) => op,
        Op::Patchify(op) => op,
        Op::Scale(op) => op,
        Op::Shortcut(op) => op,
        Op::Slice(op) => op,
        Op::Step(op) => op,
    }
}

fn tensors_of(dispatch: &Dispatch) -> impl Iterator<Item = TensorId> {
    dispatch.bindings.iter().filter_map(|b| match b {
        Binding::Tensor(id) => Some(*id),
        _ => None,
    })
}

/// A program in the making.
struct Lowering<'a> {
    tuning: &'a Tuning,
    tensors: Vec<Tensor>,
    order: Vec<usize>,
    dispatches: Vec<Dispatch>,
    /// Where the workspace of the step at hand stands among the tensors.
    step: usize,
}

impl<'a> Lowering<'a> {
    /// All dispatches of a plan, and where those of each step begin.
    fn of(plan: &Plan, tuning: &'a Tuning) -> (Lowering<'a>, Vec<usize>) {
        // The plan's tensors are in the order in which they were recorded, workspace stands before the output that it is for.
        let order = (0..plan.tensors.len()).map(|t| 2 * t + 1).collect();
        let mut l = Lowering { tuning, tensors: plan.tensors.clone(), order, dispatches: vec![], step: 0 };
        let mut starts = vec![];
        for Step { op, y } in &plan.steps {
            starts.push(l.dispatches.len());
            l.step = 2 * y.id.0 as usize;
            of(op).lower(&mut l, *y);
        }
        starts.push(l.dispatches.len());
        (l, starts)
    }

    /// A tensor of f32 that lives within one step.
    fn workspace(&mut self, shape: Shape) -> Tensor {
        let t = Tensor { id: TensorId(self.tensors.len() as u32), shape, elem: Elem::F32 };
        self.tensors.push(t);
        self.order.push(self.step);
        t
    }

    /// Adds a dispatch of the variant `name` of a kernel.
    fn dispatch(
        &mut self,
        (kernel, name): (&str, &str),
        params: &impl NoUninit,
        bindings: Vec<Binding>,
        threads: [u32; 2],
        cost: Cost,
    ) {
        self.dispatch_of(find(kernel, name), params, bindings, threads, cost);
    }

    fn dispatch_of(
        &mut self,
        variant: VariantId,
        params: &impl NoUninit,
        bindings: Vec<Binding>,
        threads: [u32; 2],
        cost: Cost,
    ) {
        let (v, params) = (variant.get(), bytemuck::bytes_of(params).to_vec());
        assert!(bindings.len() == v.bindings.len(), "{} takes {} bindings", v.kernel, v.bindings.len());
        assert!(params.len() == v.params_size, "{}: Params of {} bytes", v.kernel, v.params_size);
        let unused =
            |(b, access): (&Binding, &Access)| matches!(b, Binding::Unused) && *access != Access::Read;
        assert!(!bindings.iter().zip(v.bindings).any(unused), "{} has an output that is unused", v.kernel);
        let bytes_moved = bindings.iter().map(|b| self.bytes(b)).sum();
        self.dispatches.push(Dispatch { variant, params, bindings, threads, cost, bytes_moved });
    }

    /// Says what the dispatch just added reads and writes, where that is not all that is bound.
    fn moves(&mut self, bytes: u64) {
        self.dispatches.last_mut().expect("a dispatch").bytes_moved = bytes;
    }

    fn bytes(&self, b: &Binding) -> u64 {
        match b {
            Binding::Tensor(id) => self.tensors[id.0 as usize].bytes(),
            Binding::Weight(_, bytes) => *bytes,
            Binding::Unused => 0,
        }
    }
}

/// A flag, where something is so.
fn flag(is: bool, flag: u32) -> u32 {
    if is { flag } else { 0 }
}

/// The flags of an epilogue.
fn flags(e: &Epilogue) -> u32 {
    flag(e.add.is_some(), ADD) | flag(e.gate.is_some(), GATE) | flag(e.residual.is_some(), RESIDUAL)
}

/// Where the vectors of an epilogue begin and how far apart they are, in vec4s.
fn add_layout(e: &Epilogue) -> (u32, u32) {
    e.vector().map_or((0, 0), |(t, at)| (at / 4, t.shape.c4()))
}

/// The bindings of a product, as its kernels have them.
fn bindings(x: Tensor, x2: Option<Tensor>, weight: Weight, e: &Epilogue, y: Tensor) -> Vec<Binding> {
    let blob = Binding::Weight(weight.handle, weight.matrix.bytes() as u64);
    vec![x.into(), x2.into(), blob, e.vector().map(|(t, _)| t).into(), e.residual.into(), y.into()]
}
