//! IP-Adapter: an image as a further prompt of a U-Net. A checkpoint of its own, without a configuration,
//! gives every attention over the text keys and values of the image.

mod projection;
mod resampler;

pub use projection::ImageProjection;

use super::config::{ClipVisionConfig, IpAdapterConfig};
use super::unet::{ImagePrompt, Unet};
use crate::nn::{Attention, Linear, Projections};
use crate::plan::{Recorder, Tensor};
use crate::weights::Declarations;

#[derive(Clone, Debug)]
pub struct IpAdapter {
    pub config: IpAdapterConfig,
    pub image_proj: ImageProjection,
    /// Keys and values of every attention over the text, in the order of [`Unet::text_attentions`].
    contexts: Vec<Linear>,
}

impl IpAdapter {
    /// For `unet`, whose context is `width` wide, and what `encoder` makes of an image. Its tensors lie in a
    /// checkpoint of their own ([`Declarations::next_source`]).
    pub fn declare(
        d: &mut Declarations,
        unet: &Unet,
        width: u32,
        config: IpAdapterConfig,
        encoder: &ClipVisionConfig,
    ) -> IpAdapter {
        let image_proj = ImageProjection::declare(d, width, config, encoder);
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
        IpAdapter { config, image_proj, contexts: contexts.into_iter().map(|(_, linear)| linear).collect() }
    }

    /// The part that depends on the image alone. `seen` and `latents` are what [`ImageProjection::record`] takes, of
    /// each image that the U-Net sees; `scales` and `slot` say how much it counts, as in [`crate::plan::ops::add`].
    pub fn record(
        &self,
        r: &mut Recorder,
        seen: Tensor,
        latents: Option<Tensor>,
        scales: Tensor,
        slot: u32,
    ) -> ImagePrompt {
        let tokens = self.image_proj.record(r, seen, latents);
        let contexts = self.contexts.iter().map(|c| c.of(tokens).record(r)).collect();
        ImagePrompt { contexts, scales, slot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UnetConfig;
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
        let encoder = ClipVisionConfig::from_json(br#"{"projection_dim": 20}"#, "config.json").unwrap();
        let adapter = IpAdapter::declare(&mut d, &unet, 12, IpAdapterConfig::Plain, &encoder);
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
