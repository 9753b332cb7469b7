//! Which tensors share a buffer: whole buffers by lifetime, the largest tensors first.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Binding, Section, Step, Tensor, TensorId};

/// Returns the buffers' sizes in bytes and each tensor's buffer. Tensors in `kept`, and those that are
/// used by more than one section, share with nobody.
pub fn share(
    tensors: &[Tensor],
    steps: &[Step],
    sections: &[Section],
    kept: &BTreeSet<TensorId>,
) -> (Vec<u64>, Vec<usize>) {
    let lives = lifetimes(tensors.len(), steps, sections, kept);
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&t| std::cmp::Reverse(tensors[t].bytes()));
    let mut buffers: Vec<u64> = vec![];
    let mut owners: Vec<Vec<RangeInclusive<usize>>> = vec![];
    let mut assignment = vec![0; tensors.len()];
    for t in order {
        // Sizes fall, so every buffer is large enough: the last that is free is the tightest.
        let free = (0..buffers.len()).rev().find(|&b| owners[b].iter().all(|o| !overlap(o, &lives[t])));
        let buffer = free.unwrap_or_else(|| {
            buffers.push(tensors[t].bytes().max(16));
            owners.push(vec![]);
            buffers.len() - 1
        });
        owners[buffer].push(lives[t].clone());
        assignment[t] = buffer;
    }
    (buffers, assignment)
}

/// From the first step that uses a tensor to the last, both included: a step's inputs and outputs overlap.
fn lifetimes(
    count: usize,
    steps: &[Step],
    sections: &[Section],
    kept: &BTreeSet<TensorId>,
) -> Vec<RangeInclusive<usize>> {
    let forever = 0..=usize::MAX;
    let mut lives: Vec<Option<RangeInclusive<usize>>> = vec![None; count];
    let mut section = vec![usize::MAX; count];
    for (s, range) in sections.iter().enumerate() {
        for i in range.steps.clone() {
            for binding in &steps[i].bindings {
                let Binding::Tensor(TensorId(t)) = *binding else { continue };
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
        if kept.contains(&TensorId(t as u32)) { forever.clone() } else { life.unwrap_or(forever.clone()) }
    };
    lives.into_iter().enumerate().map(life).collect()
}

fn overlap(a: &RangeInclusive<usize>, b: &RangeInclusive<usize>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}
