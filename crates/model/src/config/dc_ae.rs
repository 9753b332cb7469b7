//! `vae/config.json`: diffusers' `AutoencoderDC`.

use serde_json::{Value, json};

use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// The autoencoder of SANA: strided convolutions and nearest upsampling, RMS norms, SiLU. Widths are multiples of 4.
#[derive(Clone, Debug, PartialEq)]
pub struct DcConfig {
    pub latent_channels: usize,
    pub attention_head_dim: usize,
    /// From the image inwards; as many as the decoder's.
    pub encoder: Vec<DcLevel>,
    pub decoder: Vec<DcLevel>,
    pub encoder_out_shortcut: bool,
    pub decoder_in_shortcut: bool,
    pub scaling_factor: f32,
}

/// Blocks of one resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct DcLevel {
    pub width: usize,
    pub layers: usize,
    /// What it is made of.
    pub block: DcBlock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DcBlock {
    /// `ResBlock`
    Res,
    /// `EfficientViTBlock`: height and width of the convolution that makes a second set of queries, keys and values.
    Vit(Option<usize>),
}

impl DcConfig {
    pub(super) fn new(f: &Fields) -> Result<Self> {
        f.only("in_channels", json!(3))?;
        f.one_of("decoder_conv_act_fn", &["relu"])?;
        if f.string("upsample_block_type", Some("pixel_shuffle"))? != "interpolate" {
            return Err(f.unsupported("upsample_block_type", "interpolate"));
        }
        // Every other word means a strided convolution.
        if f.string("downsample_block_type", Some("pixel_unshuffle"))? == "pixel_unshuffle" {
            return Err(f.unsupported("downsample_block_type", "conv"));
        }
        for (key, supported) in [("decoder_norm_types", "rms_norm"), ("decoder_act_fns", "silu")] {
            let is = |value: &Value| value.as_str() == Some(supported);
            let list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(is));
            if f.get(key).is_some_and(|value| !is(value) && !list(value)) {
                return Err(f.unsupported(key, supported));
            }
        }
        let config = DcConfig {
            latent_channels: f.count("latent_channels", 32)?,
            attention_head_dim: f.count("attention_head_dim", 32)?,
            encoder: levels(f, "encoder", [2, 2, 2, 3, 3, 3])?,
            decoder: levels(f, "decoder", [3; 6])?,
            encoder_out_shortcut: f.bool("encoder_out_shortcut", true)?,
            decoder_in_shortcut: f.bool("decoder_in_shortcut", true)?,
            scaling_factor: f.positive("scaling_factor", 1.0)?,
        };
        if config.encoder.len() != config.decoder.len() {
            let wanted = format!("{} entries, as many as encoder_block_out_channels", config.encoder.len());
            return Err(f.wrong("decoder_block_out_channels", &wanted));
        }
        let head = config.attention_head_dim;
        if head > MAX_HEAD || !head.is_multiple_of(4) {
            let supported = format!("a multiple of 4, at most {MAX_HEAD}");
            return Err(f.unsupported("attention_head_dim", &supported));
        }
        if !config.latent_channels.is_multiple_of(4) {
            return Err(f.unsupported("latent_channels", "a multiple of 4"));
        }
        for (key, levels) in
            [("encoder_block_out_channels", &config.encoder), ("decoder_block_out_channels", &config.decoder)]
        {
            if levels.iter().any(|level| !level.width.is_multiple_of(4)) {
                return Err(f.unsupported(key, "multiples of 4"));
            }
            let attends = |level: &&DcLevel| matches!(level.block, DcBlock::Vit(_));
            if levels.iter().filter(attends).any(|level| !level.width.is_multiple_of(head)) {
                let wanted = format!("multiples of attention_head_dim, {head}, in blocks that attend");
                return Err(f.unsupported(key, &wanted));
            }
            // What goes around a change of size repeats channels, or has means of them.
            let fits = |pair: &[DcLevel]| {
                let [outer, inner] = [pair[0].width, pair[1].width];
                (4 * outer).is_multiple_of(inner)
            };
            let last = levels.last().is_some_and(|level| level.width.is_multiple_of(config.latent_channels));
            if !levels.windows(2).all(fits) || !last {
                let wanted = "widths of which each divides four times the one before, the last a multiple of \
                              latent_channels";
                return Err(f.unsupported(key, wanted));
            }
        }
        Ok(config)
    }
}

/// The levels of one half, whose keys begin with its name.
fn levels(f: &Fields, half: &str, layers: [usize; 6]) -> Result<Vec<DcLevel>> {
    let key = |name: &str| format!("{half}_{name}");
    let widths_key = key("block_out_channels");
    let widths = f.levels(&widths_key, &[128, 256, 512, 512, 1024, 1024])?;
    let (count, layers_key) = (widths.len(), key("layers_per_block"));
    let layers = f.levels(&layers_key, &layers)?;
    if layers.len() != count {
        return Err(f.wrong(&layers_key, &format!("{count} entries, as many as {widths_key}")));
    }
    f.check_depth(&layers_key, layers.iter().fold(0, |sum: usize, n| sum.saturating_add(*n)))?;
    let attends = blocks(f, &key("block_types"), count)?;
    let scales = scales(f, &key("qkv_multiscales"), count)?;
    let level = |i: usize| DcLevel {
        width: widths[i],
        layers: layers[i],
        block: if attends[i] { DcBlock::Vit(scales[i]) } else { DcBlock::Res },
    };
    Ok((0..count).map(level).collect())
}

/// For each level, whether its blocks attend: one name for all, or a list.
fn blocks(f: &Fields, key: &str, count: usize) -> Result<Vec<bool>> {
    const KNOWN: [(&str, bool); 2] = [("ResBlock", false), ("EfficientViTBlock", true)];
    match f.get(key) {
        Some(Value::String(name)) => {
            let found = KNOWN.iter().find(|(known, _)| known == name);
            let (_, attends) = found.ok_or_else(|| f.unsupported(key, "ResBlock or EfficientViTBlock"))?;
            Ok(vec![*attends; count])
        }
        _ => f.block_types(key, count, &vec![false; count], &KNOWN),
    }
}

/// For each level the size of a kernel, if there is one.
fn scales(f: &Fields, key: &str, count: usize) -> Result<Vec<Option<usize>>> {
    let supported = "for each block a list of at most one odd number below 32";
    let usual = json!([[], [], [], [5], [5], [5]]);
    let lists = f.get(key).unwrap_or(&usual).as_array().filter(|lists| lists.len() == count);
    let lists = lists.ok_or_else(|| f.wrong(key, &format!("{count} lists, one for each block")))?;
    let read = |list: &Value| match list.as_array().map(Vec::as_slice) {
        Some([]) => Some(None),
        Some([one]) => one.as_u64().filter(|n| n % 2 == 1 && *n < 32).map(|n| Some(n as usize)),
        _ => None,
    };
    lists.iter().map(|list| read(list).ok_or_else(|| f.unsupported(key, supported))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::VaeConfig;
    use super::*;
    use crate::error::Code::{self, InvalidModel, Unsupported};

    /// `keys` are further members of the object; of a key that is there twice the last counts.
    fn parse(keys: &str) -> Result<VaeConfig> {
        let json = format!(
            r#"{{"_class_name": "AutoencoderDC", "upsample_block_type": "interpolate",
            "downsample_block_type": "Conv"{keys}}}"#
        );
        VaeConfig::from_json(json.as_bytes(), "vae/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse("").unwrap();
        assert_eq!((config.spatial_factor(), config.latent_channels()), (32, 32));
        let VaeConfig::Dc(config) = config else { panic!("another kind: {config:?}") };
        assert_eq!(config.encoder[3], DcLevel { width: 512, layers: 3, block: DcBlock::Res });
        assert_eq!(config.decoder.iter().map(|level| level.layers).sum::<usize>(), 18);
        assert_eq!((config.scaling_factor, config.attention_head_dim), (1.0, 32));
    }

    #[test]
    fn values_are_read() {
        let keys = r#", "encoder_block_out_channels": [8, 16], "decoder_block_out_channels": [8, 16],
            "encoder_layers_per_block": [1, 2], "decoder_layers_per_block": [3, 4], "latent_channels": 16,
            "encoder_block_types": "ResBlock", "decoder_block_types": ["ResBlock", "EfficientViTBlock"],
            "encoder_qkv_multiscales": [[], []], "decoder_qkv_multiscales": [[], [3]],
            "decoder_act_fns": ["silu", "silu"], "attention_head_dim": 8, "scaling_factor": 0.41407"#;
        let config = parse(keys).unwrap();
        assert_eq!(config.spatial_factor(), 2);
        let VaeConfig::Dc(config) = config else { panic!("another kind: {config:?}") };
        assert_eq!(config.encoder[1], DcLevel { width: 16, layers: 2, block: DcBlock::Res });
        assert_eq!(config.decoder[1], DcLevel { width: 16, layers: 4, block: DcBlock::Vit(Some(3)) });
        assert_eq!(config.scaling_factor, 0.41407);
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        let cases: [(&str, Code, &str); 12] = [
            (r#", "in_channels": 4"#, Unsupported, "in_channels"),
            (r#", "upsample_block_type": "pixel_shuffle""#, Unsupported, "upsample_block_type"),
            (r#", "downsample_block_type": "pixel_unshuffle""#, Unsupported, "downsample_block_type"),
            (r#", "decoder_norm_types": "batch_norm""#, Unsupported, "decoder_norm_types"),
            (r#", "decoder_act_fns": ["silu", "relu6"]"#, Unsupported, "decoder_act_fns"),
            (r#", "decoder_conv_act_fn": "silu""#, Unsupported, "decoder_conv_act_fn"),
            (r#", "decoder_block_types": "Other""#, Unsupported, "decoder_block_types"),
            (r#", "encoder_qkv_multiscales": [[], [], [], [5], [5], [3, 5]]"#, Unsupported, "multiscales"),
            (r#", "encoder_layers_per_block": [1, 1]"#, InvalidModel, "encoder_layers_per_block"),
            (r#", "attention_head_dim": 6"#, Unsupported, "attention_head_dim"),
            (r#", "latent_channels": 48"#, Unsupported, "encoder_block_out_channels"),
            (
                r#", "decoder_block_out_channels": [128, 256, 512, 512, 1024, 768]"#,
                Unsupported,
                "decoder_block_out_channels",
            ),
        ];
        for (keys, code, key) in cases {
            let error = parse(keys).unwrap_err();
            assert_eq!(error.code, code, "{keys}: {error}");
            assert!(error.message.contains(key), "{keys}: {error}");
        }
    }
}
