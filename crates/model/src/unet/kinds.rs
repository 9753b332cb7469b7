//! The kinds of blocks: the module after each of their resnets. A new one is a file beside `transformer.rs` and a
//! line in [`KINDS`].

use std::fmt;
use std::rc::Rc;

use super::blocks::{Inputs, Level};
use super::encoder::Parts;
use crate::plan::{Recorder, Tensor};

/// One line for each kind.
pub static KINDS: &[Kind] = &[
    Kind::new(["DownBlock2D", "UpBlock2D"], None),
    Kind::new(["CrossAttnDownBlock2D", "CrossAttnUpBlock2D"], Some(&super::transformer::POST_RESNET)),
    Kind::new(["AttnDownBlock2D", "AttnUpBlock2D"], Some(&super::self_attention::POST_RESNET)),
];

/// A kind of block.
pub struct Kind {
    /// What diffusers calls it on the way down and on the way up.
    pub names: [&'static str; 2],
    pub(super) post_resnet: Option<&'static PostResnetKind>,
}

/// How the module after a resnet is declared.
pub struct PostResnetKind {
    /// Whether it looks at the text.
    pub attends_text: bool,
    /// The channels of a head, of all channels and the entry of `attention_head_dim`.
    pub head_size: fn(usize, usize) -> usize,
    /// At this path, in a block like this.
    pub declare: fn(&mut Parts, &str, Level) -> Rc<dyn PostResnet>,
}

/// The module after a resnet: `[N, H, W, C]` to the same shape.
pub trait PostResnet: fmt::Debug {
    fn record(&self, r: &mut Recorder, x: Tensor, inputs: &Inputs) -> Tensor;
}

impl Kind {
    const fn new(names: [&'static str; 2], post_resnet: Option<&'static PostResnetKind>) -> Kind {
        Kind { names, post_resnet }
    }

    /// Resnets alone.
    pub fn plain() -> &'static Kind {
        &KINDS[0]
    }

    /// Each resnet followed by a transformer.
    pub fn cross_attention() -> &'static Kind {
        &KINDS[1]
    }

    pub fn attends_text(&self) -> bool {
        self.post_resnet.is_some_and(|post_resnet| post_resnet.attends_text)
    }

    /// The channels of a head, of all channels and the entry of `attention_head_dim`; none without attention.
    pub fn head_size(&self, width: usize, given: usize) -> Option<usize> {
        self.post_resnet.map(|post_resnet| (post_resnet.head_size)(width, given))
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        self.names == other.names
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.names[0])
    }
}
