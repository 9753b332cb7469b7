//! IP-Adapter plus: learned tokens look at all of an image, layer after layer (a perceiver; facts: Alayrac et al. 2022).

use super::projection::LAYER_NORM_EPS;
use crate::config::IpAdapterConfig;
use crate::nn::{LayerNorm, Linear};
use crate::plan::ops::{self, Activation::Gelu, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::quant::Format;
use crate::shape::Shape;
use crate::weights::{Declarations, Handle, Layout, Part, Role};

#[derive(Clone, Debug)]
pub struct Resampler {
    latents: Handle,
    shape: Shape,
    proj_in: Linear,
    layers: Vec<Layer>,
    proj_out: Linear,
    norm_out: LayerNorm,
}

#[derive(Clone, Debug)]
struct Layer {
    heads: u32,
    /// Of the image's states, and of the tokens.
    norms: [LayerNorm; 2],
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    norm: LayerNorm,
    feed_forward: [Linear; 2],
}

impl Resampler {
    /// From `states` channels to `outputs`. `config` is that of a resampler.
    pub fn declare(d: &mut Declarations, outputs: u32, states: u32, config: IpAdapterConfig) -> Resampler {
        let IpAdapterConfig::Plus { queries, width, heads, depth, inner } = config else {
            panic!("{config:?} is no resampler");
        };
        let part = Part {
            names: vec!["image_proj.latents".to_owned()],
            shape: vec![1, queries, width],
            role: Role::Table,
        };
        let layout = Layout::Table { format: Format::F32, rows: queries, width };
        let latents = d.add(layout, vec![part]);
        let [width, heads, inner] = [width, heads, inner].map(|n| n as u32);
        Resampler {
            latents,
            shape: Shape::tokens(1, queries as u32, width),
            proj_in: d.sensitive(|d| Linear::declare(d, "image_proj.proj_in", states, width, true)),
            layers: (0..depth).map(|i| Layer::declare(d, i, width, heads, inner)).collect(),
            proj_out: d.sensitive(|d| Linear::declare(d, "image_proj.proj_out", width, outputs, true)),
            norm_out: LayerNorm::declare(d, "image_proj.norm_out", outputs, LAYER_NORM_EPS),
        }
    }

    pub fn latents(&self) -> (Handle, Shape) {
        (self.latents, self.shape)
    }

    pub fn record(&self, r: &mut Recorder, states: Tensor, latents: Tensor) -> Tensor {
        let states = self.proj_in.of(states).record(r);
        let tokens = self.layers.iter().fold(latents, |tokens, layer| layer.record(r, states, tokens));
        let tokens = self.proj_out.of(tokens).record(r);
        self.norm_out.record(r, tokens)
    }
}

impl Layer {
    fn declare(d: &mut Declarations, i: usize, width: u32, heads: u32, inner: u32) -> Layer {
        let attended = heads * IpAdapterConfig::HEAD as u32;
        let path = |name: &str| format!("image_proj.layers.{i}.{name}");
        let norm =
            |d: &mut Declarations, name: &str| LayerNorm::declare(d, &path(name), width, LAYER_NORM_EPS);
        let linear = |d: &mut Declarations, name: &str, inputs, outputs| {
            Linear::declare(d, &path(name), inputs, outputs, false)
        };
        Layer {
            heads,
            norms: ["0.norm1", "0.norm2"].map(|name| norm(d, name)),
            to_q: linear(d, "0.to_q", width, attended),
            to_kv: linear(d, "0.to_kv", width, 2 * attended),
            to_out: linear(d, "0.to_out", attended, width),
            norm: norm(d, "1.0"),
            feed_forward: [linear(d, "1.1", width, inner), linear(d, "1.3", inner, width)],
        }
    }

    /// The tokens attend to the image's states and to one another.
    fn record(&self, r: &mut Recorder, states: Tensor, tokens: Tensor) -> Tensor {
        let [states_norm, tokens_norm] = &self.norms;
        let residual = |x| Epilogue { residual: Some(x), ..Default::default() };
        let states = states_norm.record(r, states);
        let own = tokens_norm.record(r, tokens);
        let all = ops::join(r, states, own);
        let (q, kv) = (self.to_q.of(own).record(r), self.to_kv.of(all).record(r));
        let size = IpAdapterConfig::HEAD as u32;
        let v = (kv, self.heads * size);
        let attention = ops::Attention::of((q, 0), (kv, 0), v, self.heads, size);
        let seen = attention.record(r);
        let x = Matmul { epilogue: residual(tokens), ..self.to_out.of(seen) }.record(r);
        let [wide, narrow] = &self.feed_forward;
        let h = self.norm.record(r, x);
        let gelu = Epilogue { activation: Gelu, ..Default::default() };
        let h = Matmul { epilogue: gelu, ..wide.of(h) }.record(r);
        Matmul { epilogue: residual(x), ..narrow.of(h) }.record(r)
    }
}
