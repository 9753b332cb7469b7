//! The configurations that a single file stands for, from the shapes of its tensors. What no shape shows (heads, groups of
//! norms, epsilons) is what the original code of the family has.
//!
//! All of it runs once a load: nothing is inlined, which would make the module larger.

use super::family::{Family, Prediction};
use crate::weights::{Header, Names, Place};

/// No network has more blocks, or layers in one.
const MOST: usize = 100;

/// One component's tensors, by their original names.
pub struct View<'a> {
    pub header: &'a Header,
    pub place: Place,
}

/// A level of a U-Net, from the highest resolution down.
#[derive(Default)]
struct Level {
    width: usize,
    resnets: usize,
    /// Transformer blocks behind each resnet.
    depth: usize,
    /// Self attention looks at the text as well.
    crossed: bool,
}

/// What the shapes of a U-Net show.
pub struct UnetShape {
    pub in_channels: usize,
    pub out_channels: usize,
    pub mid: bool,
    /// Of the text.
    pub context: usize,
    /// Of what is added to the time embedding.
    pub added: Option<usize>,
    pub linear: bool,
    levels: Vec<Level>,
    /// Transformer blocks of the mid block.
    mid_depth: usize,
    /// Of the up blocks, from the lowest resolution up: whether they attend.
    up: Vec<bool>,
}

impl View<'_> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.place.shape(self.header, name)
    }

    /// A side of a tensor, 0 where there is none.
    #[inline(never)]
    pub fn side(&self, name: &str, axis: usize) -> usize {
        self.shape(name).and_then(|shape| shape.get(axis)).copied().unwrap_or(0)
    }

    #[inline(never)]
    fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// How many there are, one after the other.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..MOST).take_while(|&i| self.has(&name(i))).count()
    }

    #[inline(never)]
    fn depth(&self, block: &str) -> usize {
        self.count(|i| format!("{block}.1.transformer_blocks.{i}.norm1.weight"))
    }

    #[inline(never)]
    pub fn unet(&self) -> UnetShape {
        let mut levels = vec![Level::default()];
        let mut attention = "middle_block".to_owned();
        for at in 1..MOST {
            let block = format!("input_blocks.{at}");
            if self.has(&format!("{block}.0.op.weight")) {
                levels.push(Level::default());
            }
            let (width, depth) = (self.side(&format!("{block}.0.in_layers.2.weight"), 0), self.depth(&block));
            let Some(level) = levels.last_mut().filter(|_| width > 0) else { continue };
            let keys = self.side(&format!("{block}.1.transformer_blocks.0.attn1.to_k.weight"), 1);
            *level = Level { width, resnets: level.resnets + 1, depth, crossed: depth > 0 && keys != width };
            if depth > 0 {
                attention = block;
            }
        }
        let stride = self.place.stride.unwrap_or(levels[0].resnets + 1);
        UnetShape {
            in_channels: self.side("input_blocks.0.0.weight", 1),
            out_channels: self.side("out.2.weight", 0),
            mid: self.has("middle_block.0.in_layers.2.weight"),
            context: self.side(&format!("{attention}.1.transformer_blocks.0.attn2.to_k.weight"), 1),
            added: self.has("label_emb.0.0.weight").then(|| self.side("label_emb.0.0.weight", 1)),
            linear: self
                .shape(&format!("{attention}.1.proj_in.weight"))
                .is_some_and(|shape| shape.len() == 2),
            mid_depth: self.depth("middle_block"),
            up: (0..levels.len()).map(|b| self.depth(&format!("output_blocks.{}", b * stride)) > 0).collect(),
            levels,
        }
    }

    /// `vae/config.json`.
    #[inline(never)]
    pub fn vae(&self, family: Family) -> String {
        let levels = self.count(|i| format!("decoder.up.{i}.block.0.conv1.weight"));
        let widths: Vec<usize> =
            (0..levels).map(|i| self.side(&format!("decoder.up.{i}.block.0.conv1.weight"), 0)).collect();
        let layers = self.count(|i| format!("decoder.up.0.block.{i}.conv1.weight")).saturating_sub(1);
        let scale = if family == Family::Sdxl { "0.13025" } else { "0.18215" };
        format!(
            r#"{{"_class_name":"AutoencoderKL","block_out_channels":{widths:?},"down_block_types":{:?},"up_block_types":{:?},"layers_per_block":{layers},"latent_channels":{},"use_quant_conv":{},"use_post_quant_conv":{},"mid_block_add_attention":{},"scaling_factor":{scale},"force_upcast":true}}"#,
            vec!["DownEncoderBlock2D"; levels],
            vec!["UpDecoderBlock2D"; levels],
            self.side("decoder.conv_in.weight", 1),
            self.has("quant_conv.weight"),
            self.has("post_quant_conv.weight"),
            self.has("decoder.mid.attn_1.q.weight"),
        )
    }

    /// Rows of a text encoder's tokens.
    pub fn vocabulary(&self) -> usize {
        self.text_side("embeddings.token_embedding.weight", "token_embedding.weight", 0)
    }

    #[inline(never)]
    fn text_side(&self, clip: &str, open_clip: &str, axis: usize) -> usize {
        match self.place.names {
            Names::OpenClip => self.side(open_clip, axis),
            // Some early files leave the prefix out.
            _ => self.side(&format!("text_model.{clip}"), axis).max(self.side(clip, axis)),
        }
    }

    /// `text_encoder/config.json`.
    #[inline(never)]
    pub fn text(&self, family: Family) -> String {
        let open = self.place.names == Names::OpenClip;
        let width = self.text_side("embeddings.token_embedding.weight", "token_embedding.weight", 1);
        let inner = |i: usize| {
            let [clip, open] = [
                format!("encoder.layers.{i}.mlp.fc1.weight"),
                format!("transformer.resblocks.{i}.mlp.c_fc.weight"),
            ];
            self.text_side(&clip, &open, 0)
        };
        let mut layers = (0..MOST).take_while(|&i| inner(i) > 0).count();
        // SD 2.x was trained with the states before the last of OpenCLIP's 24 layers.
        if family == Family::Sd2 && layers == 24 {
            layers = 23;
        }
        let pooled = self.place.component == "text_encoder_2";
        format!(
            r#"{{"architectures":["CLIPTextModel{}"],"model_type":"clip_text_model","vocab_size":{},"hidden_size":{width},"intermediate_size":{},"num_hidden_layers":{layers},"num_attention_heads":{},"max_position_embeddings":{},"hidden_act":"{}","eos_token_id":2,"projection_dim":{}}}"#,
            if pooled { "WithProjection" } else { "" },
            self.vocabulary(),
            inner(0),
            (width / 64).max(1),
            self.text_side("embeddings.position_embedding.weight", "positional_embedding", 0),
            if open { "gelu" } else { "quick_gelu" },
            self.projection().unwrap_or(width),
        )
    }

    /// Numbers of the pooled text, kept as a matrix that rows are multiplied by, or as a layer.
    pub fn projection(&self) -> Option<usize> {
        let sides = [self.side("text_projection", 1), self.side("text_projection.weight", 0)];
        sides.into_iter().find(|side| *side > 0)
    }
}

impl UnetShape {
    /// Which of BK-SDM's models it is, if it has as few layers.
    pub fn pruned(&self) -> Option<&'static str> {
        let one = self.levels.iter().all(|level| level.resnets == 1);
        one.then_some(match (self.mid, self.levels.len()) {
            (true, _) => "BK-SDM base",
            (false, 4..) => "BK-SDM small",
            (false, _) => "BK-SDM tiny",
        })
    }

    /// `unet/config.json`. `size` is the side of a latent, `pooled` the numbers of pooled text.
    #[inline(never)]
    pub fn config(&self, family: Family, size: usize, pooled: Option<usize>) -> String {
        let each = |of: &dyn Fn(&Level) -> usize| self.levels.iter().map(of).collect::<Vec<_>>();
        let kinds = |attends: &mut dyn Iterator<Item = bool>, way: &str| {
            let name = |attends| format!("{}{way}Block2D", if attends { "CrossAttn" } else { "" });
            attends.map(name).collect::<Vec<_>>()
        };
        let mut depths = each(&|level| level.depth.max(1));
        if let (Some(last), Some(0)) = (depths.last_mut(), self.levels.last().map(|level| level.depth)) {
            *last = self.mid_depth.max(1);
        }
        // The original code of SD 1.x fixes how many heads there are, the later ones how large each is.
        let heads = match family {
            Family::Sd1 => vec![8; self.levels.len()],
            _ => each(&|level| (level.width / 64).max(1)),
        };
        let added = self.added.map_or(String::new(), |inputs| {
            let features = pooled.map_or(256, |pooled| inputs.saturating_sub(pooled) / 6);
            format!(
                r#","addition_embed_type":"text_time","addition_time_embed_dim":{features},"projection_class_embeddings_input_dim":{inputs}"#
            )
        });
        let mid = match (self.mid, self.mid_depth) {
            (false, _) => "null",
            (true, 0) => r#""UNetMidBlock2D""#,
            (true, _) => r#""UNetMidBlock2DCrossAttn""#,
        };
        format!(
            r#"{{"_class_name":"UNet2DConditionModel","in_channels":{},"out_channels":{},"sample_size":{size},"block_out_channels":{:?},"down_block_types":{:?},"up_block_types":{:?},"mid_block_type":{mid},"layers_per_block":{},"attention_head_dim":{heads:?},"transformer_layers_per_block":{depths:?},"only_cross_attention":{:?},"cross_attention_dim":{},"use_linear_projection":{}{added}}}"#,
            self.in_channels,
            self.out_channels,
            each(&|level| level.width),
            kinds(&mut self.levels.iter().map(|level| level.depth > 0), "Down"),
            kinds(&mut self.up.iter().copied(), "Up"),
            self.levels[0].resnets,
            self.levels.iter().map(|level| level.crossed).collect::<Vec<_>>(),
            self.context,
            self.linear,
        )
    }
}

/// `scheduler/scheduler_config.json`: what diffusers takes for a single file of the family.
pub fn scheduler(family: Family, inpainting: bool, prediction: Prediction) -> String {
    let class = match (family, inpainting) {
        (Family::Sdxl, _) => "EulerDiscrete",
        (Family::Sd1, false) | (Family::Sd2, true) if !prediction.zero_snr => "PNDM",
        // PNDM knows nothing of a terminal ratio.
        _ => "DDIM",
    };
    let zero_snr = if prediction.zero_snr { r#","rescale_betas_zero_snr":true"# } else { "" };
    format!(
        r#"{{"_class_name":"{class}Scheduler","beta_start":0.00085,"beta_end":0.012,"beta_schedule":"scaled_linear","num_train_timesteps":1000,"clip_sample":false,"set_alpha_to_one":false,"skip_prk_steps":true,"steps_offset":1,"timestep_spacing":"leading","prediction_type":"{}"{zero_snr}}}"#,
        prediction.as_str()
    )
}
