//! From the operations of a plan to the loops of `tintype-cpu`.

use tintype_cpu::attention::{Attention, Bias, Rows};
use tintype_cpu::conv::{Conv, Shape};
use tintype_cpu::group_conv::{self, GroupConv};
use tintype_cpu::heads::{self, Heads};
use tintype_cpu::linear_attention::{self, LinearAttention};
use tintype_cpu::matmul::Matmul;
use tintype_cpu::norm::{self, Groups, Inputs};
use tintype_cpu::{Dense, Epilogue, Scratch, elementwise};

use super::Weights;
use crate::plan::ops::{self, CHAINS, Op, ROUNDS};
use crate::plan::{Buffers, Plan, Step, Tensor};
use crate::weights::Handle;

/// What a step reads.
pub struct Operands<'a> {
    pub buffers: &'a [Vec<f32>],
    pub shared: &'a Buffers,
    pub weights: &'a Weights,
}

impl<'a> Operands<'a> {
    fn read(&self, t: Tensor) -> &'a [f32] {
        &self.buffers[self.shared.at(t.id)]
    }

    /// Two inputs side by side; nothing where there is no second one.
    fn two(&self, x: Tensor, x2: Option<Tensor>) -> [&'a [f32]; 2] {
        [self.read(x), x2.map_or(&[], |t| self.read(t))]
    }

    fn epilogue<'b>(&self, e: &ops::Epilogue, weight: &'b Dense, y: Tensor) -> Epilogue<'b>
    where
        'a: 'b,
    {
        Epilogue {
            bias: &weight.bias,
            vectors: e.vector().map(|(t, at)| (self.read(t), at as usize, channels(t))),
            gates: e.gate.is_some(),
            rows_per_image: y.shape.pixels() as usize,
            residual: e.residual.map(|t| self.read(t)),
            width: channels(y),
            activation: e.activation as u32,
        }
    }
}

/// How a step went.
pub struct Lowered {
    pub pieces: usize,
    /// Whether the values that it looks at may hold some that are not finite.
    pub suspect: bool,
}

const _: () = assert!(CHAINS as usize == elementwise::CHAINS);

/// Channels as they are stored.
fn channels(t: Tensor) -> usize {
    t.shape.c4() as usize * 4
}

fn values(t: Tensor) -> usize {
    t.shape.vec4s() as usize * 4
}

/// One piece of a step, into `y`, and into what is changed in place.
pub fn run(
    step: &Step,
    piece: usize,
    operands: &Operands,
    (y, changed): (&mut [f32], &mut [f32]),
    scratch: &mut Scratch,
) -> Lowered {
    let read = |t: Tensor| operands.read(t);
    let mut lowered = Lowered { pieces: 1, suspect: false };
    match &step.op {
        Op::Matmul(op) => {
            let weight = operands.weights.matrix(op.weight.handle);
            let matmul = matmul(op, operands, &weight, step.y);
            matmul.run(piece, y, scratch);
            lowered.pieces = matmul.pieces();
        }
        Op::Conv(op) => {
            let weight = operands.weights.matrix(op.weight.handle);
            let epilogue = operands.epilogue(&op.epilogue, &weight, step.y);
            let (shape, x) = (shape(op, step.y), operands.two(op.x, op.x2));
            let conv = Conv { shape, x, weight: &weight, epilogue, way: None };
            conv.run(piece, y, scratch);
            lowered.pieces = conv.pieces();
        }
        Op::Attention(op) => {
            let attention = attention(op, operands);
            attention.run(piece, y, scratch);
            lowered.pieces = attention.pieces();
        }
        Op::GroupNorm(op) => lowered.suspect = group_norm(op, operands, y, scratch),
        Op::LayerNorm(op) => {
            let affine = op.kind.weight().map(|weight| operands.weights.vectors(weight));
            let norm = norm::Rows {
                width: op.x.shape.c as usize,
                pixels: op.x.shape.pixels() as usize,
                epsilon: op.epsilon,
                rms: op.kind.is_rms(),
                affine: affine.as_deref().map(|w| &w[..]),
                biased: op.kind.has_bias(),
                modulation: op.modulation.map(|m| norm::Modulation {
                    vectors: read(m.vectors),
                    stride: channels(m.vectors),
                    scale: m.scale as usize,
                    shift: m.shift.map(|at| at as usize),
                    gate: m.gate,
                }),
                residual: op.residual.map(read),
                activation: op.activation as u32,
            };
            norm::layer(&norm, read(op.x), y);
        }
        Op::HeadNorm(op) => {
            let weight = op.norm.map(|norm| operands.weights.vectors(norm.weight));
            let norm = op.norm.zip(weight.as_deref());
            let (x, at) = op.x;
            let heads = Heads {
                tokens: x.shape.pixels() as usize,
                sets: op.sets as usize,
                heads: op.heads as usize,
                size: op.size as usize,
                at: at as usize,
                stride: channels(x),
                norm: norm.map(|(n, w)| (&w[..], n.split.map_or(usize::MAX, |at| at as usize), n.epsilon)),
                rotary: op.rotary.map(|rotary| (read(rotary.table), rotary.neighbours)),
            };
            heads::run(&heads, read(x), y);
        }
        Op::Add(op) => {
            let (scales, slots) = (read(op.scales), op.scales.shape.w as usize);
            let k = |image: usize| scales[(image * slots + op.slot as usize) * 4];
            let image = values(step.y) / step.y.shape.n as usize;
            elementwise::add(image, values(op.b), k, read(op.a), read(op.b), y);
        }
        Op::Scale(op) => scale(op, read(op.x), read(op.coefficients), y),
        Op::Image(op) => {
            let pixels = op.x.shape.rows() as usize;
            elementwise::image(read(op.x), &mut bytemuck::cast_slice_mut(y)[..pixels]);
            lowered.suspect = true;
        }
        Op::CopyTensor(op) => {
            elementwise::copy(values(op.x), [0, values(op.x)], [0, values(op.x)], read(op.x), y)
        }
        Op::Join(op) => {
            let image = |t: Tensor| values(t) / t.shape.n as usize;
            let stride = image(step.y);
            let (a, b) = (image(op.a), image(op.b));
            elementwise::copy(a, [0, a], [0, stride], read(op.a), y);
            elementwise::copy(b, [0, b], [a, stride], read(op.b), y);
        }
        Op::Slice(op) => {
            let [x, y_values] = [op.x, step.y].map(|t| values(t) / t.shape.n as usize);
            let from = op.from as usize * channels(op.x);
            elementwise::copy(y_values, [from, x], [0, y_values], read(op.x), y);
        }
        Op::Patchify(op) => {
            let squares = if op.back { op.x } else { step.y };
            let (across, size) = (squares.shape.w as usize, op.size as usize);
            elementwise::patch(across, size, channels(squares) / (size * size), op.back, read(op.x), y);
        }
        Op::Shortcut(op) => {
            let (pixels, squares) = if op.back { (step.y, op.x) } else { (op.x, step.y) };
            let sizes = [squares.shape.w as usize, op.size as usize, channels(pixels)];
            let (wide, ratio) = (channels(squares), op.ratio as usize);
            let make = if op.back { elementwise::grow } else { elementwise::shrink };
            make(sizes, wide, ratio, read(op.x), y);
        }
        Op::GroupConv(op) => {
            let conv = GroupConv {
                size: [op.x.shape.h as usize, op.x.shape.w as usize],
                channels: channels(op.x),
                kernel: op.kernel as usize,
                inputs: op.inputs as usize,
                weight: &operands.weights.vectors(op.weight),
                biased: op.biased,
                gated: op.gated,
                activation: op.activation as u32,
            };
            group_conv::run(&conv, read(op.x), y);
        }
        Op::LinearAttention(op) => {
            let rows = |(t, at): (Tensor, u32)| linear_attention::Rows {
                values: read(t),
                at: at as usize,
                stride: channels(t),
            };
            let attention = LinearAttention {
                images: op.q.0.shape.n as usize,
                tokens: op.q.0.shape.pixels() as usize,
                heads: op.heads as usize,
                size: op.size as usize,
                each: op.each as usize,
                q: rows(op.q),
                k: rows(op.k),
                v: rows(op.v),
            };
            linear_attention::run(&attention, y, scratch);
        }
        Op::Mean(op) => {
            let size = [op.x.shape.h as usize, op.x.shape.w as usize];
            elementwise::mean(size, channels(op.x), read(op.x), y);
        }
        Op::MultiplyAdd(op) => elementwise::multiply_add(ROUNDS, read(op.x), y),
        Op::Step(op) => {
            let sample = &mut changed[..values(op.sample)];
            let [k, model, noise] = [op.coefficients, op.model, op.noise].map(read);
            elementwise::step(k, op.guided(), model, noise, sample, y);
            lowered.suspect = true;
        }
    }
    lowered
}

fn matmul<'a>(op: &ops::Matmul, operands: &Operands<'a>, weight: &'a Dense, y: Tensor) -> Matmul<'a> {
    // Values and gates are twice as wide as the output, and go through the epilogue.
    let wide = Tensor { shape: y.shape.with_c(op.weight.matrix.outputs), ..y };
    Matmul {
        rows: y.shape.rows() as usize,
        x: operands.two(op.x, op.x2),
        inputs: [channels(op.x), op.x2.map_or(0, channels)],
        weight,
        epilogue: operands.epilogue(&op.epilogue, weight, wide),
        gate: op.gate.map(|activation| activation as u32),
    }
}

fn shape(op: &ops::Conv, y: Tensor) -> Shape {
    let size = |h: u32, w: u32| [h as usize, w as usize];
    let [h, w] = op.size();
    Shape {
        images: y.shape.n as usize,
        inputs: [channels(op.x), op.x2.map_or(0, channels)],
        outputs: op.weight.matrix.outputs as usize,
        stored: size(op.x.shape.h, op.x.shape.w),
        size: size(h, w),
        out: size(y.shape.h, y.shape.w),
        kernel: op.kernel() as usize,
        stride: op.stride as usize,
        pad: op.pad.0 as usize,
    }
}

/// The convolutions of a plan: weights, and shapes.
pub fn convolutions(plan: &Plan) -> impl Iterator<Item = (Handle, Shape)> {
    plan.steps.iter().filter_map(|step| match &step.op {
        Op::Conv(op) => Some((op.weight.handle, shape(op, step.y))),
        _ => None,
    })
}

fn attention<'a>(op: &ops::Attention, operands: &Operands<'a>) -> Attention<'a> {
    let rows =
        |(t, at): (Tensor, u32)| Rows { values: operands.read(t), stride: channels(t), at: at as usize };
    let (q, k) = (op.q.0.shape, op.k.0.shape);
    let bias = |t| Bias { values: operands.read(t), each: channels(t) };
    Attention {
        images: q.n as usize,
        heads: op.heads as usize,
        size: op.padded as usize,
        queries: q.pixels() as usize,
        keys: k.pixels() as usize,
        causal: op.causal,
        scale: op.scale,
        shared: op.shared as usize,
        cap: op.cap,
        keys_bias: op.keys().map(bias),
        distances_bias: op.distances().map(bias),
        q: rows(op.q),
        k: rows(op.k),
        v: rows(op.v),
    }
}

/// Whether its statistics are not finite, as they are where one value is not.
fn group_norm(op: &ops::GroupNorm, operands: &Operands, y: &mut [f32], scratch: &mut Scratch) -> bool {
    let shape = op.shape();
    let pixels = shape.pixels() as usize;
    let inputs = Inputs {
        x: operands.two(op.x, op.x2),
        channels: [channels(op.x), op.x2.map_or(0, channels)],
        pixels,
    };
    let [slab, slabs] = op.slabs().map(|n| n as usize);
    let channels = shape.c as usize;
    let group = channels / op.groups as usize;
    let groups = Groups { channels, group, pixels, slabs, slab, epsilon: op.epsilon };
    let weight = operands.weights.vectors(op.weight);
    !norm::group(&inputs, &groups, &weight, op.activation as u32, y, scratch)
}

fn scale(op: &ops::Scale, x: &[f32], coefficients: &[f32], y: &mut [f32]) {
    let (count, channels) = (op.x.shape.vec4s() as usize, op.x.shape.c4() as usize);
    let last = op.x.shape.c as usize - 4 * (channels - 1);
    let (a, b) = (coefficients[0], coefficients[1]);
    for (i, four) in y.chunks_exact_mut(4).enumerate() {
        let at = i % count * 4;
        four.iter_mut().zip(&x[at..at + 4]).for_each(|(y, x)| *y = a * x + b);
        elementwise::activate_all(op.activation as u32, four);
        if i % channels == channels - 1 {
            // Padding stays zero.
            four[last..].fill(0.0);
        }
    }
}
