//! `config.json` of a ControlNet: diffusers' `ControlNetModel`.

use serde_json::json;

use super::fields::Fields;
use super::{TextTime, UnetConfig};
use crate::error::{Error, Result};

/// A copy of a U-Net's down path and mid block, and a small network for an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlNetConfig {
    /// What it has in common with a U-Net: everything before the up blocks.
    pub encoder: UnetConfig,
    /// Of the image.
    pub conditioning_channels: usize,
    /// Widths of the image's network, 1 to 8, from the image inwards.
    pub conditioning_embedding_out_channels: Vec<usize>,
}

/// Of what shapes tell.
const MAX_WIDTH: usize = 1 << 20;
const MAX_LEVELS: usize = 8;

impl ControlNetConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("ControlNetModel")?;
        f.only("controlnet_conditioning_channel_order", json!("rgb"))?;
        f.only("global_pool_conditions", json!(false))?;
        let encoder = UnetConfig::read(&f, false)?;
        if !encoder.mid_block {
            return Err(f.unsupported("mid_block_type", "UNetMidBlock2D or UNetMidBlock2DCrossAttn"));
        }
        Ok(ControlNetConfig {
            encoder,
            conditioning_channels: f.count("conditioning_channels", 3)?,
            conditioning_embedding_out_channels: f
                .levels("conditioning_embedding_out_channels", &[16, 32, 96, 256])?,
        })
    }

    /// Of a ControlNet without a configuration: `shape` gives that of a tensor by diffusers' name, `context` the width of
    /// what it attends to. What no shape tells is as in the U-Net that it is a copy of.
    pub fn of_copy<'s>(
        unet: &UnetConfig,
        shape: impl Fn(&str) -> Option<&'s [usize]>,
        context: Option<usize>,
        file: &str,
    ) -> Result<Self> {
        let sides = |name: &str| match shape(&format!("{name}.weight")) {
            Some(&[outputs, inputs, ..]) if [outputs, inputs].iter().all(|n| (1..=MAX_WIDTH).contains(n)) => {
                Some([outputs, inputs])
            }
            _ => None,
        };
        let block = |i: usize| sides(&format!("controlnet_cond_embedding.blocks.{i}"));
        let first = sides("controlnet_cond_embedding.conv_in").zip(sides("conv_in"));
        let Some(([width, conditioning_channels], [_, in_channels])) = first else {
            return Err(Error::model(format!(
                "{file}: wanted conv_in and controlnet_cond_embedding.conv_in of a ControlNet, found them with other shapes"
            )));
        };
        let halving = (0..2 * MAX_LEVELS).map_while(block).skip(1).step_by(2).map(|[outputs, _]| outputs);
        let inputs = sides("add_embedding.linear_1").map(|[_, inputs]| inputs);
        let size_features = unet.text_time.map_or(256, |t| t.size_features);
        let encoder = UnetConfig {
            in_channels,
            up_blocks: vec![],
            mid_block: true,
            cross_attention_dim: context.unwrap_or(unet.cross_attention_dim),
            time_cond_proj_dim: None,
            text_time: inputs.map(|inputs| TextTime { size_features, inputs }),
            ..unet.clone()
        };
        Ok(ControlNetConfig {
            encoder,
            conditioning_channels,
            conditioning_embedding_out_channels: [width].into_iter().chain(halving).collect(),
        })
    }

    /// Pixels of the image for each latent, along one side. It must be that of the model's autoencoder.
    pub fn spatial_factor(&self) -> usize {
        1 << (self.conditioning_embedding_out_channels.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{InvalidModel, Unsupported};
    use crate::unet::Kind;

    fn parse(json: &str) -> Result<ControlNetConfig> {
        ControlNetConfig::from_json(json.as_bytes(), "controlnet/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let unet = UnetConfig::from_json(b"{}", "unet/config.json").unwrap();
        let wanted = ControlNetConfig {
            encoder: UnetConfig { up_blocks: vec![], ..unet },
            conditioning_channels: 3,
            conditioning_embedding_out_channels: vec![16, 32, 96, 256],
        };
        assert_eq!(parse("{}").unwrap(), wanted);
        let named = r#"{"_class_name": "ControlNetModel", "controlnet_conditioning_channel_order": "rgb",
            "global_pool_conditions": false, "addition_embed_type_num_heads": 64, "class_embed_type": null}"#;
        assert_eq!(parse(named).unwrap(), wanted);
        assert_eq!(wanted.spatial_factor(), 8);
    }

    #[test]
    fn values_are_read() {
        // Up blocks are no key of the class.
        let json = r#"{"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D"], "attention_head_dim": [2, 4], "cross_attention_dim": 48,
            "conditioning_channels": 1, "conditioning_embedding_out_channels": [6, 10, 12]}"#;
        let config = parse(json).unwrap();
        assert_eq!(config.encoder.block_out_channels, [32, 64]);
        assert_eq!(config.encoder.down_blocks, [Kind::plain(), Kind::cross_attention()]);
        assert_eq!(config.encoder.heads, [2, 4]);
        assert_eq!(config.encoder.cross_attention_dim, 48);
        assert_eq!(config.conditioning_channels, 1);
        assert_eq!(config.conditioning_embedding_out_channels, [6, 10, 12]);
        assert_eq!(config.spatial_factor(), 4);
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (key, value) in [
            ("_class_name", r#""UNet2DConditionModel""#),
            ("controlnet_conditioning_channel_order", r#""bgr""#),
            ("global_pool_conditions", "true"),
            ("mid_block_type", "null"),
            ("class_embed_type", r#""timestep""#),
        ] {
            let e = parse(&format!(r#"{{"{key}": {value}}}"#)).unwrap_err();
            assert_eq!(e.code, Unsupported, "{key}: {e}");
            for word in [key, value, "controlnet/config.json", "supported is"] {
                assert!(e.message.contains(word), "{word} is missing: {e}");
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (json, words) in [
            (r#"{"conditioning_embedding_out_channels": []}"#, "conditioning_embedding_out_channels is []"),
            (r#"{"conditioning_channels": 0}"#, "conditioning_channels is 0"),
            (r#"{"block_out_channels": [320, 640]}"#, "down_block_types"),
        ] {
            let e = parse(json).unwrap_err();
            assert_eq!(e.code, InvalidModel, "{json}: {e}");
            assert!(e.message.contains(words) && e.message.contains("controlnet/config.json"), "{e}");
        }
    }
}
