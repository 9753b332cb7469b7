//! What `config.json` says of any causal language model that reads prompts.

use serde_json::{Value, json};

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// No pipeline gives a text encoder more tokens: a sliding window of as many changes nothing.
const MOST_TOKENS: usize = 2048;

/// What transformers' `Qwen3Config` and `Gemma2Config` have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CausalConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Heads of keys and values, which as many heads of queries share.
    pub num_key_value_heads: usize,
    /// Channels of a head; heads together need not be as wide as the model.
    pub head_dim: usize,
    pub rms_norm_eps: f32,
    /// The longest period of rotary positions, in places over 2 pi.
    pub rope_theta: f32,
}

impl CausalConfig {
    /// What a file says, where absent keys are as in `usual`.
    pub(super) fn read(f: &Fields, file: &str, usual: CausalConfig) -> Result<CausalConfig> {
        f.only("attention_bias", json!(false))?;
        let heads = f.count("num_attention_heads", usual.num_attention_heads)?;
        let shared = match f.get("num_key_value_heads") {
            Some(Value::Null) => heads,
            _ => f.count("num_key_value_heads", usual.num_key_value_heads)?,
        };
        let config = CausalConfig {
            vocab_size: f.count("vocab_size", usual.vocab_size)?,
            hidden_size: f.count("hidden_size", usual.hidden_size)?,
            intermediate_size: f.count("intermediate_size", usual.intermediate_size)?,
            num_hidden_layers: f.count("num_hidden_layers", usual.num_hidden_layers)?,
            num_attention_heads: heads,
            num_key_value_heads: shared,
            head_dim: f.count("head_dim", usual.head_dim)?,
            rms_norm_eps: f.positive("rms_norm_eps", usual.rms_norm_eps)?,
            rope_theta: rope_theta(f, file, usual.rope_theta)?,
        };
        f.check_depth("num_hidden_layers", config.num_hidden_layers)?;
        if !heads.is_multiple_of(shared) {
            let wanted = format!("a number of which num_attention_heads, {heads}, is a multiple");
            return Err(f.wrong("num_key_value_heads", &wanted));
        }
        // Halves of a head are turned, in fours.
        if !config.head_dim.is_multiple_of(8) || config.head_dim > MAX_HEAD {
            return Err(f.unsupported("head_dim", &format!("a multiple of 8, at most {MAX_HEAD}")));
        }
        let widths = [("hidden_size", config.hidden_size), ("intermediate_size", config.intermediate_size)];
        for (key, value) in widths {
            if !value.is_multiple_of(4) {
                return Err(f.unsupported(key, "a multiple of 4"));
            }
        }
        Ok(config)
    }
}

/// The period of rotary positions: transformers 5 writes it into `rope_parameters`, versions before it beside
/// `rope_scaling`. Positions that are scaled are refused.
fn rope_theta(f: &Fields, file: &str, usual: f32) -> Result<f32> {
    let mut theta = f.positive("rope_theta", usual)?;
    for key in ["rope_scaling", "rope_parameters"] {
        if matches!(f.get(key), None | Some(Value::Null)) {
            continue;
        }
        let named = format!("{file}: {key}");
        let rope = f.object(key, &named)?;
        rope.one_of("rope_type", &["default"])?;
        rope.one_of("type", &["default"])?;
        rope.only("partial_rotary_factor", json!(1.0))?;
        theta = rope.positive("rope_theta", theta)?;
    }
    Ok(theta)
}

/// Refuses layers that see a window of tokens only, where a prompt may be longer: those of other types than
/// `full_attention`, and, where no types are listed, some if `slides`.
pub(super) fn refuse_windows(f: &Fields, slides: bool, usual: Option<usize>) -> Result<()> {
    let window = match f.get("sliding_window") {
        None => usual,
        Some(_) => f.optional_count("sliding_window")?,
    };
    let slides = match f.get("layer_types") {
        None | Some(Value::Null) => slides,
        Some(types) => {
            let types = types.as_array().ok_or_else(|| f.wrong("layer_types", "a list of names"))?;
            let known = ["full_attention", "sliding_attention"];
            if types.iter().any(|name| !name.as_str().is_some_and(|name| known.contains(&name))) {
                return Err(f.unsupported("layer_types", &known.join(" or ")));
            }
            types.iter().any(|name| name == known[1])
        }
    };
    match window {
        Some(window) if slides && window < MOST_TOKENS => {
            Err(f.unsupported("sliding_window", &format!("{MOST_TOKENS} or more, or null")))
        }
        _ => Ok(()),
    }
}
