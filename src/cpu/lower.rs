//! What computes a plan's step: the parameters of its kernel as the loops want them.

use tintype_cpu::attention::{Attention, Rows};
use tintype_cpu::conv::{Conv, Shape};
use tintype_cpu::matmul::Matmul;
use tintype_cpu::norm::{self, Groups, Inputs};
use tintype_cpu::{Dense, Epilogue, Scratch, elementwise};

use super::Weights;
use crate::kernels::{
    AddParams, AttentionParams, ConvParams, CopyParams, ImageParams, LayerNormParams, MatmulParams,
    MeanParams, NormApplyParams, NormScaleParams, NormStatsParams, ScaleParams, StepParams,
};
use crate::ops::{ADD, CAUSAL, CHAINS, GEGLU, GUIDED, RESIDUAL, ROUNDS};
use crate::plan::{Binding, Step};
use crate::weights::Handle;

/// What a step reads, by the numbers of its bindings.
pub struct Operands<'a> {
    /// A tensor's buffer; of a binding without one nothing.
    pub read: &'a dyn Fn(usize) -> &'a [f32],
    pub weight: &'a dyn Fn(usize) -> Handle,
    pub weights: &'a Weights,
}

const _: () = assert!(CHAINS as usize == elementwise::CHAINS);

/// Channels of so many vec4s.
fn channels_of(count: u32) -> usize {
    count as usize * 4
}

/// Reads a kernel's `Params` from a step.
fn params<T: bytemuck::Pod>(bytes: &[u8]) -> T {
    bytemuck::pod_read_unaligned(bytes)
}

/// One piece of a step, into `y`; returns how many pieces it has.
pub fn run(step: &Step, piece: usize, operands: &Operands, y: &mut [f32], scratch: &mut Scratch) -> usize {
    let (p, read) = (&step.params[..], operands.read);
    let two = || [read(0), read(1)];
    match step.variant.get().kernel {
        "matmul" => {
            let weight = operands.weights.matrix((operands.weight)(2));
            let matmul = matmul(p, two(), &weight, read(3), read(4));
            matmul.run(piece, y, scratch);
            return matmul.pieces();
        }
        "conv" => {
            let weight = operands.weights.matrix((operands.weight)(2));
            let conv = conv(kernel_size(step), p, two(), &weight, read(3), read(4));
            conv.run(piece, y, scratch);
            return conv.pieces();
        }
        "attention" => {
            let attention = attention(p, [read(0), read(1), read(2)]);
            attention.run(piece, y, scratch);
            return attention.pieces();
        }
        "norm_stats" => {
            let p: NormStatsParams = params(p);
            let inputs = inputs(two(), [p.channels1, p.channels2], p.pixels);
            norm::stats(&inputs, p.slabs as usize, p.slab as usize, y);
        }
        "norm_scale" => {
            let p: NormScaleParams = params(p);
            let [group, pixels, slabs, slab] = [p.group, p.pixels, p.slabs, p.slab].map(|n| n as usize);
            let groups =
                Groups { channels: channels_of(p.channels), group, pixels, slabs, slab, epsilon: p.epsilon };
            norm::scale(&groups, read(0), &operands.weights.vectors((operands.weight)(1)), y);
        }
        "norm_apply" => {
            let p: NormApplyParams = params(p);
            norm::apply(&inputs(two(), [p.channels1, p.channels2], p.pixels), p.activation, read(2), y);
        }
        "layer_norm" => {
            let p: LayerNormParams = params(p);
            norm::layer(
                p.width as usize,
                p.epsilon,
                read(0),
                &operands.weights.vectors((operands.weight)(1)),
                y,
            );
        }
        "add" => {
            let p: AddParams = params(p);
            let scales = read(0);
            let k = |image: usize| scales[(image * p.slots as usize + p.slot as usize) * 4];
            elementwise::add(channels_of(p.image), channels_of(p.count), k, read(1), read(2), y);
        }
        "scale" => scale(p, read(0), read(1), y),
        "image" => {
            let p: ImageParams = params(p);
            elementwise::image(read(0), &mut bytemuck::cast_slice_mut(y)[..p.pixels as usize]);
        }
        "copy" => {
            let p: CopyParams = params(p);
            elementwise::copy([p.values, p.at, p.stride].map(channels_of), read(0), y);
        }
        "mean" => {
            let p: MeanParams = params(p);
            elementwise::mean([p.in_h as usize, p.in_w as usize], channels_of(p.channels), read(0), y);
        }
        "multiply_add" => elementwise::multiply_add(ROUNDS, read(0), y),
        other => panic!("the kernel {other} has no CPU form"),
    }
    1
}

/// A schedule's step: coefficients, what the model made, noise; the sample and the predictions change.
pub fn step(p: &[u8], [k, model, noise]: [&[f32]; 3], sample: &mut [f32], predictions: &mut [f32]) {
    let p: StepParams = params(p);
    let sample = &mut sample[..channels_of(p.count)];
    elementwise::step(k, p.flags & GUIDED != 0, model, noise, sample, predictions);
}

/// The epilogue that `Params` of products and of convolutions tell by the same names.
macro_rules! epilogue {
    ($p:ident, $weight:ident, $add:ident, $residual:ident, $rows_per_image:expr) => {
        Epilogue {
            bias: &$weight.bias,
            add: ($p.flags & ADD != 0).then_some(($add, channels_of($p.add_at), channels_of($p.add_stride))),
            rows_per_image: ($rows_per_image) as usize,
            residual: ($p.flags & RESIDUAL != 0).then_some($residual),
            width: channels_of($p.outputs),
            activation: $p.activation,
        }
    };
}

fn matmul<'a>(
    p: &[u8],
    x: [&'a [f32]; 2],
    weight: &'a Dense,
    add: &'a [f32],
    residual: &'a [f32],
) -> Matmul<'a> {
    let p: MatmulParams = params(p);
    let epilogue = epilogue!(p, weight, add, residual, p.rows_per_image);
    Matmul {
        rows: p.rows as usize,
        x,
        inputs: [channels_of(p.inputs1), channels_of(p.inputs2)],
        weight,
        epilogue,
        gated: p.flags & GEGLU != 0,
    }
}

fn conv<'a>(
    kernel: usize,
    p: &[u8],
    x: [&'a [f32]; 2],
    weight: &'a Dense,
    add: &'a [f32],
    residual: &'a [f32],
) -> Conv<'a> {
    let p: ConvParams = params(p);
    let epilogue = epilogue!(p, weight, add, residual, p.out_h * p.out_w);
    Conv { shape: shape(kernel, &p), x, weight, epilogue, way: None }
}

fn shape(kernel: usize, p: &ConvParams) -> Shape {
    let size = |h: u32, w: u32| [h as usize, w as usize];
    Shape {
        images: p.images as usize,
        inputs: [channels_of(p.inputs1), channels_of(p.inputs2)],
        outputs: channels_of(p.outputs),
        stored: size(p.in_h, p.in_w),
        size: size(p.virtual_h, p.virtual_w),
        out: size(p.out_h, p.out_w),
        kernel,
        stride: p.stride as usize,
        pad: p.pad as usize,
    }
}

/// The weight of a step that is a convolution, and its shape.
pub fn convolution(step: &Step) -> Option<(Handle, Shape)> {
    let variant = step.variant.get();
    match step.bindings[2..] {
        [Binding::Weight(handle, _), ..] if variant.kernel == "conv" => {
            Some((handle, shape(kernel_size(step), &params(&step.params))))
        }
        _ => None,
    }
}

fn kernel_size(step: &Step) -> usize {
    if step.variant.get().name.ends_with('3') { 3 } else { 1 }
}

fn attention<'a>(p: &[u8], [q, k, v]: [&'a [f32]; 3]) -> Attention<'a> {
    let p: AttentionParams = params(p);
    let rows = |values, stride, at| Rows { values, stride: channels_of(stride), at: channels_of(at) };
    Attention {
        images: p.images as usize,
        heads: p.heads as usize,
        size: channels_of(p.head),
        queries: p.queries as usize,
        keys: p.keys as usize,
        causal: p.flags & CAUSAL != 0,
        scale: p.scale,
        q: rows(q, p.q_stride, p.q_at),
        k: rows(k, p.k_stride, p.k_at),
        v: rows(v, p.v_stride, p.v_at),
    }
}

fn inputs<'a>(x: [&'a [f32]; 2], channels: [u32; 2], pixels: u32) -> Inputs<'a> {
    Inputs { x, channels: channels.map(channels_of), pixels: pixels as usize }
}

fn scale(p: &[u8], x: &[f32], coefficients: &[f32], y: &mut [f32]) {
    let p: ScaleParams = params(p);
    let (count, channels) = (p.count as usize, p.channels as usize);
    let (a, b) = (coefficients[0], coefficients[1]);
    for (i, four) in y.chunks_exact_mut(4).take(p.total as usize).enumerate() {
        let at = i % count * 4;
        four.iter_mut().zip(&x[at..at + 4]).for_each(|(y, x)| *y = a * x + b);
        elementwise::activate_all(p.activation, four);
        if i % channels == channels - 1 {
            // Padding stays zero.
            four[p.last as usize..].fill(0.0);
        }
    }
}
