//! A whole plan, its operations one after the other by their twins.

use std::collections::HashMap;

use tintype::plan::ops::{self, NormKind, Op};
use tintype::plan::{Plan, Step, Tensor, TensorId};
use tintype::weights::{Declarations, Handle, Layout, Weight};

use super::{
    Attention, Coefficients, Conv, activate, add, attention_of, beside, columns, conv, copy, epilogue, gate,
    gated, gated_halves, group_conv, grow, head_norm, image, join, layer_norm, linear_attention, matmul,
    mean, modulate, multiply_add, norm_apply, norm_scale, patchify, rms_norm, scale, shrink, slice, step,
    turn, unpatchify,
};

/// The values of every tensor, unpadded, and the blobs that operations read.
pub struct Interpreter<'a> {
    pub values: HashMap<TensorId, Vec<f64>>,
    pub declarations: &'a Declarations,
    pub blobs: &'a HashMap<Handle, Vec<u8>>,
}

impl Interpreter<'_> {
    /// Every section of the plan, in order, from inputs that are among the values.
    pub fn run(&mut self, plan: &Plan) {
        for Step { op, y } in &plan.steps {
            let values = self.compute(op, *y);
            let count = match op {
                // RGBA of every pixel.
                Op::Image(_) => y.shape.c * 4,
                _ => y.shape.rows() * y.shape.c,
            };
            assert_eq!(values.len(), count as usize, "{} to {}", op.name(), y.shape);
            self.values.insert(y.id, values);
        }
    }

    fn of(&self, t: Tensor) -> &[f64] {
        &self.values[&t.id]
    }

    fn two(&self, x: Tensor, x2: Option<Tensor>) -> Vec<f64> {
        let first = self.of(x);
        x2.map_or(first.to_vec(), |x2| beside(first, x.shape.c as usize, self.of(x2), x2.shape.c as usize))
    }

    fn compute(&mut self, op: &Op, y: Tensor) -> Vec<f64> {
        let images = y.shape.n as usize;
        match op {
            Op::Add(op) => {
                let slots = op.scales.shape.w as usize;
                let scales = self.of(op.scales);
                let k: Vec<f64> = (0..images).map(|n| scales[(n * slots + op.slot as usize) * 4]).collect();
                add(&k, self.of(op.a), self.of(op.b))
            }
            Op::Attention(op) => {
                // Heads are padded with zeros, which change no product.
                let width = |heads: u32| (heads * op.padded) as usize;
                let head = |(t, at): (Tensor, u32), heads| {
                    columns(self.of(t), t.shape.c as usize, at as usize, width(heads))
                };
                let others = op.heads / op.shared;
                let (queries, each) = (op.q.0.shape.pixels() as usize, |t: Tensor| t.shape.c as usize);
                let bias = |n: usize, h: usize, t: usize, s: usize| {
                    let of_key = op.keys().map_or(0.0, |b| self.of(b)[n * each(b) + s]);
                    let of_distance = |b| self.of(b)[h * each(b) + s + queries - 1 - t];
                    of_key + op.distances().map_or(0.0, of_distance)
                };
                attention_of(&Attention {
                    q: &head(op.q, op.heads),
                    k: &head(op.k, others),
                    v: &head(op.v, others),
                    images,
                    heads: op.heads as usize,
                    size: op.padded as usize,
                    causal: op.causal,
                    scale: f64::from(op.scale),
                    shared: op.shared as usize,
                    cap: op.cap.map(f64::from),
                    bias: &bias,
                })
            }
            Op::Conv(op) => {
                let (weight, bias) = self.matrix(op.weight, op.inputs as usize, op.outputs as usize);
                let x = self.two(op.x, op.x2);
                let (h, w) = (op.x.shape.h as usize, op.x.shape.w as usize);
                let made = conv(&Conv {
                    x: &x,
                    size: [images, h, w],
                    weight: &weight,
                    bias: &bias,
                    kernel: op.kernel() as usize,
                    stride: op.stride as usize,
                    pad: (op.pad.0 as usize, op.pad.1 as usize),
                    upsample: op.upsample.map(|(h, w)| (h as usize, w as usize)),
                });
                self.finish(&op.epilogue, made, y)
            }
            Op::CopyTensor(op) => copy(self.of(op.x)),
            Op::GroupNorm(op) => {
                let x = self.two(op.x, op.x2);
                let (weight, bias) = self.vectors(op.weight, y.shape.c as usize);
                let groups = op.groups as usize;
                let (scale, shift) = norm_scale(&x, images, groups, &weight, &bias, f64::from(op.epsilon));
                norm_apply(&x, images, &scale, &shift, op.activation)
            }
            Op::GroupConv(op) => {
                // The blob has the outputs of a tap side by side.
                let (channels, depth) = (op.x.shape.c as usize, op.depth() as usize);
                let held = self.floats(op.weight);
                let weight: Vec<f64> =
                    (0..channels * depth).map(|i| held[i % depth * channels + i / depth]).collect();
                let bias = op.biased.then(|| &held[depth * channels..]);
                let s = op.x.shape;
                let size = [s.n, s.h, s.w].map(|n| n as usize);
                let group = [op.inputs, op.kernel].map(|n| n as usize);
                let made = group_conv(self.of(op.x), size, &weight, bias, group);
                let made = if op.gated { gated_halves(&made, channels / 2) } else { made };
                made.into_iter().map(|v| activate(op.activation, v)).collect()
            }
            Op::LinearAttention(op) => {
                let (heads, size) = (op.heads as usize, op.size as usize);
                let of = |(t, at): (Tensor, u32)| -> Vec<f64> {
                    let head = |h: usize| at as usize + h * op.each as usize;
                    let row = |row: &[f64]| -> Vec<f64> {
                        (0..heads).flat_map(|h| row[head(h)..][..size].to_vec()).collect()
                    };
                    self.of(t).chunks(t.shape.c as usize).flat_map(row).collect()
                };
                let [q, k, v] = [op.q, op.k, op.v].map(of);
                linear_attention([&q, &k, &v], [images, y.shape.pixels() as usize, heads, size])
            }
            Op::Shortcut(op) => {
                let s = op.x.shape;
                let make = if op.back { grow } else { shrink };
                let sizes = [s.n, s.h, s.w, s.c].map(|n| n as usize);
                make(self.of(op.x), sizes, op.size as usize, y.shape.c as usize)
            }
            Op::Image(op) => image(self.of(op.x)).into_iter().map(f64::from).collect(),
            Op::Join(op) => join(images, self.of(op.a), self.of(op.b)),
            Op::LayerNorm(op) => {
                let (channels, epsilon) = (y.shape.c as usize, f64::from(op.epsilon));
                let normal = match op.kind {
                    NormKind::Rms(weight) => rms_norm(self.of(op.x), &self.floats(weight), epsilon),
                    NormKind::RmsBias(weight) => {
                        let (weight, bias) = self.vectors(weight, channels);
                        let normal = rms_norm(self.of(op.x), &weight, epsilon);
                        (0..normal.len()).map(|i| normal[i] + bias[i % channels]).collect()
                    }
                    NormKind::Layer(Some(weight)) => {
                        let (weight, bias) = self.vectors(weight, channels);
                        layer_norm(self.of(op.x), &weight, &bias, epsilon)
                    }
                    NormKind::Layer(None) => {
                        layer_norm(self.of(op.x), &vec![1.0; channels], &vec![0.0; channels], epsilon)
                    }
                };
                let modulated = op.modulation.map_or(normal.clone(), |m| {
                    let vector = |at: u32| {
                        columns(self.of(m.vectors), m.vectors.shape.c as usize, at as usize, channels)
                    };
                    let shift = m.shift.map(vector);
                    modulate(&normal, images, &vector(m.scale), shift.as_deref(), m.gate)
                });
                epilogue(&modulated, images, channels, None, op.residual.map(|t| self.of(t)), op.activation)
            }
            Op::HeadNorm(op) => {
                let (heads, size) = ((op.sets * op.heads) as usize, op.size as usize);
                let ((x, at), tokens) = (op.x, y.shape.pixels() as usize);
                let mut values = columns(self.of(x), x.shape.c as usize, at as usize, heads * size);
                if let Some(norm) = op.norm {
                    let split = norm.split.map_or(usize::MAX, |at| at as usize);
                    let sizes = [tokens, op.sets as usize, op.heads as usize, size];
                    let weight = self.floats(norm.weight);
                    values = head_norm(&values, sizes, &weight, split, f64::from(norm.epsilon));
                }
                if let Some(rotary) = op.rotary {
                    let pairs: Vec<_> =
                        self.of(rotary.table).as_chunks().0.iter().map(|&[c, s]| (c, s)).collect();
                    values = turn(&values, heads, size, &pairs, rotary.neighbours);
                }
                values
            }
            Op::Patchify(op) => {
                let s = op.x.shape;
                let (sizes, size) = ([s.n, s.h, s.w, s.c].map(|n| n as usize), op.size as usize);
                match op.back {
                    false => patchify(self.of(op.x), sizes, size),
                    true => unpatchify(self.of(op.x), sizes, size),
                }
            }
            Op::Slice(op) => {
                let (channels, count) = (y.shape.c as usize, y.shape.pixels() as usize);
                slice(self.of(op.x), images, channels, op.from as usize, count)
            }
            Op::Matmul(op) => {
                let (x, inputs) = (self.two(op.x, op.x2), op.x.shape.c + op.x2.map_or(0, |t| t.shape.c));
                let outputs = op.outputs as usize;
                let (weight, bias) = self.matrix(op.weight, inputs as usize, outputs);
                if let Some(activation) = op.gate {
                    // Values and gates alternate by four in the blob.
                    let apart = |from: &[f64], each: usize| -> Vec<f64> {
                        let rows: Vec<&[f64]> = from.chunks(each).collect();
                        let half =
                            |at: usize| rows.chunks(8).flat_map(move |eight| eight[at..at + 4].concat());
                        half(0).chain(half(4)).collect()
                    };
                    let made = matmul(&x, &apart(&weight, inputs as usize), &apart(&bias, 1));
                    return gated(&made, outputs / 2, activation);
                }
                let made = matmul(&x, &weight, &bias);
                self.finish(&op.epilogue, made, y)
            }
            Op::Mean(op) => {
                let s = op.x.shape;
                mean(self.of(op.x), [s.n, s.h, s.w, s.c].map(|n| n as usize))
            }
            Op::MultiplyAdd(op) => multiply_add(self.of(op.x)),
            Op::Scale(op) => {
                let k = self.of(op.coefficients);
                scale(self.of(op.x), k[0], k[1], images / op.x.shape.n as usize, op.activation)
            }
            Op::Step(op) => {
                let k = self.of(op.coefficients);
                let k = Coefficients {
                    a: k[0],
                    b: k[1],
                    clip: k[2],
                    guidance: k[3],
                    c: k[4],
                    d: k[5],
                    e: k[6],
                    f: k[7],
                    before: [k[8], k[9], k[10]],
                    remembers: k[11] != 0.0,
                };
                let [model, noise, sample] = [op.model, op.noise, op.sample].map(|t| self.of(t));
                let (next, predictions) = step(k, model, noise, sample, self.of(y));
                self.values.insert(op.sample.id, next);
                predictions
            }
        }
    }

    fn finish(&self, e: &ops::Epilogue, made: Vec<f64>, y: Tensor) -> Vec<f64> {
        let (images, channels) = (y.shape.n as usize, y.shape.c as usize);
        let added = e.add.map(|(t, at)| columns(self.of(t), t.shape.c as usize, at as usize, channels));
        let gates = e.gate.map(|(t, at)| columns(self.of(t), t.shape.c as usize, at as usize, channels));
        let made = gates.map_or(made.clone(), |gates| gate(&made, images, channels, &gates));
        let residual = e.residual.map(|t| self.of(t));
        epilogue(&made, images, channels, added.as_deref(), residual, e.activation)
    }

    /// `[outputs, inputs, taps]` and the bias, without what pads them.
    fn matrix(&self, weight: Weight, inputs: usize, outputs: usize) -> (Vec<f64>, Vec<f64>) {
        let (m, blob) = (weight.matrix, &self.blobs[&weight.handle]);
        let (held, taps, padded) = (m.dequantise(blob), m.taps as usize, m.inputs as usize);
        let at = |o: usize, i: usize, t: usize| f64::from(held[(o * taps + t) * padded + i]);
        let values =
            (0..outputs).flat_map(|o| (0..inputs).flat_map(move |i| (0..taps).map(move |t| (o, i, t))));
        let bias = m.bias(blob)[..outputs].iter().map(|&v| f64::from(v)).collect();
        (values.map(|(o, i, t)| at(o, i, t)).collect(), bias)
    }

    /// Weight and bias of a norm.
    fn vectors(&self, handle: Handle, channels: usize) -> (Vec<f64>, Vec<f64>) {
        let values = self.floats(handle);
        (values[..channels].to_vec(), values[values.len() / 2..][..channels].to_vec())
    }

    /// Everything in a blob of vectors.
    fn floats(&self, handle: Handle) -> Vec<f64> {
        let Layout::Vectors { .. } = self.declarations.specs[handle.0 as usize].layout else {
            panic!("{handle:?} is no norm's");
        };
        self.blobs[&handle].as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
    }
}
