//! IP-Adapter: a picture as a further prompt of a U-Net. A checkpoint of its own, without a configuration,
//! gives every attention over the text keys and values of the picture.

use super::unet::{ImagePrompt, Unet};
use crate::nn::{Attention, LayerNorm, Linear, Projections};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::Declarations;

/// Tokens that a picture becomes.
const TOKENS: u32 = 4;
/// What diffusers' class has.
const LAYER_NORM_EPS: f32 = 1e-5;

#[derive(Clone, Debug)]
pub struct IpAdapter {
    image_proj: ImageProjection,
    /// Keys and values of every attention over the text, in the order of [`Unet::text_attentions`].
    contexts: Vec<Linear>,
}

impl IpAdapter {
    /// For `unet`, whose context is `width` wide, and image embeddings of `embeds` numbers. Its tensors lie
    /// in a checkpoint of their own ([`Declarations::next_source`]).
    pub fn declare(d: &mut Declarations, unet: &Unet, width: u32, embeds: u32) -> IpAdapter {
        let image_proj = ImageProjection::declare(d, width, embeds);
        // The file counts 1, 3, 5, .. through the down, the up and then the mid blocks, which we have in the
        // order that they run in. The even numbers are those of self-attention, which has nothing here.
        let mut counted: Vec<_> = unet.text_attentions().iter().enumerate().collect();
        counted.sort_by_key(|(_, (path, _))| path.starts_with("mid_block"));
        let context = |(count, &(i, &(_, heads)))| {
            let path = format!("ip_adapter.{}", 2 * count + 1);
            (i, Attention::keys_values(d, &path, width, heads, Projections::IMAGE))
        };
        let mut contexts: Vec<(usize, Linear)> = counted.iter().enumerate().map(context).collect();
        contexts.sort_by_key(|(i, _)| *i);
        IpAdapter { image_proj, contexts: contexts.into_iter().map(|(_, linear)| linear).collect() }
    }

    /// The shape of the embeddings of `images` pictures, one for each that the U-Net sees.
    pub fn shape(&self, images: u32) -> Shape {
        self.image_proj.shape(images)
    }

    /// The part that depends on the picture alone. `embeds` is `[N, 1, 1, embeds]`; `scales` and `slot` say
    /// how much the picture counts, as in [`crate::ops::add`].
    pub fn record(&self, r: &mut Recorder, embeds: Tensor, scales: Tensor, slot: u32) -> ImagePrompt {
        let tokens = self.image_proj.record(r, embeds);
        let contexts = self.contexts.iter().map(|c| c.of(tokens).record(r)).collect();
        ImagePrompt { contexts, scales, slot }
    }
}

/// Image embeddings to tokens like those of a text (diffusers' ImageProjection).
#[derive(Clone, Debug)]
pub struct ImageProjection {
    proj: Linear,
    norm: LayerNorm,
    embeds: u32,
}

impl ImageProjection {
    /// `width` is that of the U-Net's context.
    pub fn declare(d: &mut Declarations, width: u32, embeds: u32) -> ImageProjection {
        assert!(width.is_multiple_of(4), "a context of {width}");
        ImageProjection {
            proj: Linear::declare(d, "image_proj.proj", embeds, TOKENS * width, true),
            norm: LayerNorm::declare(d, "image_proj.norm", width, LAYER_NORM_EPS),
            embeds,
        }
    }

    /// The shape of the embeddings of `images` pictures.
    pub fn shape(&self, images: u32) -> Shape {
        Shape::new(images, 1, 1, self.embeds)
    }

    /// `[N, 1, 1, embeds]` to tokens, `[N, 4, width]`.
    pub fn record(&self, r: &mut Recorder, embeds: Tensor) -> Tensor {
        let x = self.proj.of(embeds).record(r);
        let tokens = x.viewed(Shape::tokens(x.shape.n, TOKENS, x.shape.c / TOKENS));
        self.norm.record(r, tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::UnetConfig;
    use crate::quant::Format;

    /// One attention in a down block, two in an up block, one in the middle, which is twice as wide.
    #[test]
    fn the_file_counts_the_mid_block_last() {
        let json = r#"{"block_out_channels": [8, 16], "layers_per_block": 1, "attention_head_dim": 2,
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 4,
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 12}"#;
        let config = UnetConfig::from_json(json.as_bytes(), "config.json").unwrap();
        let mut d = Declarations::new(Format::F32);
        let unet = Unet::declare(&mut d, &config);
        d.next_source();
        let adapter = IpAdapter::declare(&mut d, &unet, 12, 20);
        let paths: Vec<&str> =
            unet.text_attentions().iter().map(|(p, _)| p.split('.').next().unwrap()).collect();
        assert_eq!(paths, ["down_blocks", "mid_block", "up_blocks", "up_blocks"]);
        let outputs: Vec<u32> = adapter.contexts.iter().map(|c| c.outputs).collect();
        assert_eq!(outputs, [16, 32, 16, 16]);
        let parts = d.specs.iter().filter(|s| s.source == 1).flat_map(|s| &s.parts);
        let keys = parts.filter(|p| p.names[0].ends_with("to_k_ip.weight"));
        let keys: Vec<(&str, &[usize])> = keys.map(|p| (p.names[0].as_str(), &p.shape[..])).collect();
        let wanted: [(&str, &[usize]); 4] = [
            ("ip_adapter.1.to_k_ip.weight", &[8, 12]),
            ("ip_adapter.3.to_k_ip.weight", &[8, 12]),
            ("ip_adapter.5.to_k_ip.weight", &[8, 12]),
            ("ip_adapter.7.to_k_ip.weight", &[16, 12]),
        ];
        assert_eq!(keys, wanted);
    }
}
