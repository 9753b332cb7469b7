//! Qwen3 as a text encoder (transformers' Qwen3Model; Yang et al., arXiv:2505.09388): heads of queries and keys have norms
//! of their own in front of rotary positions, feed-forward layers are gated by SiLU.

use std::rc::Rc;

use super::causal::{CausalModel, Style};
use super::config::Qwen3Config;
use super::text::{Kind, TextConfig, TextEncoder, TextSizes, TextUse};
use crate::plan::ops::Activation;
use crate::weights::Declarations;

pub(super) const KIND: Kind = Kind {
    classes: &["Qwen3ForCausalLM", "Qwen3Model", "qwen3"],
    config: |bytes, file| Ok(Rc::new(Qwen3Config::from_json(bytes, file)?)),
};

impl TextConfig for Qwen3Config {
    fn sizes(&self) -> TextSizes {
        CausalModel::sizes_of(&self.0)
    }

    fn declare(&self, d: &mut Declarations, usage: TextUse) -> Rc<dyn TextEncoder> {
        let style = Style {
            activation: Activation::Silu,
            head_norms: true,
            gemma: false,
            scale: 1.0 / (self.0.head_dim as f32).sqrt(),
            cap: None,
        };
        Rc::new(CausalModel::declare(d, &self.0, style, usage))
    }
}
