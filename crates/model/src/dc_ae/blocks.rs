//! Blocks of a level: convolutions, or linear attention of two scales and a feed-forward layer (EfficientViT; Cai et al.,
//! arXiv:2205.14756).

use super::EPSILON;
use crate::config::DcBlock;
use crate::dit::GatedConv;
use crate::nn::{At, Conv, GroupConv, Linear, RmsNorm};
use crate::plan::ops::{self, Activation, Epilogue, LinearAttention, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Rows, weight_and_bias};

/// How many times as wide a feed-forward layer is in its middle.
const HIDDEN: u32 = 4;

#[derive(Clone, Debug)]
pub struct Block {
    path: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Res { conv1: Conv, conv2: Conv, norm: RmsNorm },
    Vit { attn: Attention, conv_out: GatedConv, norm: RmsNorm },
}

impl Block {
    pub fn declare(d: &mut Declarations, path: &str, width: u32, block: DcBlock, head: u32) -> Block {
        let norm = |d: &mut Declarations, path: &str| RmsNorm::with_bias(d, path, width, EPSILON);
        let kind = match block {
            DcBlock::Res => Kind::Res {
                conv1: Conv::declare(d, &path.at("conv1"), width, width, 3, true),
                conv2: Conv::declare(d, &path.at("conv2"), width, width, 3, false),
                norm: norm(d, &path.at("norm")),
            },
            DcBlock::Vit(scale) => Kind::Vit {
                attn: Attention::declare(d, &path.at("attn"), width, head, scale),
                conv_out: GatedConv::declare(d, &path.at("conv_out"), width, HIDDEN * width),
                norm: norm(d, &path.at("conv_out.norm")),
            },
        };
        Block { path: path.to_owned(), kind }
    }

    /// `[N, h, w, width]` to as many.
    pub fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        let y = match &self.kind {
            Kind::Res { conv1, conv2, norm } => {
                let silu = Epilogue { activation: Activation::Silu, ..Default::default() };
                let h = conv1.record(r, x, None, silu);
                let h = conv2.record(r, h, None, Epilogue::default());
                finish(r, norm, h, x)
            }
            Kind::Vit { attn, conv_out, norm } => {
                let x = attn.record(r, x);
                let x = r.tap(&self.path.at("attn"), x);
                let h = conv_out.record(r, x, Epilogue::default());
                let y = finish(r, norm, h, x);
                r.tap(&self.path.at("conv_out"), y)
            }
        };
        r.tap(&self.path, y)
    }
}

/// `residual + norm(x)`.
fn finish(r: &mut Recorder, norm: &RmsNorm, x: Tensor, residual: Tensor) -> Tensor {
    ops::LayerNorm { residual: Some(residual), ..norm.of(x) }.record(r)
}

/// diffusers' SanaMultiscaleLinearAttention. Queries, keys and values are joined and then cut into heads, so that a head has
/// channels that follow one another in the join.
#[derive(Clone, Copy, Debug)]
struct Attention {
    width: u32,
    head: u32,
    qkv: Linear,
    /// A depthwise convolution and one of the groups that a head has: a second set of queries, keys and values.
    scale: Option<[GroupConv; 2]>,
    out: Linear,
    norm: RmsNorm,
}

impl Attention {
    fn declare(d: &mut Declarations, path: &str, width: u32, head: u32, scale: Option<usize>) -> Attention {
        let part = |(i, name): (u32, &str)| {
            let (shape, rows) = (vec![width as usize; 2], Rows::From(i * width));
            weight_and_bias(&path.at(name), shape, false, rows, Columns::Same)
        };
        let parts = (0..).zip(["to_q", "to_k", "to_v"]).flat_map(part).collect();
        let outputs = (3 * width, Rows::From(0), 3 * width);
        let scales = path.at("to_qkv_multiscale.0");
        let sets = if scale.is_some() { 2 } else { 1 };
        Attention {
            width,
            head,
            qkv: Linear::fused(d, width, 3 * width, parts),
            scale: scale.map(|kernel| {
                [("proj_in", [1, kernel as u32]), ("proj_out", [head, 1])]
                    .map(|(name, group)| GroupConv::declare(d, &scales.at(name), outputs, group, false))
            }),
            out: Linear::declare(d, &path.at("to_out"), sets * width, width, false),
            norm: RmsNorm::with_bias(d, &path.at("norm_out"), width, EPSILON),
        }
    }

    /// `x + attention(x)`.
    fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        let qkv = self.qkv.of(x).record(r);
        let second = self.scale.map(|[proj_in, proj_out]| {
            let h = proj_in.of(qkv).record(r);
            proj_out.of(h).record(r)
        });
        let y = self.attend(r, qkv);
        let x2 = second.map(|qkv| self.attend(r, qkv));
        let y = Matmul { x2, ..self.out.of(y) }.record(r);
        finish(r, &self.norm, y, x)
    }

    fn attend(&self, r: &mut Recorder, qkv: Tensor) -> Tensor {
        let (size, heads) = (self.head, self.width / self.head);
        let [q, k, v] = [0, 1, 2].map(|i| (qkv, i * size));
        LinearAttention { q, k, v, heads, size, each: 3 * size }.record(r)
    }
}
