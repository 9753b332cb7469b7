//! `unet/config.json`: diffusers' `UNet2DConditionModel`.

use serde_json::{Value, json};

use super::fields::{Fields, MAX_HEAD};
use super::text_time::TextTime;
use crate::error::Result;
use crate::unet::{KINDS, Kind};

/// The U-Net. Lists have one entry for each block, 1 to 8, from the highest resolution down, except
/// `up_blocks`, which is in the order of the up blocks. Widths are multiples of 4 and of
/// `norm_num_groups`; a width whose block attends is a multiple of its heads.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Side of the latent it was trained for, which only sets the default size of an image.
    pub sample_size: Option<usize>,
    pub block_out_channels: Vec<usize>,
    pub down_blocks: Vec<&'static Kind>,
    /// Entry 0 is the up block at the lowest resolution. Empty in a ControlNet.
    pub up_blocks: Vec<&'static Kind>,
    pub mid_block: bool,
    /// With a transformer the mid block is resnet, transformer, resnet; without it is **one** resnet.
    pub mid_kind: &'static Kind,
    /// Of the down blocks; an up block has one more.
    pub layers_per_block: usize,
    /// Number of heads, from the misnamed `attention_head_dim`.
    pub heads: Vec<usize>,
    /// Transformer blocks in each transformer. The mid block has the last entry's number.
    pub transformer_layers_per_block: Vec<usize>,
    /// `attn1` takes its keys and values from the text as well. Never in the mid block.
    pub only_cross_attention: Vec<bool>,
    pub cross_attention_dim: usize,
    /// `proj_in` and `proj_out` are [C, C] rather than [C, C, 1, 1]. The mathematics is the same.
    pub use_linear_projection: bool,
    pub norm_num_groups: usize,
    pub norm_eps: f32,
    /// The timestep's features are [cos, sin] rather than [sin, cos].
    pub flip_sin_to_cos: bool,
    pub freq_shift: f32,
    /// Width of the embedding of the guidance scale (LCM).
    pub time_cond_proj_dim: Option<usize>,
    /// What SDXL adds to the time embedding.
    pub text_time: Option<TextTime>,
}

/// Every key of the class but the ones that are read in `from_json` and the ones that change nothing
/// here, with the only value that is built. The ones that change nothing: `dropout` (training),
/// `upcast_attention` (attention is f32 anyway), `mid_block_only_cross_attention` (read by a mid block
/// that is refused) and `addition_embed_type_num_heads` (read for an embedding that is refused).
fn only_built(f: &Fields) -> Result<()> {
    f.one_of("act_fn", &["silu", "swish"])?;
    for (key, supported) in [
        ("attention_type", json!("default")),
        ("center_input_sample", json!(false)),
        ("class_embed_type", Value::Null),
        ("class_embeddings_concat", json!(false)),
        ("conv_in_kernel", json!(3)),
        ("conv_out_kernel", json!(3)),
        ("cross_attention_norm", Value::Null),
        ("downsample_padding", json!(1)),
        ("dual_cross_attention", json!(false)),
        ("encoder_hid_dim", Value::Null),
        ("encoder_hid_dim_type", Value::Null),
        ("mid_block_scale_factor", json!(1)),
        ("num_class_embeds", Value::Null),
        ("resnet_out_scale_factor", json!(1)),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_time_scale_shift", json!("default")),
        ("reverse_transformer_layers_per_block", Value::Null),
        ("time_embedding_act_fn", Value::Null),
        ("time_embedding_type", json!("positional")),
        ("timestep_post_act", Value::Null),
    ] {
        f.only(key, supported)?;
    }
    Ok(())
}

impl UnetConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("UNet2DConditionModel")?;
        Self::read(&f, true)
    }

    /// Without up blocks for a ControlNet, whose class has the same keys for everything before them.
    pub(super) fn read(f: &Fields, up_blocks: bool) -> Result<Self> {
        only_built(f)?;

        let block_out_channels = f.levels("block_out_channels", &[320, 640, 1280, 1280])?;
        let blocks = block_out_channels.len();
        let (plain, cross) = (Kind::plain(), Kind::cross_attention());
        let names = |way: usize| KINDS.iter().map(|kind| (kind.names[way], kind)).collect::<Vec<_>>();
        let default = [cross, cross, cross, plain];
        let down_blocks = f.block_types("down_block_types", blocks, &default, &names(0))?;
        let default = [plain, cross, cross, cross];
        let up_blocks = match up_blocks {
            true => f.block_types("up_block_types", blocks, &default, &names(1))?,
            false => vec![],
        };
        let (mid_block, mid_kind) = match f.get("mid_block_type") {
            None => (true, cross),
            Some(Value::Null) => (false, plain),
            Some(name) if name == "UNetMidBlock2DCrossAttn" => (true, cross),
            Some(name) if name == "UNetMidBlock2D" => (true, plain),
            Some(_) => {
                return Err(
                    f.unsupported("mid_block_type", "null, UNetMidBlock2D or UNetMidBlock2DCrossAttn")
                );
            }
        };

        // diffusers prefers num_attention_heads; the other name is the one in all published files.
        let heads_key = match f.get("num_attention_heads") {
            None | Some(Value::Null) => "attention_head_dim",
            Some(_) => "num_attention_heads",
        };
        let config = UnetConfig {
            in_channels: f.count("in_channels", 4)?,
            out_channels: f.count("out_channels", 4)?,
            sample_size: sample_size(f)?,
            down_blocks,
            up_blocks,
            mid_block,
            mid_kind,
            layers_per_block: f.same_count("layers_per_block", blocks, 2)?,
            heads: f.counts(heads_key, blocks, 8)?,
            transformer_layers_per_block: f.counts("transformer_layers_per_block", blocks, 1)?,
            only_cross_attention: f.bools("only_cross_attention", blocks, false)?,
            cross_attention_dim: f.same_count("cross_attention_dim", blocks, 1280)?,
            use_linear_projection: f.bool("use_linear_projection", false)?,
            norm_num_groups: f.count("norm_num_groups", 32)?,
            norm_eps: f.positive("norm_eps", 1e-5)?,
            flip_sin_to_cos: f.bool("flip_sin_to_cos", true)?,
            freq_shift: f.float("freq_shift", 0.0)?,
            time_cond_proj_dim: f.optional_count("time_cond_proj_dim")?,
            text_time: TextTime::read(f)?,
            block_out_channels,
        };
        config.check(f)?;
        Ok(config)
    }

    /// Width of the time embedding after its two linear layers.
    pub fn time_embed_dim(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    /// Resnets and transformer blocks; the mid block counts as one more of the last level.
    fn layers(&self) -> usize {
        let last = self.block_out_channels.len() - 1;
        let down = self.down_blocks.iter().enumerate().map(|(i, kind)| (i, *kind));
        let up = self.up_blocks.iter().enumerate().map(|(i, kind)| (last - i, *kind));
        let each = down.chain(up).chain([(last, self.mid_kind)]).map(|(level, kind)| {
            let behind = if kind.attends_text() { self.transformer_layers_per_block[level] } else { 0 };
            self.layers_per_block.saturating_add(1).saturating_mul(1 + behind)
        });
        each.fold(0, usize::saturating_add)
    }

    fn check(&self, f: &Fields) -> Result<()> {
        f.check_widths("block_out_channels", &self.block_out_channels, self.norm_num_groups)?;
        if !self.cross_attention_dim.is_multiple_of(4) {
            return Err(f.unsupported("cross_attention_dim", "a multiple of 4"));
        }
        f.check_depth("layers_per_block and transformer_layers_per_block", self.layers())?;
        let last = self.block_out_channels.len() - 1;
        for (i, (&width, &heads)) in self.block_out_channels.iter().zip(&self.heads).enumerate() {
            let up = self.up_blocks.get(last - i).copied();
            let mid = (i == last).then_some(self.mid_kind);
            let sizes = [Some(self.down_blocks[i]), up, mid].into_iter().flatten();
            let Some(size) = sizes.filter_map(|kind| kind.head_size(width, heads)).max() else { continue };
            if !width.is_multiple_of(heads) {
                let supported = format!("a multiple of the {heads} heads for {width}, in block {i}");
                return Err(f.unsupported("block_out_channels", &supported));
            }
            if size > MAX_HEAD {
                let supported = format!("heads of at most {MAX_HEAD} channels, in block {i}");
                return Err(f.unsupported("attention_head_dim", &supported));
            }
        }
        if self.in_channels < self.out_channels {
            return Err(f.wrong("in_channels", &format!("at least out_channels, {}", self.out_channels)));
        }
        if self.in_channels > self.out_channels && !self.out_channels.is_multiple_of(4) {
            return Err(f.unsupported("out_channels", "a multiple of 4, or as many as in_channels"));
        }
        // The timestep's features come in pairs, and each pair's frequency divides by half - shift.
        let half = self.block_out_channels[0] as f32 / 2.0;
        if !(0.0..half).contains(&self.freq_shift) {
            return Err(f.wrong("freq_shift", &format!("0 up to less than {half}")));
        }
        let wanted = self.time_embed_dim();
        match f.optional_count("time_embedding_dim")? {
            Some(dim) if dim != wanted => {
                Err(f.unsupported("time_embedding_dim", &format!("null or {wanted}")))
            }
            _ => Ok(()),
        }
    }
}

/// A number, or a list [height, width] of two equal ones.
fn sample_size(f: &Fields) -> Result<Option<usize>> {
    const KEY: &str = "sample_size";
    match f.get(KEY) {
        Some(Value::Array(_)) => f.same_count(KEY, 2, 0).map(Some),
        _ => f.optional_count(KEY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{self, InvalidModel, Unsupported};

    /// Transformers behind the resnets, or nothing.
    fn kinds(attends: &[bool]) -> Vec<&'static Kind> {
        attends.iter().map(|&a| if a { Kind::cross_attention() } else { Kind::plain() }).collect()
    }

    fn parse(json: &str) -> Result<UnetConfig> {
        UnetConfig::from_json(json.as_bytes(), "unet/config.json")
    }

    fn default() -> UnetConfig {
        UnetConfig {
            in_channels: 4,
            out_channels: 4,
            sample_size: None,
            block_out_channels: vec![320, 640, 1280, 1280],
            down_blocks: kinds(&[true, true, true, false]),
            up_blocks: kinds(&[false, true, true, true]),
            mid_block: true,
            mid_kind: Kind::cross_attention(),
            layers_per_block: 2,
            heads: vec![8; 4],
            transformer_layers_per_block: vec![1; 4],
            only_cross_attention: vec![false; 4],
            cross_attention_dim: 1280,
            use_linear_projection: false,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            time_cond_proj_dim: None,
            text_time: None,
        }
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        assert_eq!(parse("{}").unwrap(), default());
        let plain = r#"{"_class_name": "UNet2DConditionModel", "resnet_out_scale_factor": 1.0,
            "time_embedding_dim": 1280, "use_linear_projection": null, "num_attention_heads": null}"#;
        assert_eq!(parse(plain).unwrap(), default());
    }

    #[test]
    fn values_are_read() {
        let json = r#"{"in_channels": 9, "out_channels": 8, "sample_size": [24, 24],
            "block_out_channels": [32, 40], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "mid_block_type": null,
            "layers_per_block": [1, 1], "attention_head_dim": [7, 5], "transformer_layers_per_block": [1, 10],
            "only_cross_attention": [true, false], "cross_attention_dim": [48, 48],
            "use_linear_projection": true, "norm_num_groups": 8, "norm_eps": 1e-6,
            "flip_sin_to_cos": false, "freq_shift": 1, "time_cond_proj_dim": 24,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 68}"#;
        let wanted = UnetConfig {
            in_channels: 9,
            out_channels: 8,
            sample_size: Some(24),
            block_out_channels: vec![32, 40],
            down_blocks: kinds(&[false, true]),
            up_blocks: kinds(&[true, false]),
            mid_block: false,
            mid_kind: Kind::plain(),
            layers_per_block: 1,
            heads: vec![7, 5],
            transformer_layers_per_block: vec![1, 10],
            only_cross_attention: vec![true, false],
            cross_attention_dim: 48,
            use_linear_projection: true,
            norm_num_groups: 8,
            norm_eps: 1e-6,
            flip_sin_to_cos: false,
            freq_shift: 1.0,
            time_cond_proj_dim: Some(24),
            text_time: Some(TextTime { size_features: 8, inputs: 68 }),
        };
        assert_eq!(parse(json).unwrap(), wanted);
    }

    #[test]
    fn one_value_stands_for_all_blocks() {
        let json = r#"{"attention_head_dim": 4, "only_cross_attention": true, "sample_size": 96,
            "transformer_layers_per_block": 2, "num_attention_heads": 5, "mid_block_type": "UNetMidBlock2D"}"#;
        let wanted = UnetConfig {
            heads: vec![5; 4],
            only_cross_attention: vec![true; 4],
            sample_size: Some(96),
            transformer_layers_per_block: vec![2; 4],
            mid_kind: Kind::plain(),
            ..default()
        };
        assert_eq!(parse(json).unwrap(), wanted);
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let cases = [
            ("act_fn", r#""mish""#),
            ("addition_embed_type", r#""text_image""#),
            ("attention_type", r#""gated""#),
            ("center_input_sample", "true"),
            ("class_embed_type", r#""timestep""#),
            ("class_embeddings_concat", "true"),
            ("conv_in_kernel", "1"),
            ("conv_out_kernel", "1"),
            ("cross_attention_norm", r#""layer_norm""#),
            ("downsample_padding", "0"),
            ("dual_cross_attention", "true"),
            ("encoder_hid_dim", "1024"),
            ("encoder_hid_dim_type", r#""text_proj""#),
            ("mid_block_scale_factor", "1.4"),
            ("num_class_embeds", "10"),
            ("resnet_out_scale_factor", "2"),
            ("resnet_skip_time_act", "true"),
            ("resnet_time_scale_shift", r#""scale_shift""#),
            ("reverse_transformer_layers_per_block", "[1,2]"),
            ("time_embedding_act_fn", r#""silu""#),
            ("time_embedding_dim", "64"),
            ("time_embedding_type", r#""fourier""#),
            ("timestep_post_act", r#""silu""#),
            ("_class_name", r#""UNet3DConditionModel""#),
            ("mid_block_type", r#""UNetMidBlock2DSimpleCrossAttn""#),
            ("down_block_types", r#"["ResnetDownsampleBlock2D"]"#),
            ("up_block_types", r#"["SkipUpBlock2D"]"#),
            ("layers_per_block", "[1,2,2,2]"),
            ("cross_attention_dim", "[768,768,768,1024]"),
            ("cross_attention_dim", "766"),
            ("sample_size", "[64,96]"),
            ("block_out_channels", "[320,640,1280,1284]"),
        ];
        for (key, value) in cases {
            // A width of 1284 is refused for its heads, 8, once groups of 4 let it pass.
            let e = parse(&format!(r#"{{"norm_num_groups": 4, "{key}": {value}}}"#)).unwrap_err();
            assert_eq!(e.code, Unsupported, "{key}: {e}");
            for word in [key, value, "unet/config.json", "supported is"] {
                assert!(e.message.contains(word), "{word} is missing: {e}");
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let text_time = |features: usize, inputs: usize| {
            format!(
                r#"{{"addition_embed_type": "text_time", "addition_time_embed_dim": {features},
                "projection_class_embeddings_input_dim": {inputs}}}"#
            )
        };
        let cases: [(&str, Code, &str); 15] = [
            (r#"{"block_out_channels": [320, 640, 1280, 1288]}"#, InvalidModel, "norm_num_groups, 32"),
            (r#"{"norm_num_groups": 3, "block_out_channels": [6, 6, 6, 6]}"#, Unsupported, "multiples of 4"),
            (r#"{"block_out_channels": [320, 640]}"#, InvalidModel, "down_block_types"),
            (r#"{"block_out_channels": 320}"#, InvalidModel, "block_out_channels is 320"),
            (r#"{"attention_head_dim": [5, 10]}"#, InvalidModel, "4 entries"),
            (r#"{"attention_head_dim": 0}"#, InvalidModel, "attention_head_dim is 0"),
            (r#"{"attention_head_dim": [5, 10, 20, 3]}"#, Unsupported, "3 heads for 1280, in block 3"),
            (r#"{"only_cross_attention": [true]}"#, InvalidModel, "only_cross_attention"),
            (
                r#"{"transformer_layers_per_block": [[1], 1, 1, 1]}"#,
                InvalidModel,
                "transformer_layers_per_block",
            ),
            (r#"{"norm_num_groups": null}"#, InvalidModel, "norm_num_groups is null"),
            (r#"{"freq_shift": 160}"#, InvalidModel, "freq_shift is 160"),
            (r#"{"in_channels": 99999999}"#, InvalidModel, "in_channels is 99999999"),
            (r#"{"addition_embed_type": "text_time"}"#, InvalidModel, "there is no addition_time_embed_dim"),
            (&text_time(7, 100), Unsupported, "addition_time_embed_dim is 7"),
            (&text_time(8, 48), InvalidModel, "more than 6 times addition_time_embed_dim"),
        ];
        for (json, code, words) in cases {
            let e = parse(json).unwrap_err();
            assert_eq!(e.code, code, "{json}: {e}");
            assert!(e.message.contains(words) && e.message.contains("unet/config.json"), "{e}");
        }
    }
}
