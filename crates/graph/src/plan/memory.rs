//! Which tensors share a buffer: whole buffers by lifetime, the largest tensors first.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use super::{Plan, Tensor, TensorId};

/// Buffers that tensors share.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    /// In bytes.
    pub sizes: Vec<u64>,
    /// The buffer of each tensor.
    pub assignment: Vec<usize>,
}

impl Buffers {
    /// Of a plan whose steps are executed as they are.
    pub fn of(plan: &Plan) -> Buffers {
        Uses {
            tensors: &plan.tensors,
            order: &|t| t,
            steps: plan
                .steps
                .iter()
                .map(|step| {
                    let counters = step.op.watch().map(|(counters, _)| counters);
                    step.tensors().into_iter().chain(counters).map(|t| t.id).collect()
                })
                .collect(),
            sections: plan.sections.iter().map(|s| s.steps.clone()).collect(),
            kept: plan.kept().collect(),
        }
        .share()
    }

    pub fn at(&self, tensor: TensorId) -> usize {
        self.assignment[tensor.0 as usize]
    }
}

/// Who uses what, and when.
pub struct Uses<'a> {
    pub tensors: &'a [Tensor],
    /// Of tensors of one size the one with the least is placed first.
    pub order: &'a dyn Fn(usize) -> usize,
    /// The tensors of each step.
    pub steps: Vec<Vec<TensorId>>,
    pub sections: Vec<Range<usize>>,
    /// Tensors that share with nobody, like those that are used by more than one section.
    pub kept: BTreeSet<TensorId>,
}

impl Uses<'_> {
    pub fn share(&self) -> Buffers {
        let tensors = self.tensors;
        let lives = self.lifetimes();
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&t| (std::cmp::Reverse(tensors[t].bytes()), (self.order)(t)));
        let mut sizes: Vec<u64> = vec![];
        let mut owners: Vec<Vec<RangeInclusive<usize>>> = vec![];
        let mut assignment = vec![0; tensors.len()];
        for t in order {
            // Sizes fall, so every buffer is large enough: the last that is free is the tightest.
            let free = (0..sizes.len()).rev().find(|&b| owners[b].iter().all(|o| !overlap(o, &lives[t])));
            let buffer = free.unwrap_or_else(|| {
                sizes.push(tensors[t].bytes().max(16));
                owners.push(vec![]);
                sizes.len() - 1
            });
            owners[buffer].push(lives[t].clone());
            assignment[t] = buffer;
        }
        Buffers { sizes, assignment }
    }

    /// From the first step that uses a tensor to the last, both included: a step's inputs and outputs overlap.
    fn lifetimes(&self) -> Vec<RangeInclusive<usize>> {
        let forever = 0..=usize::MAX;
        let count = self.tensors.len();
        let mut lives: Vec<Option<RangeInclusive<usize>>> = vec![None; count];
        let mut section = vec![usize::MAX; count];
        for (s, range) in self.sections.iter().enumerate() {
            for i in range.clone() {
                for &TensorId(t) in &self.steps[i] {
                    let t = t as usize;
                    lives[t] = Some(match &lives[t] {
                        None => i..=i,
                        Some(_) if section[t] != s => forever.clone(),
                        Some(life) => *life.start()..=i.max(*life.end()),
                    });
                    section[t] = s;
                }
            }
        }
        let life = |(t, life): (usize, Option<RangeInclusive<usize>>)| {
            let kept = self.kept.contains(&TensorId(t as u32));
            life.filter(|_| !kept).unwrap_or(forever.clone())
        };
        lives.into_iter().enumerate().map(life).collect()
    }
}

fn overlap(a: &RangeInclusive<usize>, b: &RangeInclusive<usize>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}
