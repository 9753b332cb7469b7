//! Attention over two streams that have weights of their own (MMDiT; Esser et al., arXiv:2403.03206), and over one.

use crate::nn::{At, Linear};
use crate::plan::ops::{self, Activation, Attention, Epilogue, HeadNorm, HeadWeight, Matmul, Rotary};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Handle, Part, Rows, weight_and_bias};

/// `count` heads of `size` channels, a multiple of four.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub count: u32,
    pub size: u32,
}

impl Sizes {
    fn width(self) -> u32 {
        self.count * self.size
    }
}

/// The projections to queries, keys and values of the stream of an image.
const QKV: [&str; 3] = ["to_q", "to_k", "to_v"];

/// A stream's projections: queries, keys and values in one matrix, and the output's.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    qkv: Linear,
    /// None where nothing of the stream is used behind the attention.
    out: Option<Linear>,
}

impl Stream {
    /// Projections of these names below `path`.
    fn declare(
        d: &mut Declarations,
        path: &str,
        heads: Sizes,
        qkv: [&str; 3],
        out: Option<&str>,
        bias: bool,
    ) -> Stream {
        let width = heads.width();
        Stream {
            qkv: fused(d, path, width, qkv, bias),
            out: out.map(|out| Linear::declare(d, &path.at(out), width, width, bias)),
        }
    }

    /// `residual + gate * out(y)`.
    fn finish(&self, r: &mut Recorder, y: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        let out = self.out.as_ref().expect("a stream that goes on");
        let epilogue = Epilogue { gate: Some(gate), residual: Some(residual), ..Default::default() };
        Matmul { epilogue, ..out.of(y) }.record(r)
    }
}

/// Projections of these names below `path` in one matrix, each `width` wide.
fn fused(d: &mut Declarations, path: &str, width: u32, names: [&str; 3], bias: bool) -> Linear {
    let part = |(i, name): (u32, &str)| -> Vec<Part> {
        let shape = vec![width as usize; 2];
        weight_and_bias(&path.at(name), shape, bias, Rows::From(i * width), Columns::Same)
    };
    let parts = (0..).zip(names).flat_map(part).collect();
    Linear::fused(d, width, 3 * width, parts)
}

/// Those of an image's stream, without biases.
pub fn qkv(d: &mut Declarations, path: &str, width: u32) -> Linear {
    fused(d, path, width, QKV, false)
}

/// RMS norms of the heads of queries and keys, of one stream or of both.
fn norms(d: &mut Declarations, path: &str, heads: Sizes, names: &[&str]) -> Handle {
    d.vectors(names.iter().map(|name| path.at(format!("{name}.weight"))), heads.size)
}

/// Attention of `qkv` `[N, T, 3 width]`, whose queries and keys are normalised first, tokens from `split` on by the second
/// stream's weights, and then turned by a table of rotary positions.
fn attend(
    r: &mut Recorder,
    heads: Sizes,
    qkv: Tensor,
    norm: Option<Handle>,
    split: Option<u32>,
    table: Option<Tensor>,
) -> Tensor {
    let (Sizes { count, size }, width) = (heads, heads.width());
    if norm.is_none() && table.is_none() {
        return Attention::of((qkv, 0), (qkv, width), (qkv, 2 * width), count, size).record(r);
    }
    let norm = norm.map(|weight| HeadWeight { weight, epsilon: super::EPSILON, split });
    let rotary = table.map(|table| Rotary { table, neighbours: true });
    let qk = HeadNorm { x: (qkv, 0), sets: 2, heads: count, size, norm, rotary }.record(r);
    Attention::of((qk, 0), (qk, width), (qkv, 2 * width), count, size).record(r)
}

/// The stream whose tokens come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Image,
    Text,
}

#[derive(Clone, Copy, Debug)]
pub struct JointAttention {
    heads: Sizes,
    image: Stream,
    text: Stream,
    norms: Option<Handle>,
    first: First,
}

impl JointAttention {
    /// Under diffusers' names. `text_ends`: nothing of the text is used behind it.
    pub fn declare(
        d: &mut Declarations,
        path: &str,
        [count, size]: [u32; 2],
        qk_norm: bool,
        text_ends: bool,
        first: First,
        bias: bool,
    ) -> JointAttention {
        let heads = Sizes { count, size };
        let text = ["add_q_proj", "add_k_proj", "add_v_proj"];
        let mut names = [["norm_q", "norm_k"], ["norm_added_q", "norm_added_k"]];
        if first == First::Text {
            names.reverse();
        }
        JointAttention {
            heads,
            image: Stream::declare(d, path, heads, QKV, Some("to_out.0"), bias),
            text: Stream::declare(d, path, heads, text, (!text_ends).then_some("to_add_out"), bias),
            norms: qk_norm.then(|| norms(d, path, heads, names.as_flattened())),
            first,
        }
    }

    /// What the tokens of image and text make of all tokens; `table` has their rotary positions, in the order of the streams.
    pub fn record(
        &self,
        r: &mut Recorder,
        image: Tensor,
        text: Tensor,
        table: Option<Tensor>,
    ) -> [Tensor; 2] {
        let [images, texts] = [image, text].map(|t| t.shape.pixels());
        let [image, text] = [(self.image, image), (self.text, text)].map(|(s, x)| s.qkv.of(x).record(r));
        let (first, second, split) = match self.first {
            First::Image => (image, text, images),
            First::Text => (text, image, texts),
        };
        let joined = ops::join(r, first, second);
        let y = attend(r, self.heads, joined, self.norms, Some(split), table);
        let [image_at, text_at] = match self.first {
            First::Image => [0, images],
            First::Text => [texts, 0],
        };
        [ops::slice(r, y, image_at, images), ops::slice(r, y, text_at, texts)]
    }

    /// `residual + gate * out(y)` of the image's stream.
    pub fn finish_image(&self, r: &mut Recorder, y: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        self.image.finish(r, y, gate, residual)
    }

    /// `residual + gate * out(y)` of the text's stream, where it goes on.
    pub fn finish_text(&self, r: &mut Recorder, y: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        self.text.finish(r, y, gate, residual)
    }
}

/// Attention of a stream over itself.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention {
    heads: Sizes,
    stream: Stream,
    norms: Option<Handle>,
}

impl SelfAttention {
    pub fn declare(
        d: &mut Declarations,
        path: &str,
        [count, size]: [u32; 2],
        qk_norm: bool,
    ) -> SelfAttention {
        let heads = Sizes { count, size };
        SelfAttention {
            heads,
            stream: Stream::declare(d, path, heads, QKV, Some("to_out.0"), true),
            norms: qk_norm.then(|| norms(d, path, heads, &["norm_q", "norm_k"])),
        }
    }

    /// `residual + gate * attention(x)`.
    pub fn record(&self, r: &mut Recorder, x: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        let qkv = self.stream.qkv.of(x).record(r);
        let y = attend(r, self.heads, qkv, self.norms, None, None);
        self.stream.finish(r, y, gate, residual)
    }
}

/// Attention and feed-forward layer side by side, of one stream, with one projection behind both (FLUX's single blocks).
#[derive(Clone, Copy, Debug)]
pub struct Single {
    heads: Sizes,
    qkv: Linear,
    norms: Handle,
    mlp: Linear,
    /// Behind `mlp`, where that is not gated.
    activation: Activation,
    out: Linear,
}

impl Single {
    pub fn declare(d: &mut Declarations, path: &str, [count, size]: [u32; 2]) -> Single {
        let heads = Sizes { count, size };
        let (width, attention) = (heads.width(), path.at("attn"));
        Single {
            heads,
            qkv: Stream::declare(d, &attention, heads, QKV, None, true).qkv,
            norms: norms(d, &attention, heads, &["norm_q", "norm_k"]),
            mlp: Linear::declare(d, &path.at("proj_mlp"), width, 4 * width, true),
            activation: Activation::GeluTanh,
            out: Linear::declare(d, &path.at("proj_out"), 5 * width, width, true),
        }
    }

    /// With one projection in front of both, too: queries, keys, values, and `inner` gates and values of a feed-forward layer
    /// (FLUX.2). Two matrices hold it, since it is larger than what some devices bind.
    pub fn declare_fused(d: &mut Declarations, path: &str, [count, size]: [u32; 2], inner: u32) -> Single {
        let heads = Sizes { count, size };
        let (width, attention) = (heads.width(), path.at("attn"));
        let [qkv, mlp] = [
            (3 * width, Rows::First(3 * width)),
            (2 * inner, Rows::Gated { skip: 3 * width, outputs: inner }),
        ]
        .map(|(outputs, rows)| {
            let shape = vec![(3 * width + 2 * inner) as usize, width as usize];
            let parts = weight_and_bias(&attention.at("to_qkv_mlp_proj"), shape, false, rows, Columns::Same);
            Linear::fused(d, width, outputs, parts)
        });
        Single {
            heads,
            qkv,
            norms: norms(d, &attention, heads, &["norm_q", "norm_k"]),
            mlp: mlp.gated(Activation::Silu),
            activation: Activation::None,
            out: Linear::declare(d, &attention.at("to_out"), width + inner, width, false),
        }
    }

    /// `residual + gate * out([attention(x), mlp(x)])`.
    pub fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        table: Tensor,
        gate: (Tensor, u32),
        residual: Tensor,
    ) -> Tensor {
        let qkv = self.qkv.of(x).record(r);
        let y = attend(r, self.heads, qkv, Some(self.norms), None, Some(table));
        let epilogue = Epilogue { activation: self.activation, ..Default::default() };
        let mlp = Matmul { epilogue, ..self.mlp.of(x) }.record(r);
        let epilogue = Epilogue { gate: Some(gate), residual: Some(residual), ..Default::default() };
        Matmul { epilogue, x2: Some(mlp), ..self.out.of(y) }.record(r)
    }
}
