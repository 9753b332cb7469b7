//! CLIP's image encoder (transformers' CLIPVisionModelWithProjection): IP-Adapter's ViT-H, the safety
//! checker's ViT-L.

use super::clip::{Layer, Sizes};
use super::config::ClipVisionConfig;
use crate::nn::{At, LayerNorm, Linear};
use crate::plan::ops::{Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::shape::Shape;
use crate::weights::{Columns, Declarations, Handle, Rows, weight_and_bias};

#[derive(Clone, Debug)]
pub struct ImageEncoder {
    pub config: ClipVisionConfig,
    class_embedding: Handle,
    /// A convolution whose stride is its size, which is a product over patches.
    patch_embedding: Linear,
    position_embedding: Handle,
    pre_layrnorm: LayerNorm,
    layers: Vec<Layer>,
    post_layernorm: LayerNorm,
    visual_projection: Linear,
}

/// What an encoder makes of images, each with its class token and its patches.
#[derive(Clone, Copy, Debug)]
pub struct States {
    /// `[N, tokens, width]`, without a norm behind the last layer.
    pub last_hidden_state: Tensor,
    /// `[N, tokens, width]`, before the last layer.
    pub penultimate: Tensor,
    /// `[N, tokens, projection_dim]`; the class token's is the image's.
    pub image_embeds: Tensor,
}

impl ImageEncoder {
    /// `prefix` is "vision_model", or "vision_model.vision_model" in a safety checker.
    pub fn declare(d: &mut Declarations, prefix: &str, config: &ClipVisionConfig) -> ImageEncoder {
        let (width, patch, eps) = (config.hidden_size as u32, config.patch_size, config.layer_norm_eps);
        let first = d.specs.len();
        let embeddings = prefix.at("embeddings");
        let sizes = Sizes {
            width,
            inner: config.intermediate_size as u32,
            heads: config.num_attention_heads as u32,
            act: config.hidden_act,
            eps,
        };
        let kernel = vec![config.hidden_size, 3, patch, patch];
        let weight = embeddings.at("patch_embedding");
        let parts = weight_and_bias(&weight, kernel, false, Rows::From(0), Columns::Same);
        let positions = embeddings.at("position_embedding.weight");
        let encoder = ImageEncoder {
            class_embedding: d.table(&embeddings.at("class_embedding"), config.hidden_size, 1),
            patch_embedding: Linear::fused(d, config.patch_values() as u32, width, parts),
            position_embedding: d.table(&positions, config.tokens(), config.hidden_size),
            pre_layrnorm: LayerNorm::declare(d, &prefix.at("pre_layrnorm"), width, eps),
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::declare(d, &prefix.at("encoder.layers").at(i), sizes))
                .collect(),
            post_layernorm: LayerNorm::declare(d, &prefix.at("post_layernorm"), width, eps),
            visual_projection: Linear::declare(
                d,
                "visual_projection",
                width,
                config.projection_dim as u32,
                false,
            ),
            config: config.clone(),
        };
        // Of two modules of this name the state dictionary of transformers 5 has one.
        d.allow_without(first, "vision_model.");
        encoder
    }

    /// The tables that the CPU reads: the class token, the positions.
    pub fn tables(&self) -> [Handle; 2] {
        [self.class_embedding, self.position_embedding]
    }

    /// The shapes of the patches and of the embeddings of `images` images.
    pub fn shapes(&self, images: u32) -> [Shape; 2] {
        [self.config.patch_values(), self.config.hidden_size]
            .map(|width| Shape::tokens(images, self.config.tokens() as u32, width as u32))
    }

    /// Pixels `[N, H, W, 3]` cut into patches, `[N, tokens, 3 * patch * patch]`, each in the order of the
    /// kernel, colour by colour. The class token has no pixels: its row is zero.
    pub fn patches(&self, pixels: &[f32]) -> Vec<f32> {
        let (side, patch, grid) = (self.config.image_size, self.config.patch_size, self.config.grid());
        let mut patches = vec![];
        for picture in pixels.chunks_exact(side * side * 3) {
            patches.resize(patches.len() + self.config.patch_values(), 0.0);
            for at in 0..grid * grid {
                let (top, left) = (at / grid * patch, at % grid * patch);
                for colour in 0..3 {
                    for y in top..top + patch {
                        patches.extend((left..left + patch).map(|x| picture[(y * side + x) * 3 + colour]));
                    }
                }
            }
        }
        patches
    }

    /// What is added to the patches' products, `[N, tokens, width]`: the class token before the patches, and
    /// every token's position.
    pub fn embeddings(&self, images: usize, class: &[f32], positions: &[f32]) -> Vec<f32> {
        let mut picture = positions.to_vec();
        picture.iter_mut().zip(class).for_each(|(position, class)| *position += class);
        picture.repeat(images)
    }

    /// From [`Self::patches`] and [`Self::embeddings`]. The class token alone is projected in the reference;
    /// here all tokens are, which costs less than a kernel of its own would gain.
    pub fn record(&self, r: &mut Recorder, patches: Tensor, embeddings: Tensor) -> States {
        let epilogue = Epilogue { residual: Some(embeddings), ..Default::default() };
        let x = Matmul { epilogue, ..self.patch_embedding.of(patches) }.record(r);
        let mut x = self.pre_layrnorm.record(r, x);
        let mut penultimate = x;
        for layer in &self.layers {
            penultimate = x;
            x = layer.record(r, x, false);
        }
        let pooled = self.post_layernorm.record(r, x);
        let image_embeds = self.visual_projection.of(pooled).record(r);
        States { last_hidden_state: x, penultimate, image_embeds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Format;

    fn encoder(image: usize, patch: usize) -> ImageEncoder {
        let json = format!(
            r#"{{"hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1,
                "image_size": {image}, "patch_size": {patch}}}"#
        );
        let config = ClipVisionConfig::from_json(json.as_bytes(), "config.json").unwrap();
        ImageEncoder::declare(&mut Declarations::new(Format::F32), "vision_model", &config)
    }

    /// A pixel's values are 100 times its image, 10 times its row, its column, and a thousand a colour.
    #[test]
    fn patches_are_colour_by_colour_behind_an_empty_row() {
        let value = |n: usize, y: usize, x: usize, c: usize| (c * 1000 + n * 100 + y * 10 + x) as f32;
        // A fifth row and column are left over.
        let mut pixels = vec![];
        for n in 0..2 {
            for at in 0..25 {
                pixels.extend((0..3).map(|c| value(n, at / 5, at % 5, c)));
            }
        }
        let patches = encoder(5, 2).patches(&pixels);
        assert_eq!(patches.len(), 2 * 5 * 12);
        for n in 0..2 {
            let picture = &patches[n * 60..][..60];
            assert_eq!(picture[..12], [0.0; 12]);
            // The second patch begins in the third column, the third one in the third row.
            for (patch, (top, left)) in [(2, (0, 2)), (3, (2, 0))] {
                for c in 0..3 {
                    let wanted =
                        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| value(n, top + y, left + x, c));
                    assert_eq!(picture[patch * 12 + c * 4..][..4], wanted);
                }
            }
        }
    }

    #[test]
    fn the_class_token_is_the_first_of_every_picture() {
        let positions: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let embeddings = encoder(4, 2).embeddings(2, &[100.0, 200.0, 300.0, 400.0], &positions);
        assert_eq!(embeddings.len(), 40);
        assert_eq!(embeddings[20..24], [100.0, 201.0, 302.0, 403.0]);
        assert_eq!(embeddings[4..20], positions[4..]);
        assert_eq!(embeddings[24..], positions[4..]);
    }
}
