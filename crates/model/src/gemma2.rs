//! Gemma 2 as a text encoder (transformers' Gemma2Model; Riviere et al., arXiv:2408.00118): norms in front of attention and
//! feed-forward layers and behind them, scores with a soft bound, feed-forward layers gated by GELU.

use std::rc::Rc;

use super::causal::{CausalModel, Style};
use super::config::Gemma2Config;
use super::text::{Kind, TextConfig, TextEncoder, TextSizes, TextUse};
use crate::plan::ops::Activation;
use crate::weights::Declarations;

pub(super) const KIND: Kind = Kind {
    classes: &["Gemma2Model", "Gemma2ForCausalLM", "gemma2"],
    config: |bytes, file| Ok(Rc::new(Gemma2Config::from_json(bytes, file)?)),
};

impl TextConfig for Gemma2Config {
    fn sizes(&self) -> TextSizes {
        CausalModel::sizes_of(&self.causal)
    }

    fn declare(&self, d: &mut Declarations, usage: TextUse) -> Rc<dyn TextEncoder> {
        let style = Style {
            activation: Activation::GeluTanh,
            head_norms: false,
            gemma: true,
            scale: 1.0 / self.query_pre_attn_scalar.sqrt(),
            cap: self.attn_logit_softcapping,
        };
        Rc::new(CausalModel::declare(d, &self.causal, style, usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Format;

    #[test]
    fn embeddings_are_as_large_as_norms_leave_states() {
        let json = br#"{"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 1}"#;
        let config = Gemma2Config::from_json(json, "config.json").unwrap();
        let encoder = config.declare(&mut Declarations::new(Format::F32), TextUse::ANY);
        assert_eq!(encoder.embedding_scale(), 8.0);
    }
}
