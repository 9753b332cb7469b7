//! Text encoders, from the embeddings of tokens to hidden states. A file each, and a row in [`KINDS`].

use std::fmt::Debug;
use std::rc::Rc;

use super::config::Reader;
use super::denoiser::{Input, Tables};
use super::{clip, t5};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::{Declarations, Handle};

/// A text encoder whose weights are declared.
pub trait TextEncoder: Debug {
    fn sizes(&self) -> TextSizes;

    /// The table `[vocab_size, hidden_size]`, gathered from on the CPU.
    fn token_embedding(&self) -> Handle;

    /// The table `[max_position_embeddings, hidden_size]`, added to it there, if there is one.
    fn position_embedding(&self) -> Option<Handle> {
        None
    }

    /// Whether values may exceed halves, so that it runs in f32.
    fn overflows_halves(&self) -> bool {
        false
    }

    /// Whether a state before the last may be wanted of it.
    fn leaves_out_layers(&self) -> bool {
        true
    }

    /// What never changes between runs over so many tokens.
    fn constants(&self, _tokens: usize, _: &Tables) -> Vec<Input> {
        vec![]
    }

    /// `x` is the sum of both, `[N, tokens, hidden_size]`. Returns the wanted state, and the last one behind the final
    /// norm unless nothing needs it: it is what is pooled.
    fn record(&self, r: &mut Recorder, x: Tensor, wanted: HiddenState) -> (Tensor, Option<Tensor>);

    /// The matrix `[projection_dim, hidden_size]` behind the pooled state, applied on the CPU: it is one vector a prompt.
    fn text_projection(&self) -> Option<Handle> {
        None
    }

    /// The position of the token whose state is pooled, if one is.
    fn pooled_token(&self, _ids: &[u32]) -> Option<usize> {
        None
    }
}

/// Sizes of a text encoder, under the names of its `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSizes {
    /// Ids of learned tokens follow these.
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    /// Tokens that are read at a time, where the encoder says so; or else as many as the tokenizer makes.
    pub max_position_embeddings: Option<usize>,
    /// Width of the projected pooled state, for an encoder that has one.
    pub projection_dim: Option<usize>,
}

impl TextSizes {
    /// The shape of the embeddings of so many prompts of so many tokens.
    pub fn shape(&self, prompts: u32, tokens: u32) -> Shape {
        Shape::tokens(prompts, tokens, self.hidden_size as u32)
    }
}

/// Which state of the text conditions a denoiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenState {
    /// Layers at the end that are left out, fewer than there are.
    pub skip: usize,
    /// Whether the final norm follows.
    pub normed: bool,
}

impl HiddenState {
    /// Of SD 1.x and 2.x; there diffusers' `clip_skip` is `skip`.
    pub const LAST: HiddenState = HiddenState { skip: 0, normed: true };
    /// Of SDXL; there `clip_skip` adds to `skip`.
    pub const PENULTIMATE: HiddenState = HiddenState { skip: 1, normed: false };
}

/// The configuration of a text encoder.
pub trait TextConfig: Debug {
    fn sizes(&self) -> TextSizes;

    fn declare(&self, d: &mut Declarations) -> Rc<dyn TextEncoder>;
}

/// A kind of text encoder.
pub struct Kind {
    /// Its classes and model types, as transformers' `config.json` has them in `architectures` and `model_type`.
    pub classes: &'static [&'static str],
    pub config: Reader<dyn TextConfig>,
}

pub static KINDS: [&Kind; 2] = [&clip::KIND, &t5::KIND];
