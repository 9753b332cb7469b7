//! Multi-head attention: fused projections, heads padded to vec4s, the output projection with its residual.

use super::Linear;
use crate::plan::ops::{self, Bias, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Part, Role, Rows};

/// `count` heads of `size` channels.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub count: u32,
    pub size: u32,
}

impl Heads {
    fn padded(self) -> u32 {
        self.size.next_multiple_of(4)
    }

    /// Channels of all heads as they are stored.
    fn width(self) -> u32 {
        self.count * self.padded()
    }

    fn rows(self, at: u32) -> Rows {
        Rows::Heads { at, size: self.size, padded: self.padded() }
    }
}

/// The names of the four projections below the attention's path, each with those of older files.
#[derive(Clone, Copy, Debug)]
pub struct Projections {
    pub q: &'static [&'static str],
    pub k: &'static [&'static str],
    pub v: &'static [&'static str],
    pub out: &'static [&'static str],
    /// Whether q, k and v have biases; the output always has one.
    pub bias: bool,
}

impl Projections {
    /// diffusers' Attention in a U-Net.
    pub const UNET: Projections =
        Projections { q: &["to_q"], k: &["to_k"], v: &["to_v"], out: &["to_out.0"], bias: false };
    /// In an autoencoder, with the names from before diffusers 0.18.
    pub const VAE: Projections = Projections {
        q: &["to_q", "query"],
        k: &["to_k", "key"],
        v: &["to_v", "value"],
        out: &["to_out.0", "proj_attn"],
        bias: true,
    };
    /// transformers' CLIP.
    pub const CLIP: Projections =
        Projections { q: &["q_proj"], k: &["k_proj"], v: &["v_proj"], out: &["out_proj"], bias: true };
    /// IP-Adapter's, which has keys and values only.
    pub const IMAGE: Projections =
        Projections { q: &[], k: &["to_k_ip"], v: &["to_v_ip"], out: &[], bias: false };
}

/// Further keys and values of a cross-attention. What they give is added with the factor in a slot of
/// `scales`, as [`ops::add`] takes it.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    pub context: Tensor,
    pub scales: Tensor,
    pub slot: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Attention {
    heads: Heads,
    /// q, k and v of self-attention in one matrix; q alone when k and v come from elsewhere.
    input: Linear,
    out: Linear,
}

impl Attention {
    /// Self-attention over `width` channels.
    pub fn declare(
        d: &mut Declarations,
        path: &str,
        width: u32,
        heads: Heads,
        names: Projections,
    ) -> Attention {
        let w = heads.width();
        let parts = [(names.q, 0), (names.k, w), (names.v, 2 * w)]
            .into_iter()
            .flat_map(|(n, at)| projection(path, n, width, heads, at, names.bias))
            .collect();
        let input = Linear::fused(d, width, 3 * w, parts);
        Attention { heads, input, out: output(d, path, width, heads, names) }
    }

    /// Attention of `width` channels over a context of `context` channels. The second result makes its
    /// keys and values, which depend on the context alone.
    pub fn cross(
        d: &mut Declarations,
        path: &str,
        width: u32,
        context: u32,
        heads: Heads,
        names: Projections,
    ) -> (Attention, Linear) {
        let w = heads.width();
        let input = Linear::fused(d, width, w, projection(path, names.q, width, heads, 0, names.bias));
        let keys_values = Attention::keys_values(d, path, context, heads, names);
        (Attention { heads, input, out: output(d, path, width, heads, names) }, keys_values)
    }

    /// Keys and values of cross-attention over a context of `context` channels.
    pub fn keys_values(
        d: &mut Declarations,
        path: &str,
        context: u32,
        heads: Heads,
        names: Projections,
    ) -> Linear {
        let w = heads.width();
        let parts = [(names.k, 0), (names.v, w)]
            .into_iter()
            .flat_map(|(n, at)| projection(path, n, context, heads, at, names.bias))
            .collect();
        Linear::fused(d, context, 2 * w, parts)
    }

    /// `residual + out(attention(x))`. `context` holds keys and values of cross-attention.
    pub fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        context: Option<Tensor>,
        residual: Tensor,
        causal: bool,
    ) -> Tensor {
        let attention = ops::Attention { causal, ..self.of(r, x, context) };
        let y = attention.record(r);
        self.finish(r, y, onto(residual))
    }

    /// `out(attention(x))` with this epilogue, and a bias of its scores.
    pub fn record_with(
        &self,
        r: &mut Recorder,
        x: Tensor,
        context: Option<Tensor>,
        bias: Option<Bias>,
        epilogue: Epilogue,
    ) -> Tensor {
        let attention = ops::Attention { bias, ..self.of(r, x, context) };
        let y = attention.record(r);
        self.finish(r, y, epilogue)
    }

    fn of(&self, r: &mut Recorder, x: Tensor, context: Option<Tensor>) -> ops::Attention {
        let w = self.heads.width();
        let input = self.input.of(x).record(r);
        match context {
            Some(kv) => self.attention(input, (kv, 0), (kv, w)),
            None => self.attention(input, (input, w), (input, 2 * w)),
        }
    }

    /// `residual + out(attention(x, context) + k attention(x, second))`: the queries are those of both.
    pub fn record_two(
        &self,
        r: &mut Recorder,
        x: Tensor,
        context: Tensor,
        second: Second,
        residual: Tensor,
    ) -> Tensor {
        let w = self.heads.width();
        let input = self.input.of(x).record(r);
        let [y, other] =
            [context, second.context].map(|kv| self.attention(input, (kv, 0), (kv, w)).record(r));
        let y = ops::add(r, second.scales, second.slot, y, other);
        self.finish(r, y, onto(residual))
    }

    fn attention(&self, input: Tensor, k: (Tensor, u32), v: (Tensor, u32)) -> ops::Attention {
        ops::Attention::of((input, 0), k, v, self.heads.count, self.heads.size)
    }

    fn finish(&self, r: &mut Recorder, y: Tensor, epilogue: Epilogue) -> Tensor {
        ops::Matmul { epilogue, ..self.out.of(y) }.record(r)
    }
}

fn onto(residual: Tensor) -> Epilogue {
    Epilogue { residual: Some(residual), ..Default::default() }
}

fn projection(path: &str, names: &[&str], inputs: u32, heads: Heads, at: u32, bias: bool) -> Vec<Part> {
    let outputs = (heads.count * heads.size) as usize;
    let rows = heads.rows(at);
    let weight = Part {
        names: named(path, names, "weight"),
        shape: vec![outputs, inputs as usize],
        role: Role::Weight { rows, columns: Columns::Same },
    };
    let bias = bias.then(|| Part {
        names: named(path, names, "bias"),
        shape: vec![outputs],
        role: Role::Bias { rows },
    });
    [weight].into_iter().chain(bias).collect()
}

fn output(d: &mut Declarations, path: &str, width: u32, heads: Heads, names: Projections) -> Linear {
    let columns = Columns::Heads { size: heads.size, padded: heads.padded() };
    let rows = Rows::From(0);
    let weight = Part {
        names: named(path, names.out, "weight"),
        shape: vec![width as usize, (heads.count * heads.size) as usize],
        role: Role::Weight { rows, columns },
    };
    let bias = Part {
        names: named(path, names.out, "bias"),
        shape: vec![width as usize],
        role: Role::Bias { rows },
    };
    Linear::fused(d, heads.width(), width, vec![weight, bias])
}

fn named(path: &str, names: &[&str], end: &str) -> Vec<String> {
    names.iter().map(|n| format!("{path}.{n}.{end}")).collect()
}
