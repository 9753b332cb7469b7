//! Causal language models as text encoders: layers of attention with grouped queries and rotary positions, in which a token
//! sees none behind it, and of gated feed-forward. What Qwen3 and Gemma 2 do each in its own way is a [`Style`].

use super::config::CausalConfig;
use super::denoiser::{Input, Tables};
use super::dit::rotary;
use super::text::{HiddenState, TextEncoder, TextSizes, TextUse, mask};
use crate::nn::{At, Linear, RmsNorm};
use crate::plan::ops::{self, Activation, Attention, Bias, Epilogue, HeadNorm, HeadWeight, Matmul, Rotary};
use crate::plan::{Recorder, Tensor};
use crate::shape::{Elem, Shape};
use crate::weights::{Columns, Declarations, Handle, Rows, weight_and_bias};

/// The beginning of names in files of a model with its head for words.
const WHOLE: &str = "model.";

/// In what one language model differs from another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Of the gates of feed-forward layers.
    pub activation: Activation,
    /// Heads of queries and of keys have norms.
    pub head_norms: bool,
    /// Embeddings are multiplied by the root of their width, what attention and feed-forward layers give has a norm too, and
    /// files have the weights of norms as what they are more than one.
    pub gemma: bool,
    /// What scores are multiplied by.
    pub scale: f32,
    /// The soft bound of scores.
    pub cap: Option<f32>,
}

#[derive(Debug)]
pub(super) struct CausalModel {
    config: CausalConfig,
    style: Style,
    masked: bool,
    embed_tokens: Handle,
    /// As many as are wanted.
    layers: Vec<Layer>,
    /// Of the last state, where that is wanted.
    norm: Option<RmsNorm>,
}

#[derive(Debug)]
struct Layer {
    path: String,
    input_norm: RmsNorm,
    qkv: Linear,
    /// Of queries and of keys.
    head_norms: Option<[HeadWeight; 2]>,
    o: Linear,
    attention_norm: Option<RmsNorm>,
    feed_forward_norm: RmsNorm,
    /// Its name in the file, which is another one where attention has a norm of that name.
    feed_forward_name: &'static str,
    gate_up: Linear,
    down: Linear,
    result_norm: Option<RmsNorm>,
}

/// What all layers read.
#[derive(Clone, Copy)]
struct Inputs {
    rotary: Tensor,
    mask: Option<Tensor>,
    /// Ones, where sums are recorded.
    ones: Option<Tensor>,
}

impl CausalModel {
    pub fn sizes_of(config: &CausalConfig) -> TextSizes {
        TextSizes {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            num_hidden_layers: config.num_hidden_layers,
            max_position_embeddings: None,
            projection_dim: None,
        }
    }

    pub fn declare(d: &mut Declarations, config: &CausalConfig, style: Style, usage: TextUse) -> CausalModel {
        let (first, all) = (d.specs.len(), config.num_hidden_layers);
        let depth = usage.state.and_then(|state| state.depth(all)).unwrap_or(all);
        // The final norm is of the last state, but those who leave out layers may want it of an earlier one.
        let normed = |state: HiddenState| {
            state.reads_last(all) || matches!(state, HiddenState::Last { normed: true, .. })
        };
        let model = CausalModel {
            embed_tokens: d.tokens("model.embed_tokens.weight", config.vocab_size, config.hidden_size),
            layers: (0..depth).map(|i| Layer::declare(d, config, style, i)).collect(),
            norm: usage.state.is_none_or(normed).then(|| norm(d, "model.norm", config, style)),
            config: *config,
            style,
            masked: usage.masked,
        };
        d.allow_without(first, WHOLE);
        model
    }
}

fn norm(d: &mut Declarations, path: &str, config: &CausalConfig, style: Style) -> RmsNorm {
    let (width, epsilon) = (config.hidden_size as u32, config.rms_norm_eps);
    match style.gemma {
        true => RmsNorm::from_one(d, path, width, epsilon),
        false => RmsNorm::declare(d, path, width, epsilon),
    }
}

impl TextEncoder for CausalModel {
    fn sizes(&self) -> TextSizes {
        CausalModel::sizes_of(&self.config)
    }

    fn token_embedding(&self) -> Handle {
        self.embed_tokens
    }

    fn embedding_scale(&self) -> f32 {
        if self.style.gemma { (self.config.hidden_size as f32).sqrt() } else { 1.0 }
    }

    /// Gemma 2 was trained in bfloat16, which reaches further.
    fn overflows_halves(&self) -> bool {
        self.style.gemma
    }

    fn is_masked(&self) -> bool {
        self.masked
    }

    /// Inputs: "rotary", where padding is hidden "mask", and "ones" where results have norms before they are added.
    fn record(&self, r: &mut Recorder, mut x: Tensor, wanted: HiddenState) -> (Vec<Tensor>, Option<Tensor>) {
        let all = self.config.num_hidden_layers;
        let depth = wanted.depth(all).expect("as many layers as are wanted");
        let depth = if r.target.taps { self.layers.len() } else { depth };
        let (tokens, size) = (x.shape.pixels(), self.config.head_dim as u32);
        let inputs = Inputs {
            rotary: r.input("rotary", Shape::tokens(1, tokens, size), Elem::F32),
            mask: self.masked.then(|| mask(r, x.shape)),
            ones: self.style.gemma.then(|| r.input("ones", Shape::new(x.shape.n, 1, 1, 4), Elem::F32)),
        };
        let mut states = vec![x];
        for (i, layer) in self.layers[..depth].iter().enumerate() {
            r.tap(&format!("hidden_states.{i}"), x);
            x = layer.record(r, x, &self.config, self.style, inputs);
            states.push(x);
        }
        let norm = |r: &mut Recorder, x| self.norm.as_ref().expect("a norm is declared").record(r, x);
        let ends = depth == all && (wanted.reads_last(all) || r.target.taps && self.norm.is_some());
        let last = ends.then(|| norm(r, x));
        if let Some(last) = last {
            r.tap(&format!("hidden_states.{all}"), last);
            r.tap("norm", last);
        }
        (wanted.of(all, &states, last, |state| norm(r, state)), last)
    }

    fn constants(&self, [prompts, tokens]: [usize; 2], _: &Tables) -> Vec<Input> {
        let places = (0..tokens as u32).map(|place| [place]);
        let rotary = rotary::table([self.config.head_dim], f64::from(self.config.rope_theta), places);
        let ones = self.style.gemma.then(|| ("ones", vec![1.0; 4 * prompts]));
        [("rotary", rotary)].into_iter().chain(ones).collect()
    }
}

impl Layer {
    fn declare(d: &mut Declarations, config: &CausalConfig, style: Style, i: usize) -> Layer {
        let path = format!("{WHOLE}layers.{i}");
        let (width, inner) = (config.hidden_size as u32, config.intermediate_size as u32);
        let size = config.head_dim as u32;
        let [heads, others] = [config.num_attention_heads, config.num_key_value_heads].map(|n| n as u32);
        let (attention, mlp) = (path.at("self_attn"), path.at("mlp"));
        let part = |path: String, outputs: u32, rows: Rows| {
            weight_and_bias(&path, vec![outputs as usize, width as usize], false, rows, Columns::Same)
        };
        let slabs = [("q_proj", 0, heads), ("k_proj", heads, others), ("v_proj", heads + others, others)];
        let slab = |(name, at, count): (&str, u32, u32)| {
            part(attention.at(name), count * size, Rows::From(at * size))
        };
        let qkv = slabs.into_iter().flat_map(slab).collect();
        let gate_up = [("up_proj", 0), ("gate_proj", 4)];
        let gate_up = gate_up.into_iter().flat_map(|(n, at)| part(mlp.at(n), inner, Rows::Fours(at)));
        let head_norm = |d: &mut Declarations, name: &str| HeadWeight {
            weight: d.vectors([attention.at(name).at("weight")], size),
            epsilon: config.rms_norm_eps,
            split: None,
        };
        let behind =
            |d: &mut Declarations, name: &str| style.gemma.then(|| norm(d, &path.at(name), config, style));
        let feed_forward_name =
            if style.gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        Layer {
            input_norm: norm(d, &path.at("input_layernorm"), config, style),
            qkv: Linear::fused(d, width, (heads + 2 * others) * size, qkv),
            head_norms: style.head_norms.then(|| ["q_norm", "k_norm"].map(|name| head_norm(d, name))),
            o: Linear::declare(d, &attention.at("o_proj"), heads * size, width, false),
            attention_norm: behind(d, "post_attention_layernorm"),
            feed_forward_norm: norm(d, &path.at(feed_forward_name), config, style),
            feed_forward_name,
            gate_up: Linear::fused(d, width, 2 * inner, gate_up.collect()).gated(style.activation),
            down: Linear::declare(d, &mlp.at("down_proj"), inner, width, false),
            result_norm: behind(d, "post_feedforward_layernorm"),
            path,
        }
    }

    /// `x` is `[N, tokens, hidden_size]`.
    fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        config: &CausalConfig,
        style: Style,
        inputs: Inputs,
    ) -> Tensor {
        let n = self.input_norm.record(r, x);
        self.tap(r, "input_layernorm", n);
        let y = self.attend(r, n, config, style, inputs);
        let x = self.add(r, self.o.of(y), x, inputs, "self_attn", self.attention_norm.as_ref());
        let n = self.feed_forward_norm.record(r, x);
        self.tap(r, self.feed_forward_name, n);
        let h = self.gate_up.of(n).record(r);
        let x = self.add(r, self.down.of(h), x, inputs, "mlp", self.result_norm.as_ref());
        self.tap(r, "", x);
        x
    }

    fn attend(
        &self,
        r: &mut Recorder,
        n: Tensor,
        config: &CausalConfig,
        style: Style,
        inputs: Inputs,
    ) -> Tensor {
        let size = config.head_dim as u32;
        let [heads, others] = [config.num_attention_heads, config.num_key_value_heads].map(|n| n as u32);
        let qkv = self.qkv.of(n).record(r);
        let [k_at, v_at] = [heads, heads + others].map(|head| head * size);
        let rotary = Some(Rotary { table: inputs.rotary, neighbours: false });
        let mut turned =
            |at, heads, norm| HeadNorm { x: (qkv, at), sets: 1, heads, size, norm, rotary }.record(r);
        let [q, k] = match self.head_norms {
            Some([q, k]) => [(turned(0, heads, Some(q)), 0), (turned(k_at, others, Some(k)), 0)],
            None => {
                let both = turned(0, heads + others, None);
                [(both, 0), (both, k_at)]
            }
        };
        let (shared, bias) = (heads / others, inputs.mask.map(Bias::Keys));
        let Style { scale, cap, .. } = style;
        let attention = Attention::of(q, k, (qkv, v_at), heads, size);
        Attention { causal: true, scale, cap, shared, bias, ..attention }.record(r)
    }

    /// The sum of `x` and a product, or its norm.
    fn add(
        &self,
        r: &mut Recorder,
        product: Matmul,
        x: Tensor,
        inputs: Inputs,
        name: &str,
        norm: Option<&RmsNorm>,
    ) -> Tensor {
        let (Some(norm), Some(ones)) = (norm, inputs.ones) else {
            let epilogue = Epilogue { residual: Some(x), ..Default::default() };
            return Matmul { epilogue, ..product }.record(r);
        };
        let y = product.record(r);
        self.tap(r, name, y);
        let y = norm.record(r, y);
        let behind = if name == "mlp" { "post_feedforward_layernorm" } else { "post_attention_layernorm" };
        self.tap(r, behind, y);
        ops::add(r, ones, 0, x, y)
    }

    /// Modules are told by their names in the model without a head.
    fn tap(&self, r: &mut Recorder, name: &str, t: Tensor) {
        let path = self.path.trim_start_matches(WHOLE);
        match name {
            "" => r.tap(path, t),
            name => r.tap(&path.at(name), t),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::config::Qwen3Config;
    use super::super::text::TextConfig;
    use super::*;
    use crate::plan::Target;
    use crate::quant::Format;

    #[test]
    fn rotary_positions() {
        let table = rotary::table([8], 10000.0, (0..3).map(|place| [place]));
        assert_eq!(table[..8], [1.0, 0.0].repeat(4));
        // The frequencies of pairs are 1, 1/10, 1/100 and 1/1000.
        for (pair, angle) in [2.0f64, 0.2, 0.02, 0.002].into_iter().enumerate() {
            let found = &table[16 + 2 * pair..][..2];
            assert_eq!(found, [angle.cos() as f32, angle.sin() as f32]);
        }
    }

    const SMALL: &[u8] =
        br#"{"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}"#;

    fn declare(state: Option<HiddenState>) -> (Declarations, Rc<dyn TextEncoder>) {
        let config = Qwen3Config::from_json(SMALL, "config.json").unwrap();
        let mut d = Declarations::new(Format::F32);
        let encoder = config.declare(&mut d, TextUse { state, masked: true });
        (d, encoder)
    }

    /// What is behind the last wanted state is not loaded.
    #[test]
    fn as_many_layers_are_declared_as_a_model_reads() {
        for (state, deepest, norm) in [
            (None, 3, true),
            (Some(HiddenState::LAST), 3, true),
            (Some(HiddenState::PENULTIMATE), 2, false),
            (Some(HiddenState::Behind(&[1, 2])), 1, false),
            (Some(HiddenState::Behind(&[1, 4])), 3, true),
        ] {
            let d = declare(state).0;
            let parts: Vec<_> = d.specs.iter().flat_map(|spec| &spec.parts).collect();
            assert!(parts.iter().all(|part| part.names[0] == format!("{WHOLE}{}", part.names[1])));
            let has = |begin: &str| parts.iter().any(|part| part.names[1].starts_with(begin));
            assert_eq!(has("norm.weight"), norm, "{state:?}");
            let layer = |i: usize| has(&format!("layers.{i}."));
            assert_eq!([layer(deepest), layer(deepest + 1)], [true, false], "{state:?}");
        }
    }

    #[test]
    fn the_wanted_states_are_recorded() {
        for (state, names) in [
            (HiddenState::LAST, &["norm"][..]),
            (HiddenState::PENULTIMATE, &["hidden_states.3"]),
            (HiddenState::Last { skip: 0, normed: false }, &["layers.3"]),
            (HiddenState::Behind(&[1, 3]), &["hidden_states.1", "layers.2"]),
            (HiddenState::Behind(&[0, 4]), &["hidden_states.0", "hidden_states.4"]),
        ] {
            let encoder = declare(None).1;
            let record = |taps| {
                let mut r = Recorder::new(&Target { taps, ..Target::new(Elem::F32) });
                let x = r.input("embeddings", Shape::tokens(2, 5, 16), Elem::F32);
                let (states, last) = encoder.record(&mut r, x, state);
                (states, last, r.finish())
            };
            let (states, _, plan) = record(true);
            let ids: Vec<_> = states.iter().map(|t| t.id).collect();
            assert_eq!(ids, names.iter().map(|name| plan.outputs[*name].id).collect::<Vec<_>>(), "{state:?}");
            // Nothing runs behind them.
            let (states, last, plan) = record(false);
            assert_eq!(states.len(), names.len());
            assert_eq!(last.is_some(), state.reads_last(4), "{state:?}");
            assert_eq!(plan.steps.last().unwrap().y.id, states.last().unwrap().id, "{state:?}");
        }
    }
}
