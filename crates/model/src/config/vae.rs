//! `vae/config.json`: `AutoencoderKL`, `AutoencoderKLFlux2`, `AutoencoderTiny` or `AutoencoderDC`; and TAEF2, which has none.

use serde_json::{Value, json};

use super::DcConfig;
use super::fields::{Fields, MAX_HEAD};
use crate::error::Result;

/// Whichever autoencoder the model has, by `_class_name`.
#[derive(Clone, Debug, PartialEq)]
pub enum VaeConfig {
    Kl(KlConfig),
    Tiny(TinyConfig),
    Dc(DcConfig),
}

/// diffusers' `AutoencoderKL` and `AutoencoderKLFlux2`: plain down and up blocks, SiLU, every width a multiple of 4 and of
/// `norm_num_groups`.
#[derive(Clone, Debug, PartialEq)]
pub struct KlConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    /// From the image inwards; 1 to 8 levels.
    pub block_out_channels: Vec<usize>,
    /// Of the decoder, in the same order; in most models the same.
    pub decoder_block_out_channels: Vec<usize>,
    /// Of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    pub latent_channels: usize,
    pub norm_num_groups: usize,
    pub scaling_factor: f32,
    pub shift_factor: Option<f32>,
    pub use_quant_conv: bool,
    pub use_post_quant_conv: bool,
    pub mid_block_add_attention: bool,
    /// Its activations overflow f16.
    pub force_upcast: bool,
    /// FLUX.2: latents are squares of 2x2 cells, whose channels are normalised by the statistics of a batch norm with this
    /// epsilon.
    pub batch_norm_eps: Option<f32>,
}

/// diffusers' `AutoencoderTiny`: ReLU, nearest upsampling by 2, one width (a multiple of 4) for the
/// whole encoder and one for the whole decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    /// All equal; as many as `num_encoder_blocks`.
    pub encoder_block_out_channels: Vec<usize>,
    /// All equal; as many as `num_decoder_blocks`.
    pub decoder_block_out_channels: Vec<usize>,
    pub num_encoder_blocks: Vec<usize>,
    pub num_decoder_blocks: Vec<usize>,
    pub latent_channels: usize,
    pub upsampling_scaling_factor: usize,
    pub scaling_factor: f32,
    /// TAEF2: each half is a file of its own, whose layers are numbered from 0, and the blocks of the smallest size are
    /// [pooled](crate::taesd).
    pub taef2: bool,
}

impl VaeConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        match f.string("_class_name", None)?.as_str() {
            "AutoencoderKL" => KlConfig::new(&f).map(VaeConfig::Kl),
            "AutoencoderKLFlux2" => KlConfig::of_flux2(&f).map(VaeConfig::Kl),
            "AutoencoderTiny" => TinyConfig::new(&f).map(VaeConfig::Tiny),
            "AutoencoderDC" => DcConfig::new(&f).map(VaeConfig::Dc),
            "TAEF2" => TinyConfig::new(&f)
                .map(|tiny| VaeConfig::Tiny(TinyConfig { latent_channels: 32, taef2: true, ..tiny })),
            _ => Err(f.unsupported(
                "_class_name",
                "AutoencoderKL, AutoencoderKLFlux2, AutoencoderTiny or AutoencoderDC",
            )),
        }
    }

    /// Pixels for each latent, along one side.
    pub fn spatial_factor(&self) -> usize {
        self.cell() * self.packing()
    }

    /// Cells of the network for each latent, along one side.
    pub fn packing(&self) -> usize {
        match self {
            VaeConfig::Kl(KlConfig { batch_norm_eps: Some(_), .. }) => 2,
            _ => 1,
        }
    }

    /// Pixels for each cell of the network, along one side: the `vae_scale_factor` of diffusers' pipelines.
    pub fn cell(&self) -> usize {
        let levels = match self {
            VaeConfig::Kl(kl) => kl.block_out_channels.len(),
            VaeConfig::Tiny(tiny) => tiny.decoder_block_out_channels.len(),
            VaeConfig::Dc(dc) => dc.decoder.len(),
        };
        1 << (levels - 1)
    }

    /// Of a latent, as a denoiser sees it.
    pub fn latent_channels(&self) -> usize {
        self.cell_channels() * self.packing().pow(2)
    }

    /// Of a cell of the network.
    pub fn cell_channels(&self) -> usize {
        match self {
            VaeConfig::Kl(kl) => kl.latent_channels,
            VaeConfig::Tiny(tiny) => tiny.latent_channels,
            VaeConfig::Dc(dc) => dc.latent_channels,
        }
    }
}

impl KlConfig {
    /// Ignored: `sample_size`, which is about tiling.
    fn new(f: &Fields) -> Result<Self> {
        f.only("latents_mean", Value::Null)?;
        f.only("latents_std", Value::Null)?;
        let config = KlConfig::with_defaults(f, &[64], 1, 4)?;
        let shift_factor = match f.get("shift_factor") {
            None | Some(Value::Null) => None,
            Some(_) => Some(f.float("shift_factor", 0.0)?),
        };
        let scaling_factor = f.positive("scaling_factor", 0.18215)?;
        Ok(KlConfig { scaling_factor, shift_factor, ..config })
    }

    /// Ignored: `batch_norm_momentum`, which is about training.
    fn of_flux2(f: &Fields) -> Result<Self> {
        f.only("patch_size", json!([2, 2]))?;
        let config = KlConfig::with_defaults(f, &[128, 256, 512, 512], 2, 32)?;
        Ok(KlConfig { batch_norm_eps: Some(f.positive("batch_norm_eps", 1e-4)?), ..config })
    }

    /// What both classes have, with these defaults of widths, layers and channels.
    fn with_defaults(f: &Fields, widths: &[usize], layers: usize, channels: usize) -> Result<Self> {
        f.one_of("act_fn", &["silu", "swish"])?;
        f.only("out_channels", json!(3))?;
        let block_out_channels = f.levels("block_out_channels", widths)?;
        let blocks = block_out_channels.len();
        let decoder_block_out_channels = match f.get("decoder_block_out_channels") {
            None | Some(Value::Null) => block_out_channels.clone(),
            Some(_) => f.levels("decoder_block_out_channels", &[])?,
        };
        if decoder_block_out_channels.len() != blocks {
            let wanted = format!("{blocks} entries, as many as block_out_channels");
            return Err(f.wrong("decoder_block_out_channels", &wanted));
        }
        let usual = vec![(); widths.len()];
        f.block_types("down_block_types", blocks, &usual, &[("DownEncoderBlock2D", ())])?;
        f.block_types("up_block_types", blocks, &usual, &[("UpDecoderBlock2D", ())])?;
        let layers_per_block = f.count("layers_per_block", layers)?;
        f.check_depth("layers_per_block", blocks.saturating_mul(layers_per_block))?;
        let norm_num_groups = f.count("norm_num_groups", 32)?;
        let mid_block_add_attention = f.bool("mid_block_add_attention", true)?;
        for (key, widths) in [
            ("block_out_channels", &block_out_channels),
            ("decoder_block_out_channels", &decoder_block_out_channels),
        ] {
            f.check_widths(key, widths, norm_num_groups)?;
            if mid_block_add_attention && widths.last().is_some_and(|&width| width > MAX_HEAD) {
                return Err(f.unsupported(key, "at most 512 at the end, where the mid block attends"));
            }
        }
        Ok(KlConfig {
            in_channels: f.count("in_channels", 3)?,
            out_channels: f.count("out_channels", 3)?,
            block_out_channels,
            decoder_block_out_channels,
            layers_per_block,
            latent_channels: f.count("latent_channels", channels)?,
            norm_num_groups,
            scaling_factor: 1.0,
            shift_factor: None,
            use_quant_conv: f.bool("use_quant_conv", true)?,
            use_post_quant_conv: f.bool("use_post_quant_conv", true)?,
            mid_block_add_attention,
            force_upcast: f.bool("force_upcast", true)?,
            batch_norm_eps: None,
        })
    }
}

impl TinyConfig {
    /// Ignored: `latent_magnitude` and `latent_shift`, which are about storing latents in bytes;
    /// `force_upcast`, which the class itself overrides; and `block_out_channels`, a copy.
    fn new(f: &Fields) -> Result<Self> {
        f.only("act_fn", json!("relu"))?;
        f.only("out_channels", json!(3))?;
        f.only("upsample_fn", json!("nearest"))?;
        f.only("upsampling_scaling_factor", json!(2))?;
        f.only("shift_factor", json!(0.0))?;
        let side = |widths_key: &str, blocks_key: &str, blocks: [usize; 4]| {
            let widths = f.levels(widths_key, &[64; 4])?;
            let blocks = f.levels(blocks_key, &blocks)?;
            if blocks.len() != widths.len() {
                let wanted = format!("{} entries, as many as {widths_key}", widths.len());
                return Err(f.wrong(blocks_key, &wanted));
            }
            f.check_depth(blocks_key, blocks.iter().sum())?;
            if widths.iter().any(|w| *w != widths[0] || !w.is_multiple_of(4)) {
                return Err(f.unsupported(widths_key, "one multiple of 4 for all blocks"));
            }
            Ok((widths, blocks))
        };
        let encoder = side("encoder_block_out_channels", "num_encoder_blocks", [1, 3, 3, 3])?;
        let decoder = side("decoder_block_out_channels", "num_decoder_blocks", [3, 3, 3, 1])?;
        Ok(TinyConfig {
            in_channels: f.count("in_channels", 3)?,
            out_channels: f.count("out_channels", 3)?,
            encoder_block_out_channels: encoder.0,
            decoder_block_out_channels: decoder.0,
            num_encoder_blocks: encoder.1,
            num_decoder_blocks: decoder.1,
            latent_channels: f.count("latent_channels", 4)?,
            upsampling_scaling_factor: 2,
            scaling_factor: f.positive("scaling_factor", 1.0)?,
            taef2: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{self, InvalidModel, Unsupported};

    /// `keys` are the members of the object, without braces.
    fn parse(class: &str, keys: &str) -> Result<VaeConfig> {
        let comma = if keys.is_empty() { "" } else { "," };
        let json = format!(r#"{{"_class_name": "{class}"{comma} {keys}}}"#);
        VaeConfig::from_json(json.as_bytes(), "vae/config.json")
    }

    const TWO: &str = r#""down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]"#;

    #[test]
    fn defaults_are_those_of_diffusers() {
        let kl = parse("AutoencoderKL", "").unwrap();
        let wanted = KlConfig {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![64],
            decoder_block_out_channels: vec![64],
            layers_per_block: 1,
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            force_upcast: true,
            batch_norm_eps: None,
        };
        assert_eq!(kl.spatial_factor(), 1);
        assert_eq!(kl, VaeConfig::Kl(wanted));
        let tiny = parse("AutoencoderTiny", "").unwrap();
        let wanted = TinyConfig {
            in_channels: 3,
            out_channels: 3,
            encoder_block_out_channels: vec![64; 4],
            decoder_block_out_channels: vec![64; 4],
            num_encoder_blocks: vec![1, 3, 3, 3],
            num_decoder_blocks: vec![3, 3, 3, 1],
            latent_channels: 4,
            upsampling_scaling_factor: 2,
            scaling_factor: 1.0,
            taef2: false,
        };
        assert_eq!((tiny.spatial_factor(), tiny.latent_channels()), (8, 4));
        assert_eq!(tiny, VaeConfig::Tiny(wanted));
        assert_eq!(parse("TAEF2", "").unwrap().latent_channels(), 32);
        let flux2 = parse("AutoencoderKLFlux2", "").unwrap();
        assert_eq!((flux2.spatial_factor(), flux2.latent_channels()), (16, 128));
        let VaeConfig::Kl(flux2) = flux2 else { panic!("{flux2:?}") };
        assert_eq!((flux2.layers_per_block, flux2.batch_norm_eps), (2, Some(1e-4)));
        assert_eq!((flux2.scaling_factor, flux2.shift_factor), (1.0, None));
        assert_eq!(
            [&flux2.block_out_channels, &flux2.decoder_block_out_channels],
            [&[128, 256, 512, 512]; 2]
        );
    }

    #[test]
    fn a_decoder_may_be_narrower() {
        let keys = |widths: &str| format!(r#""decoder_block_out_channels": {widths}"#);
        let VaeConfig::Kl(kl) = parse("AutoencoderKLFlux2", &keys("[96, 192, 384, 384]")).unwrap() else {
            panic!("no KL autoencoder");
        };
        assert_eq!(kl.block_out_channels, [128, 256, 512, 512]);
        assert_eq!(kl.decoder_block_out_channels, [96, 192, 384, 384]);
        for (widths, words) in
            [("[96]", "as many as block_out_channels"), ("[96, 192, 384, 576]", "at most 512")]
        {
            let error = parse("AutoencoderKLFlux2", &keys(widths)).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn values_are_read() {
        let keys = format!(
            r#"{TWO}, "block_out_channels": [16, 24], "layers_per_block": 2, "latent_channels": 16,
            "norm_num_groups": 8, "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": false,
            "use_post_quant_conv": false, "mid_block_add_attention": false, "force_upcast": false,
            "in_channels": 5, "out_channels": 3, "latents_mean": null"#
        );
        let kl = parse("AutoencoderKL", &keys).unwrap();
        assert_eq!((kl.spatial_factor(), kl.latent_channels()), (2, 16));
        let wanted = KlConfig {
            in_channels: 5,
            out_channels: 3,
            block_out_channels: vec![16, 24],
            decoder_block_out_channels: vec![16, 24],
            layers_per_block: 2,
            latent_channels: 16,
            norm_num_groups: 8,
            scaling_factor: 1.5305,
            shift_factor: Some(0.0609),
            use_quant_conv: false,
            use_post_quant_conv: false,
            mid_block_add_attention: false,
            force_upcast: false,
            batch_norm_eps: None,
        };
        assert_eq!(kl, VaeConfig::Kl(wanted));
    }

    #[test]
    fn refusals_name_file_key_and_value() {
        let (kl, tiny) = ("AutoencoderKL", "AutoencoderTiny");
        let cases: [(&str, &str, Code, &[&str]); 17] = [
            ("AutoencoderKLFlux2", r#""patch_size": [1, 1]"#, Unsupported, &["patch_size", "[1,1]", "[2,2]"]),
            ("VQModel", "", Unsupported, &["_class_name", "VQModel", tiny]),
            (kl, r#""act_fn": "relu""#, Unsupported, &["act_fn", "relu", "silu"]),
            (kl, r#""latents_mean": [0.5]"#, Unsupported, &["latents_mean", "0.5"]),
            (kl, r#""latents_std": [0.5]"#, Unsupported, &["latents_std", "0.5"]),
            (tiny, r#""upsample_fn": "bilinear""#, Unsupported, &["upsample_fn", "bilinear", "nearest"]),
            (tiny, r#""shift_factor": 0.5"#, Unsupported, &["shift_factor", "0.5", "0.0"]),
            (kl, r#""block_out_channels": [32, 64]"#, InvalidModel, &["down_block_types", "2"]),
            (kl, r#""block_out_channels": []"#, InvalidModel, &["block_out_channels", "[]"]),
            (kl, r#""block_out_channels": [30]"#, InvalidModel, &["block_out_channels", "30", "32"]),
            (
                kl,
                r#""block_out_channels": [6], "norm_num_groups": 3"#,
                Unsupported,
                &["[6]", "multiples of 4"],
            ),
            (kl, r#""up_block_types": ["X"]"#, Unsupported, &["up_block_types", "X", "UpDecoderBlock2D"]),
            (kl, r#""scaling_factor": 0"#, InvalidModel, &["scaling_factor", "0"]),
            (tiny, r#""act_fn": "gelu""#, Unsupported, &["act_fn", "gelu", "relu"]),
            (
                tiny,
                r#""upsampling_scaling_factor": 3"#,
                Unsupported,
                &["upsampling_scaling_factor", "3", "2"],
            ),
            (tiny, r#""num_decoder_blocks": [3, 1]"#, InvalidModel, &["num_decoder_blocks", "[3,1]", "4"]),
            (
                tiny,
                r#""encoder_block_out_channels": [64, 64, 64, 32]"#,
                Unsupported,
                &["encoder_block_out_channels", "32"],
            ),
        ];
        for (class, keys, code, words) in cases {
            let e = parse(class, keys).unwrap_err();
            assert_eq!(e.code, code, "{keys}: {e}");
            for word in words.iter().chain(&["vae/config.json"]) {
                assert!(e.message.contains(word), "{word} is missing: {e}");
            }
        }
    }
}
