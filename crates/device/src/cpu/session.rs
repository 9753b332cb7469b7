//! A plan's buffers on the CPU, and the loop over its steps.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use tintype_cpu::Scratch;

use super::Weights;
use super::lower::{Lowered, Operands, run};
use crate::error::Result;
use crate::host::{Cancel, breathe, now};
use crate::plan::ops::Op;
use crate::plan::{Buffers, Faults, Plan, Step, Tensor, WATCH};

/// Seconds between two looks at what has come in: a cancel, for one.
const BREATH: f64 = 0.02;

pub struct Session {
    pub plan: Plan,
    shared: Buffers,
    /// Four floats for every 16 bytes of them.
    buffers: RefCell<Vec<Vec<f32>>>,
    weights: Rc<Weights>,
    scratch: RefCell<Scratch>,
}

impl Session {
    /// The plan must be recorded for f32 activations.
    pub fn new(plan: Plan, weights: Rc<Weights>) -> Session {
        let shared = Buffers::of(&plan);
        let buffers = shared.sizes.iter().map(|bytes| vec![0.0; bytes.div_ceil(4) as usize]).collect();
        Session { plan, shared, buffers: RefCell::new(buffers), weights, scratch: RefCell::default() }
    }

    /// Writes `[N, H, W, C]` values to an input, or over an output.
    pub fn write(&self, name: &str, values: &[f32]) {
        let tensor = self.plan.inputs.get(name).unwrap_or_else(|| self.plan.named(name));
        let buffer = &mut self.buffers.borrow_mut()[self.buffer(tensor)];
        let (c, padded) = (tensor.shape.c as usize, tensor.shape.c4() as usize * 4);
        assert!(
            values.len() == tensor.shape.rows() as usize * c,
            "{} values for {}",
            values.len(),
            tensor.shape
        );
        for (row, values) in buffer.chunks_exact_mut(padded).zip(values.chunks_exact(c)) {
            row[..c].copy_from_slice(values);
            row[c..].fill(0.0);
        }
    }

    /// Reads an output, or what has become of an input, as `[N, H, W, C]` values.
    pub fn read(&self, name: &str) -> Vec<f32> {
        let tensor = self.plan.named(name);
        let buffer = &self.buffers.borrow()[self.buffer(tensor)];
        let (c, padded) = (tensor.shape.c as usize, tensor.shape.c4() as usize * 4);
        let rows = buffer.chunks_exact(padded).take(tensor.shape.rows() as usize);
        rows.flat_map(|row| &row[..c]).copied().collect()
    }

    /// Reads the stored bytes of an output.
    pub fn read_bytes(&self, name: &str) -> Vec<u8> {
        let tensor = self.plan.named(name);
        let buffer = &self.buffers.borrow()[self.buffer(tensor)];
        bytemuck::cast_slice(buffer)[..tensor.bytes() as usize].to_vec()
    }

    /// What was wrong with the values since the counters were set to zero.
    pub fn faults(&self) -> Faults {
        let watched = self.plan.inputs.get(WATCH).map(|t| self.buffers.borrow()[self.buffer(t)][0].to_bits());
        Faults::stored([watched.unwrap_or(0), 0])
    }

    /// Runs a section. `progress` gets the fraction of its work that is done, from 0 to 1.
    pub async fn run(&self, section: &str, cancel: &Cancel, progress: &dyn Fn(f64)) -> Result<()> {
        let steps = &self.plan.steps[self.plan.section(section)];
        let work = |s: &Step| (s.cost().executed_flops + s.bytes_moved()) as f64;
        let total: f64 = steps.iter().map(work).sum();
        let (mut done, mut last) = (0.0, f64::NEG_INFINITY);
        for step in steps {
            let (mut piece, mut pieces) = (0, 1);
            while piece < pieces {
                if now() - last > BREATH {
                    breathe().await;
                    last = now();
                }
                cancel.check()?;
                pieces = self.step(step, piece);
                piece += 1;
                progress((done + work(step) * piece as f64 / pieces as f64) / total);
            }
            done += work(step);
        }
        Ok(())
    }

    /// Seconds of `repeats` executions of these steps.
    pub fn time(&self, steps: Range<usize>, repeats: usize) -> f64 {
        let begin = now();
        for _ in 0..repeats {
            for step in &self.plan.steps[steps.clone()] {
                let pieces = self.step(step, 0);
                (1..pieces).for_each(|piece| {
                    self.step(step, piece);
                });
            }
        }
        now() - begin
    }

    /// Computes one piece of a step; returns how many it has.
    fn step(&self, step: &Step, piece: usize) -> usize {
        let mut buffers = self.buffers.borrow_mut();
        // Nothing is read and written in one step, so what is written can be taken out meanwhile.
        let mut take = |t: &Tensor| std::mem::take(&mut buffers[self.buffer(t)]);
        let mut y = take(&step.y);
        let mut changed = step.op.changes().as_ref().map(take);
        let operands = Operands { buffers: &buffers, shared: &self.shared, weights: &self.weights };
        // Pixels of an image are counted by four.
        let length = step.y.shape.vec4s() as usize * 4;
        let out = (&mut y[..length], changed.as_deref_mut().unwrap_or_default());
        let Lowered { pieces, suspect } = run(step, piece, &operands, out, &mut self.scratch.borrow_mut());
        buffers[self.buffer(&step.y)] = y;
        if let Some((t, values)) = step.op.changes().zip(changed) {
            buffers[self.buffer(&t)] = values;
        }
        if suspect {
            self.watch(&step.op, &mut buffers);
        }
        pieces
    }

    /// Counts what is wrong with the values that an operation looks at.
    fn watch(&self, op: &Op, buffers: &mut [Vec<f32>]) {
        let Some((counters, seen)) = op.watch() else { return };
        let values = |t: &Tensor| &buffers[self.buffer(t)][..t.shape.vec4s() as usize * 4];
        let faults = seen.iter().map(|t| Faults::of(values(t), false));
        let found = faults.fold(Faults::default(), Faults::and).not_finite;
        let counter = &mut buffers[self.buffer(&counters)][0];
        *counter = f32::from_bits(counter.to_bits().saturating_add(found));
    }

    fn buffer(&self, tensor: &Tensor) -> usize {
        self.shared.at(tensor.id)
    }
}
