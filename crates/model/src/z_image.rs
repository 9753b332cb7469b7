//! The denoiser of Z-Image (diffusers' ZImageTransformer2DModel): image and text are refined apart, then all tokens run
//! through blocks of one stream (Z-Image Team, arXiv:2511.22699).

mod block;

use std::iter::repeat_n;
use std::rc::Rc;

use crate::config::ZImageConfig;
use crate::denoiser::{
    self, Conditions, Denoiser, DenoiserConfig, DenoiserSizes, Input, Job, Kind, Recorded, Tables,
};
use crate::dit::{self, EPSILON, FEATURES, Modulated, TwoLinears, rotary};
use crate::nn::{Linear, RmsNorm};
use crate::plan::ops::{self, Activation, Epilogue, HIDDEN, NormKind};
use crate::plan::{Recorder, Tensor};
use crate::quant::Format;
use crate::shape::{Elem, Shape};
use crate::weights::{Columns, Declarations, Handle, Layout, Part, Role, Rows, weight_and_bias};
use block::{Block, Places};

pub(super) const KIND: Kind = Kind {
    classes: &["ZImageTransformer2DModel"],
    config: |bytes, file| Ok(Rc::new(ZImageConfig::from_json(bytes, file)?)),
};

/// Latents of a token along a side.
const PATCH: u32 = 2;
/// Both sequences are filled up to a multiple of so many tokens, with learned ones that other tokens see.
const MULTIPLE: u32 = 32;
/// Inner width of the vector of a timestep.
const TIME_INNER: u32 = 1024;
/// What an added bias and an added token that fills up are called among inputs.
const ADDED: [&str; 2] = ["text_bias", "text_pad"];

#[derive(Clone, Debug)]
pub struct ZImageTransformer {
    config: ZImageConfig,
    x_embedder: Linear,
    t_embedder: TwoLinears,
    cap_norm: RmsNorm,
    cap_embedder: Linear,
    /// What is added to tokens of the text behind the embedder: its bias, or else a learned token where there is none.
    cap_added: [Handle; 2],
    x_pad: Handle,
    noise_refiner: Vec<Block>,
    context_refiner: Vec<Block>,
    layers: Vec<Block>,
    /// The scale in front of the last layer.
    final_scale: Linear,
    final_linear: Linear,
}

impl DenoiserConfig for ZImageConfig {
    fn sizes(&self) -> DenoiserSizes {
        DenoiserSizes {
            in_channels: self.in_channels,
            out_channels: self.in_channels,
            // The configuration does not say; diffusers' pipeline draws 1024 pixels.
            sample_size: Some(128),
            patch: PATCH as usize,
            pixels: 8,
            cross_attention_dim: self.cap_feat_dim,
            pooled: None,
            embeds_guidance: false,
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        KIND.classes
    }

    fn folder(&self) -> &'static str {
        "transformer"
    }

    fn declare(&self, d: &mut Declarations) -> Box<dyn Denoiser> {
        Box::new(ZImageTransformer::declare(d, self))
    }
}

impl ZImageTransformer {
    pub fn declare(d: &mut Declarations, config: &ZImageConfig) -> ZImageTransformer {
        let (width, told) = (config.dim as u32, config.time_dim() as u32);
        let (caption, square) = (config.cap_feat_dim as u32, PATCH * PATCH * config.in_channels as u32);
        let linear = |d: &mut Declarations, path: &str, inputs: u32, outputs: u32| {
            d.sensitive(|d| Linear::declare(d, path, inputs, outputs, true))
        };
        let blocks = |d: &mut Declarations, name: &str, count: usize, modulated: bool| {
            let block = |i| Block::declare(d, config, format!("{name}.{i}"), modulated);
            (0..count).map(block).collect()
        };
        let shape = vec![config.dim, config.cap_feat_dim];
        let embedder = weight_and_bias("cap_embedder.1", shape, false, Rows::From(0), Columns::Same);
        let bias = Part {
            names: vec!["cap_embedder.1.bias".to_owned()],
            shape: vec![config.dim],
            role: Role::Table,
        };
        let bias_layout = Layout::Table { format: Format::F32, rows: config.dim, width: 1 };
        ZImageTransformer {
            x_embedder: linear(d, "all_x_embedder.2-1", square, width),
            t_embedder: TwoLinears::of([
                linear(d, "t_embedder.mlp.0", FEATURES, TIME_INNER),
                linear(d, "t_embedder.mlp.2", TIME_INNER, told),
            ]),
            cap_norm: RmsNorm::declare(d, "cap_embedder.0", caption, config.norm_eps),
            cap_embedder: d.sensitive(|d| Linear::fused(d, caption, width, embedder)),
            cap_added: [d.add(bias_layout, vec![bias]), d.table("cap_pad_token", 1, config.dim)],
            x_pad: d.table("x_pad_token", 1, config.dim),
            noise_refiner: blocks(d, "noise_refiner", config.n_refiner_layers, true),
            context_refiner: blocks(d, "context_refiner", config.n_refiner_layers, false),
            layers: blocks(d, "layers", config.n_layers, true),
            final_scale: linear(d, "all_final_layer.2-1.adaLN_modulation.1", told, width),
            final_linear: linear(d, "all_final_layer.2-1.linear", width, square),
            config: config.clone(),
        }
    }

    /// The text's tokens as blocks see them, not yet refined.
    fn caption(&self, r: &mut Recorder, rows: u32, texts: u32) -> Tensor {
        let width = self.config.dim as u32;
        let text = Shape::tokens(rows, texts, self.config.cap_feat_dim as u32);
        let text = r.input("text", text, r.target.elem);
        let text = self.cap_norm.record(r, text);
        let text = self.cap_embedder.of(text).record(r);
        // Each token for itself, since what is added differs.
        let kinds = r.input("text_kinds", Shape::new(rows * texts, 1, 2, 4), Elem::F32);
        let mut each = text.viewed(Shape::new(rows * texts, 1, 1, width));
        for (slot, name) in (0..).zip(ADDED) {
            let added = r.input(name, Shape::new(1, 1, 1, width), r.target.elem);
            each = ops::add(r, kinds, slot, each, added);
        }
        each.viewed(text.shape)
    }
}

/// Tokens of a row of this job: of the image, of it filled up, and of the text filled up.
fn lengths(job: Job) -> [u32; 3] {
    let images = job.size.map(|side| side / PATCH).iter().product::<u32>();
    [images, images.next_multiple_of(MULTIPLE), job.tokens.next_multiple_of(MULTIPLE)]
}

impl Denoiser for ZImageTransformer {
    fn sizes(&self) -> DenoiserSizes {
        self.config.sizes()
    }

    /// The sections and their inputs; masks only where there are several rows, whose texts may differ in length:
    ///
    /// - "context": "text", "text_kinds", "text_bias", "text_pad", "rotary", "text_mask", "mask"
    /// - "time": "time_features", "latents", "input_coefficients"
    /// - "unet": "image_pads", where the image is filled up
    fn record(&self, r: &mut Recorder, job: Job) -> Recorded {
        let (config, width, elem) = (&self.config, self.config.dim as u32, r.target.elem);
        let (rows, head, [images, filled, texts]) = (job.rows(), config.head() as u32, lengths(job));
        let tokens = |n: u32, c: u32| Shape::tokens(rows, n, c);

        r.section("context");
        let mut text = self.caption(r, rows, texts);
        let table = r.input("rotary", tokens(filled + texts, head), Elem::F32);
        let mut mask = |name: &str, keys: u32| {
            (rows > 1).then(|| r.input(name, Shape::new(rows, 1, 1, keys), Elem::F32))
        };
        let masks = [None, mask("text_mask", texts), mask("mask", filled + texts)];
        let parts = [(0, filled), (filled, texts)].map(|(from, count)| ops::slice(r, table, from, count));
        let tables = [parts[0], parts[1], table];
        let [of_image, of_text, of_all] = [0, 1, 2].map(|i| {
            let table = tables[i].viewed(Shape::tokens(1, tables[i].shape.rows(), head));
            Places { table, mask: masks[i] }
        });
        for block in &self.context_refiner {
            text = block.record(r, text, of_text, None);
        }

        r.section("time");
        let features = r.input("time_features", Shape::new(rows, 1, 1, FEATURES), elem);
        // Behind a SiLU, which the last layer sees, and without, which the blocks do.
        let [silu, time] = [Activation::Silu, Activation::None].map(|activation| {
            self.t_embedder.record(r, features, Epilogue { activation, ..Default::default() })
        });
        let time = r.tap("t_embedder", time);
        let mut modulations =
            |blocks: &[Block]| blocks.iter().map(|block| block.modulation(r, time)).collect::<Vec<_>>();
        let (refining, modulations) = (modulations(&self.noise_refiner), modulations(&self.layers));
        let last = Modulated { vectors: self.final_scale.of(silu).record(r), width };
        let (latents, x) = denoiser::latents(r, job, config.in_channels as u32);

        r.section("unet");
        let x = ops::patchify(r, x, PATCH);
        let squares = x.shape;
        let mut x = self.x_embedder.of(x.viewed(tokens(images, squares.c))).record(r);
        if filled > images {
            let pads = r.input("image_pads", tokens(filled - images, width), elem);
            x = ops::join(r, x, pads);
        }
        for (block, m) in self.noise_refiner.iter().zip(refining) {
            x = block.record(r, x, of_image, m);
        }
        let mut x = ops::join(r, x, text);
        for (block, m) in self.layers.iter().zip(modulations) {
            x = block.record(r, x, of_all, m);
        }
        let x = ops::slice(r, x, 0, images);
        let x = ops::layer_norm(r, NormKind::Layer(None), EPSILON, x, Some(last.scale(0)));
        let x = self.final_linear.of(x).record(r);
        let output = ops::unpatchify(r, x.viewed(squares.with_c(x.shape.c)), PATCH);
        Recorded { latents, output }
    }

    /// Text counts from 1 on the first axis, tokens that fill it up too; behind it come the image's, all at one place there.
    fn conditions(&self, conditions: &Conditions, job: Job) -> Vec<Input> {
        let (rows, width, [images, filled, texts]) =
            (job.rows() as usize, self.config.cap_feat_dim, lengths(job));
        let across = job.size[1] / PATCH;
        let given = conditions.text.len() / rows;
        let [mut text, mut kinds, mut places, mut text_mask, mut mask] = [(); 5].map(|()| vec![]);
        for (row, states) in conditions.text.chunks_exact(given).enumerate() {
            let counts = conditions.mask.chunks_exact(given / width).nth(row);
            let length = counts.map_or(given / width, |counts| counts.iter().sum::<f32>() as usize);
            let own = (length as u32).next_multiple_of(MULTIPLE);
            text.extend_from_slice(&states[..length * width]);
            text.resize((row + 1) * texts as usize * width, 0.0);
            for token in 0..texts {
                let [is, fills] = if (token as usize) < length { [1.0, 0.0] } else { [0.0, 1.0] };
                kinds.extend([is, 0.0, 0.0, 0.0, fills, 0.0, 0.0, 0.0]);
                text_mask.push(if token < own { 0.0 } else { HIDDEN });
            }
            let image = (0..images).map(|i| [own + 1, i / across, i % across]);
            let fills = repeat_n([0; 3], (filled - images) as usize);
            let all = image.chain(fills).chain((1..=texts).map(|i| [i, 0, 0]));
            places.extend(rotary::table(self.config.axes_dims, self.config.rope_theta, all));
            mask.resize(mask.len() + filled as usize, 0.0);
            mask.extend_from_slice(&text_mask[row * texts as usize..]);
        }
        let masks = [("text_mask", text_mask), ("mask", mask)].into_iter().filter(|_| rows > 1);
        [("text", text), ("text_kinds", kinds), ("rotary", places)].into_iter().chain(masks).collect()
    }

    fn timestep(&self, timestep: f32, rows: usize) -> Vec<Input> {
        vec![("time_features", dit::features(timestep * self.config.t_scale).repeat(rows))]
    }

    fn constants(&self, job: Job, tables: &Tables) -> Vec<Input> {
        let [images, filled, _] = lengths(job);
        let vector = |handle: Handle| tables(handle).values().to_vec();
        let pads = (filled > images).then(|| {
            let count = (job.rows() * (filled - images)) as usize;
            ("image_pads", vector(self.x_pad).repeat(count))
        });
        let added = ADDED.into_iter().zip(self.cap_added.map(vector));
        added.chain(pads).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of 1 and 33 tokens, of an image of 6.
    #[test]
    fn rows_have_places_and_masks_of_their_own() {
        let json =
            br#"{"dim": 12, "n_heads": 1, "n_kv_heads": 1, "cap_feat_dim": 4, "axes_dims": [4, 4, 4]}"#;
        let config = ZImageConfig::from_json(json, "config.json").unwrap();
        let network = ZImageTransformer::declare(&mut Declarations::new(Format::F32), &config);
        let job = Job { images: 2, size: [4, 6], tokens: 33, ..Job::default() };
        assert_eq!(lengths(job), [6, 32, 64]);
        let counts = |count: usize| (0..33).map(move |i| if i < count { 1.0 } else { 0.0 });
        let conditions = Conditions {
            text: vec![0.5; 2 * 33 * 4],
            pooled: vec![],
            sizes: [0.0; 6],
            guidance: 1.0,
            mask: counts(1).chain(counts(33)).collect(),
        };
        let inputs = network.conditions(&conditions, job);
        let of = |name: &str| &inputs.iter().find(|(found, _)| *found == name).unwrap().1;
        let (text, kinds, rotary) = (of("text"), of("text_kinds"), of("rotary"));
        assert_eq!([text.len(), kinds.len(), rotary.len()], [2 * 64 * 4, 2 * 64 * 8, 2 * 96 * 12]);
        assert_eq!([text[3], text[4], text[64 * 4 + 33 * 4 - 1]], [0.5, 0.0, 0.5]);
        assert_eq!((kinds[8], kinds[12]), (0.0, 1.0));
        assert_eq!((kinds[(64 + 32) * 8], kinds[(64 + 33) * 8 + 4]), (1.0, 1.0));
        // Behind 32 and behind 64 tokens; the last of the image, the first that fills up, and the first of the text.
        for (row, behind) in [33, 65].into_iter().enumerate() {
            let wanted = rotary::table([4; 3], 256.0, [[behind, 1, 2], [0; 3], [1, 0, 0]]);
            let found = [5, 6, 32].map(|token| &rotary[(row * 96 + token) * 12..][..12]);
            assert_eq!(found.concat(), wanted, "{row}");
        }
        let hidden = |mask: &[f32]| mask.iter().map(|m| *m == HIDDEN).collect::<Vec<_>>();
        let shorter = |image: usize| [vec![false; image + 32], vec![true; 32]].concat();
        assert_eq!(hidden(of("text_mask")), [shorter(0), vec![false; 64]].concat());
        assert_eq!(hidden(of("mask")), [shorter(32), vec![false; 96]].concat());
    }
}
