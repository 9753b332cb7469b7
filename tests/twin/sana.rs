//! SANA's networks as a whole on the CPU against their twins.

use tintype::model::config::{SanaConfig, VaeConfig};
use tintype::model::denoiser::{Job, denoise_plan};
use tintype::model::sana::SanaTransformer;
use tintype::pipeline::{Network, vae_plan};
use tintype::quant::Format;
use tintype::shape::Elem;

use super::networks::{check, target};
use crate::harness::Bench;

/// Heads of the cross attention and halves of the feed-forward layer that are no multiple of four.
const TRANSFORMER: &str = r#"{"num_layers": 2, "num_attention_heads": 5, "attention_head_dim": 12,
    "num_cross_attention_heads": 2, "cross_attention_head_dim": 30, "cross_attention_dim": 60, "caption_channels": 40,
    "qk_norm": "rms_norm_across_heads", "guidance_embeds": true, "in_channels": 8, "out_channels": 8}"#;

/// Without norms of queries and keys and without guidance, with biases and patches.
const PLAIN: &str = r#"{"num_layers": 1, "num_attention_heads": 3, "attention_head_dim": 8,
    "num_cross_attention_heads": 2, "cross_attention_head_dim": 12, "cross_attention_dim": 24, "caption_channels": 16,
    "attention_bias": true, "patch_size": 2, "mlp_ratio": 3, "in_channels": 8, "out_channels": 8}"#;

const AUTOENCODER: &str = r#"{"_class_name": "AutoencoderDC", "attention_head_dim": 8, "latent_channels": 8,
    "encoder_block_out_channels": [8, 16, 32], "decoder_block_out_channels": [8, 8, 32],
    "encoder_layers_per_block": [1, 1, 1], "decoder_layers_per_block": [1, 2, 1],
    "encoder_block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"],
    "decoder_block_types": ["ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
    "encoder_qkv_multiscales": [[], [], [5]], "decoder_qkv_multiscales": [[], [], [5]],
    "upsample_block_type": "interpolate", "downsample_block_type": "Conv"}"#;

#[test]
fn transformers() {
    for (json, size) in [(TRANSFORMER, [3, 5]), (PLAIN, [4, 6])] {
        let config = SanaConfig::from_json(json.as_bytes(), "transformer").unwrap();
        let mut bench = Bench::new(Elem::F32, Format::F32);
        let network = SanaTransformer::declare(&mut bench.d, &config);
        let job = Job { images: 1, guided: true, size, tokens: 7, ..Job::default() };
        check("SANA", bench, denoise_plan(&network, &target(), job));
    }
}

#[test]
fn autoencoders() {
    let config = VaeConfig::from_json(AUTOENCODER.as_bytes(), "vae").unwrap();
    for (declare, size) in [(Network::decoder as fn(&mut _, &_) -> _, [3, 2]), (Network::encoder, [8, 12])] {
        let mut bench = Bench::new(Elem::F32, Format::Q8);
        let network = declare(&mut bench.d, &config);
        check("AutoencoderDC", bench, vae_plan(&network, &config, &target(), 2, size));
    }
}
