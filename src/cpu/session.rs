//! A plan's buffers on the CPU, and the loop over its steps.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use tintype_cpu::Scratch;

use super::Weights;
use super::lower::{self, Operands};
use crate::error::Result;
use crate::host::{Cancel, breathe, now};
use crate::plan::{Binding, Faults, Plan, Step, Tensor, WATCH};

/// Seconds between two looks at what has come in: a cancel, for one.
const BREATH: f64 = 0.02;

pub struct Session {
    pub plan: Plan,
    /// Four floats for every 16 bytes of the plan's buffers.
    buffers: RefCell<Vec<Vec<f32>>>,
    weights: Rc<Weights>,
    scratch: RefCell<Scratch>,
}

impl Session {
    /// The plan must be recorded for f32 activations.
    pub fn new(plan: Plan, weights: Rc<Weights>) -> Session {
        let buffers = plan.buffers.iter().map(|bytes| vec![0.0; bytes.div_ceil(4) as usize]).collect();
        Session { plan, buffers: RefCell::new(buffers), weights, scratch: RefCell::default() }
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
        let work = |s: &Step| (s.cost.executed_flops + self.plan.bytes_moved(s)) as f64;
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
        let at = |i: usize| match step.bindings[i] {
            Binding::Tensor(id) => Some(self.plan.assignment[id.0 as usize]),
            _ => None,
        };
        let last = step.bindings.len() - 1;
        // Nothing is read and written in one step, so what is written can be taken out meanwhile; but for the sample of
        // a schedule's step.
        let written = at(last).expect("every kernel's last binding is a tensor that it writes");
        let mut y = std::mem::take(&mut buffers[written]);
        let kernel = step.variant.get().kernel;
        if kernel == "step" {
            let sample = at(4).expect("a sample");
            let mut x = std::mem::take(&mut buffers[sample]);
            let read = [0, 1, 2].map(|i| &buffers[at(i).expect("a tensor")][..]);
            lower::step(&step.params, read, &mut x, &mut y);
            buffers[sample] = x;
            buffers[written] = y;
            self.watch(step, &mut buffers);
            return 1;
        }
        let tensor = |i: usize| match step.bindings[i] {
            Binding::Tensor(id) => &self.plan.tensors[id.0 as usize],
            _ => panic!("binding {i} of {kernel} is no tensor"),
        };
        let out = &mut y[..tensor(last).shape.vec4s() as usize * 4];
        let operands = Operands {
            read: &|i| at(i).map_or(&[][..], |b| &buffers[b][..]),
            weight: &|i| match step.bindings[i] {
                Binding::Weight(handle, _) => handle,
                _ => panic!("binding {i} of {kernel} is no weight"),
            },
            weights: &self.weights,
        };
        let pieces = lower::run(step, piece, &operands, out, &mut self.scratch.borrow_mut());
        // Statistics are finite where every value is.
        let suspect = kernel == "image" || kernel == "norm_stats" && !out.iter().all(|v| v.is_finite());
        buffers[written] = y;
        if suspect {
            self.watch(step, &mut buffers);
        }
        pieces
    }

    /// Counts what is wrong with the values that a step has read.
    fn watch(&self, step: &Step, buffers: &mut [Vec<f32>]) {
        let (inputs, watch): (&[usize], usize) = match step.variant.get().kernel {
            "norm_stats" => (&[0, 1], 2),
            "image" => (&[0], 1),
            "step" => (&[1], 3),
            other => panic!("the kernel {other} watches nothing"),
        };
        let tensor = |i: usize| match step.bindings[i] {
            Binding::Tensor(id) => Some(&self.plan.tensors[id.0 as usize]),
            _ => None,
        };
        let values = |t: &Tensor| &buffers[self.buffer(t)][..t.shape.vec4s() as usize * 4];
        let faults = inputs.iter().filter_map(|&i| tensor(i)).map(|t| Faults::of(values(t), false));
        let found = faults.fold(Faults::default(), Faults::and).not_finite;
        let counter = &mut buffers[self.buffer(tensor(watch).expect("counters"))][0];
        *counter = f32::from_bits(counter.to_bits().saturating_add(found));
    }

    fn buffer(&self, tensor: &Tensor) -> usize {
        self.plan.assignment[tensor.id.0 as usize]
    }
}
