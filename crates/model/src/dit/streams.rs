//! Two streams, of an image and of a text, that become one: FLUX's blocks.

use super::{FeedForward, JointAttention, Modulated, Single};
use crate::nn::At;
use crate::plan::ops;
use crate::plan::{Recorder, Tensor};

/// A block of two streams. The vectors of a modulation are shift, scale and gate of the attention, then of the feed-forward
/// layer.
#[derive(Clone, Debug)]
pub struct JointBlock {
    pub attn: JointAttention,
    pub ff: FeedForward,
    pub ff_context: FeedForward,
}

impl JointBlock {
    /// What image and text become, by a modulation each; `table` has the rotary positions of the text's tokens, then of the
    /// image's.
    fn record(
        &self,
        r: &mut Recorder,
        x: Tensor,
        text: Tensor,
        [image_m, text_m]: [Modulated; 2],
        table: Tensor,
    ) -> (Tensor, Tensor) {
        let (image_n, text_n) = (image_m.norm(r, x, 1, 0), text_m.norm(r, text, 1, 0));
        let [image_y, text_y] = self.attn.record(r, image_n, text_n, Some(table));
        let image = self.attn.finish_image(r, image_y, image_m.vector(2), x);
        let n = image_m.norm(r, image, 4, 3);
        let image = self.ff.record(r, n, image_m.vector(5), image);
        let text = self.attn.finish_text(r, text_y, text_m.vector(2), text);
        let n = text_m.norm(r, text, 4, 3);
        (image, self.ff_context.record(r, n, text_m.vector(5), text))
    }
}

/// Blocks of both kinds with their modulations: those of two streams, then those of one. A block of one stream is modulated by
/// shift, scale and gate.
pub struct Streams<'a> {
    pub joint: Vec<(&'a JointBlock, [Modulated; 2])>,
    pub single: Vec<(&'a Single, Modulated)>,
    /// Whether diffusers' blocks of one stream return image and text apart.
    pub apart: bool,
}

impl Streams<'_> {
    /// What becomes of all tokens, the text's first.
    pub fn record(&self, r: &mut Recorder, mut x: Tensor, mut text: Tensor, table: Tensor) -> Tensor {
        for (i, (block, modulations)) in self.joint.iter().enumerate() {
            (x, text) = block.record(r, x, text, *modulations, table);
            let path = format!("transformer_blocks.{i}");
            (x, text) = (r.tap(&path, x), r.tap(&path.at("text"), text));
        }
        let [texts, images] = [text, x].map(|t| t.shape.pixels());
        let mut x = ops::join(r, text, x);
        for (i, (block, modulation)) in self.single.iter().enumerate() {
            let n = modulation.norm(r, x, 1, 0);
            x = block.record(r, n, table, modulation.vector(2), x);
            let path = format!("single_transformer_blocks.{i}");
            if self.apart && r.target.taps {
                let (text, image) = (ops::slice(r, x, 0, texts), ops::slice(r, x, texts, images));
                r.tap(&path.at("text"), text);
                r.tap(&path, image);
            } else if !self.apart {
                x = r.tap(&path, x);
            }
        }
        x
    }
}
