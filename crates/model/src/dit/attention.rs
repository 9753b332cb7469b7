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

/// A stream's projections: queries, keys and values in one matrix, and the output's.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    qkv: Linear,
    /// None where nothing of the stream is used behind the attention.
    out: Option<Linear>,
}

impl Stream {
    /// Projections of these names below `path`.
    fn declare(d: &mut Declarations, path: &str, heads: Sizes, qkv: [&str; 3], out: Option<&str>) -> Stream {
        let width = heads.width();
        let part = |(i, name): (u32, &str)| -> Vec<Part> {
            let shape = vec![width as usize; 2];
            weight_and_bias(&path.at(name), shape, true, Rows::From(i * width), Columns::Same)
        };
        let parts = (0..).zip(qkv).flat_map(part).collect();
        Stream {
            qkv: Linear::fused(d, width, 3 * width, parts),
            out: out.map(|out| Linear::declare(d, &path.at(out), width, width, true)),
        }
    }

    /// `residual + gate * out(y)`.
    fn finish(&self, r: &mut Recorder, y: Tensor, gate: (Tensor, u32), residual: Tensor) -> Tensor {
        let out = self.out.as_ref().expect("a stream that goes on");
        let epilogue = Epilogue { gate: Some(gate), residual: Some(residual), ..Default::default() };
        Matmul { epilogue, ..out.of(y) }.record(r)
    }
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
    ) -> JointAttention {
        let heads = Sizes { count, size };
        let text = ["add_q_proj", "add_k_proj", "add_v_proj"];
        let mut names = [["norm_q", "norm_k"], ["norm_added_q", "norm_added_k"]];
        if first == First::Text {
            names.reverse();
        }
        JointAttention {
            heads,
            image: Stream::declare(d, path, heads, ["to_q", "to_k", "to_v"], Some("to_out.0")),
            text: Stream::declare(d, path, heads, text, (!text_ends).then_some("to_add_out")),
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
            stream: Stream::declare(d, path, heads, ["to_q", "to_k", "to_v"], Some("to_out.0")),
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
    proj_mlp: Linear,
    proj_out: Linear,
}

impl Single {
    pub fn declare(d: &mut Declarations, path: &str, [count, size]: [u32; 2]) -> Single {
        let heads = Sizes { count, size };
        let (width, attention) = (heads.width(), path.at("attn"));
        Single {
            heads,
            qkv: Stream::declare(d, &attention, heads, ["to_q", "to_k", "to_v"], None).qkv,
            norms: norms(d, &attention, heads, &["norm_q", "norm_k"]),
            proj_mlp: Linear::declare(d, &path.at("proj_mlp"), width, 4 * width, true),
            proj_out: Linear::declare(d, &path.at("proj_out"), 5 * width, width, true),
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
        let gelu = Epilogue { activation: Activation::GeluTanh, ..Default::default() };
        let mlp = Matmul { epilogue: gelu, ..self.proj_mlp.of(x) }.record(r);
        let epilogue = Epilogue { gate: Some(gate), residual: Some(residual), ..Default::default() };
        Matmul { epilogue, x2: Some(mlp), ..self.proj_out.of(y) }.record(r)
    }
}
