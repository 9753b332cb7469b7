//! Text encoders, from the embeddings of tokens to hidden states. A file each, and a row in [`KINDS`].

use std::fmt::Debug;
use std::rc::Rc;

use super::config::Reader;
use super::denoiser::{Input, Tables};
use super::{clip, gemma2, qwen3, t5};
use crate::plan::{Recorder, Tensor};
use crate::shape::{Elem, Shape};
use crate::weights::{Declarations, Handle};

/// A text encoder whose weights are declared.
pub trait TextEncoder: Debug {
    fn sizes(&self) -> TextSizes;

    /// The table `[vocab_size, hidden_size]`, gathered from on the CPU.
    fn token_embedding(&self) -> Handle;

    /// What the rows of that table are multiplied by.
    fn embedding_scale(&self) -> f32 {
        1.0
    }

    /// The table `[max_position_embeddings, hidden_size]`, added to it there, if there is one.
    fn position_embedding(&self) -> Option<Handle> {
        None
    }

    /// Whether values may exceed halves, so that it runs in f32.
    fn overflows_halves(&self) -> bool {
        false
    }

    /// Whether diffusers' `clip_skip` counts for it.
    fn leaves_out_layers(&self) -> bool {
        false
    }

    /// Whether its plans have the input [`MASK`].
    fn is_masked(&self) -> bool {
        false
    }

    /// What never changes between runs over so many prompts of so many tokens.
    fn constants(&self, _: [usize; 2], _: &Tables) -> Vec<Input> {
        vec![]
    }

    /// `x` is the sum of both, `[N, tokens, hidden_size]`. Returns the wanted states, and the last one behind the final
    /// norm unless nothing needs it: it is what is pooled.
    fn record(&self, r: &mut Recorder, x: Tensor, wanted: HiddenState) -> (Vec<Tensor>, Option<Tensor>);

    /// The matrix `[projection_dim, hidden_size]` behind the pooled state, applied on the CPU: it is one vector a prompt.
    fn text_projection(&self) -> Option<Handle> {
        None
    }

    /// The position of the token whose state is pooled, if one is.
    fn pooled_token(&self, _ids: &[u32]) -> Option<usize> {
        None
    }
}

/// The input that hides padding, `[N, 1, 1, tokens]`, the tokens padded to fours: zero, or
/// [`HIDDEN`](crate::plan::ops::HIDDEN) for those that no other token sees.
pub const MASK: &str = "mask";

/// That input for embeddings of this shape.
pub(super) fn mask(r: &mut Recorder, x: Shape) -> Tensor {
    r.input(MASK, Shape::new(x.n, 1, 1, x.pixels().next_multiple_of(4)), Elem::F32)
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

/// Which states of the text condition a denoiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenState {
    /// The last one.
    Last {
        /// Layers at the end that are left out.
        skip: usize,
        /// Whether the final norm follows.
        normed: bool,
    },
    /// Those behind so many layers each, side by side on channels: transformers' `hidden_states` of these places.
    Behind(&'static [usize]),
}

impl HiddenState {
    /// Of SD 1.x and 2.x; there diffusers' `clip_skip` is `skip`.
    pub const LAST: HiddenState = HiddenState::Last { skip: 0, normed: true };
    /// Of SDXL; there `clip_skip` adds to `skip`.
    pub const PENULTIMATE: HiddenState = HiddenState::Last { skip: 1, normed: false };

    /// Layers that an encoder has at least for it.
    pub fn least(self) -> usize {
        match self {
            HiddenState::Last { skip, .. } => skip,
            HiddenState::Behind(places) => places.iter().max().copied().unwrap_or(0),
        }
    }

    /// Layers that an encoder of so many runs for it; none if it has too few.
    pub fn depth(self, layers: usize) -> Option<usize> {
        let least = self.least();
        let depth = if let HiddenState::Behind(_) = self { least } else { layers.saturating_sub(least) };
        (least <= layers).then_some(depth)
    }

    /// The state that so many more layers at the end are left out for; none where that is not a number of layers.
    pub fn without(self, more: usize) -> Option<HiddenState> {
        match self {
            HiddenState::Last { skip, normed } => Some(HiddenState::Last { skip: skip + more, normed }),
            HiddenState::Behind(_) => (more == 0).then_some(self),
        }
    }

    /// Whether one of an encoder of so many layers is the last state behind the norm.
    pub fn reads_last(self, layers: usize) -> bool {
        match self {
            HiddenState::Last { .. } => self == HiddenState::LAST,
            HiddenState::Behind(places) => places.contains(&layers),
        }
    }

    /// The wanted ones of an encoder of so many layers. `states` are those behind none, one and more of them, as far as they
    /// are needed; `last` is the last one behind the norm, where it is wanted.
    pub(super) fn of(
        self,
        layers: usize,
        states: &[Tensor],
        last: Option<Tensor>,
        norm: impl FnOnce(Tensor) -> Tensor,
    ) -> Vec<Tensor> {
        let last = last.filter(|_| self.reads_last(layers));
        match self {
            HiddenState::Last { skip, normed } => {
                let state = last.unwrap_or(states[layers - skip]);
                vec![if normed && last.is_none() { norm(state) } else { state }]
            }
            HiddenState::Behind(places) => {
                let at = |place: &usize| last.filter(|_| *place == layers).unwrap_or(states[*place]);
                places.iter().map(at).collect()
            }
        }
    }
}

/// What a model does with a text encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextUse {
    /// What it reads, so that layers behind that need not be there; nothing where any state may be asked for.
    pub state: Option<HiddenState>,
    /// Whether padding is hidden from other tokens, for encoders that can.
    pub masked: bool,
}

impl TextUse {
    pub const ANY: TextUse = TextUse { state: None, masked: false };
}

/// The configuration of a text encoder.
pub trait TextConfig: Debug {
    fn sizes(&self) -> TextSizes;

    fn declare(&self, d: &mut Declarations, usage: TextUse) -> Rc<dyn TextEncoder>;
}

/// A kind of text encoder.
pub struct Kind {
    /// Its classes and model types, as transformers' `config.json` has them in `architectures` and `model_type`.
    pub classes: &'static [&'static str],
    pub config: Reader<dyn TextConfig>,
}

pub static KINDS: [&Kind; 4] = [&clip::KIND, &t5::KIND, &qwen3::KIND, &gemma2::KIND];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_layers_run_as_a_state_needs() {
        let three = HiddenState::Behind(&[9, 18, 27]);
        for (state, layers, depth) in [
            (HiddenState::LAST, 3, Some(3)),
            (HiddenState::PENULTIMATE, 36, Some(35)),
            (HiddenState::PENULTIMATE, 1, Some(0)),
            (HiddenState::PENULTIMATE, 0, None),
            (three, 36, Some(27)),
            (three, 27, Some(27)),
            (three, 26, None),
        ] {
            assert_eq!(state.depth(layers), depth, "{state:?} of {layers}");
        }
        assert_eq!([three.reads_last(27), three.reads_last(36)], [true, false]);
        assert_eq!(three.without(1), None);
        let skipped = HiddenState::Last { skip: 3, normed: false };
        assert_eq!(HiddenState::PENULTIMATE.without(2), Some(skipped));
    }
}
