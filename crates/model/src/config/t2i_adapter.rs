//! `config.json` of a T2I-Adapter: diffusers' `T2IAdapter`.

use super::fields::Fields;
use crate::error::{Error, Result};

/// What makes features for a U-Net's down blocks from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct T2iAdapterConfig {
    pub adapter_type: AdapterType,
    /// Of the image.
    pub in_channels: usize,
    /// Widths, 1 to 8 levels from the highest resolution down. A light adapter has one block more, as wide
    /// as the last.
    pub channels: Vec<usize>,
    /// Resnets in each block.
    pub num_res_blocks: usize,
    /// Side of the squares of pixels that become channels, at most 64.
    pub downscale_factor: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterType {
    Full,
    /// Halves the size only once, before its third block: SDXL's.
    FullXl,
    /// Narrow inside.
    Light,
}

/// Blocks, and resnets of a block, that are looked for in a file.
const MAX_FOUND: usize = 9;

impl T2iAdapterConfig {
    /// Errors are `InvalidModel` and `Unsupported`, as the module says.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let f = Fields::parse(bytes, file)?;
        f.class("T2IAdapter")?;
        let adapter_type = match f.string("adapter_type", Some("full_adapter"))?.as_str() {
            "full_adapter" => AdapterType::Full,
            "full_adapter_xl" => AdapterType::FullXl,
            "light_adapter" => AdapterType::Light,
            _ => return Err(f.unsupported("adapter_type", "full_adapter, full_adapter_xl or light_adapter")),
        };
        let channels = f.levels("channels", &[320, 640, 1280, 1280])?;
        if adapter_type == AdapterType::FullXl && channels.iter().skip(2).any(|&c| c != channels[2]) {
            // The class has nothing that could change the width there.
            return Err(f.wrong("channels", "equal entries from the third on in a full_adapter_xl"));
        }
        if adapter_type == AdapterType::Light && channels.iter().any(|c| !c.is_multiple_of(4)) {
            return Err(f.unsupported("channels", "multiples of 4 in a light_adapter"));
        }
        let (in_channels, downscale_factor) = (f.count("in_channels", 3)?, f.count("downscale_factor", 8)?);
        if downscale_factor > 64 {
            return Err(f.unsupported("downscale_factor", "at most 64"));
        }
        if in_channels > 64 {
            return Err(f.unsupported("in_channels", "at most 64"));
        }
        let num_res_blocks = f.count("num_res_blocks", 2)?;
        f.check_depth("num_res_blocks", channels.len().saturating_mul(num_res_blocks))?;
        Ok(T2iAdapterConfig { adapter_type, in_channels, channels, num_res_blocks, downscale_factor })
    }

    /// Of a T2I-Adapter without a configuration: `shape` gives that of a tensor by diffusers' name. How pixels become
    /// channels no shape tells, but there is one way for each number of them.
    pub fn of_shapes<'s>(shape: impl Fn(&str) -> Option<&'s [usize]>, file: &str) -> Result<Self> {
        let sides = |name: &str| match shape(&format!("adapter.{name}.weight")) {
            Some(&[outputs, inputs, ..]) => Some([outputs, inputs]),
            _ => None,
        };
        let (first, light) = match sides("conv_in") {
            Some([_, inputs]) => (inputs, false),
            None => (sides("body.0.in_conv").map_or(0, |[_, inputs]| inputs), true),
        };
        let (in_channels, downscale_factor) = match first {
            64 | 192 => (first / 64, 8),
            256 | 768 => (first / 256, 16),
            _ => {
                return Err(Error::unsupported(format!(
                    "{file}: a T2I-Adapter's first convolution: supported are 64, 192, 256 and 768 channels, found {first}"
                )));
            }
        };
        let resnet = |j: &usize| sides(&format!("body.0.resnets.{j}.block1")).is_some();
        let width = |i: usize| match light {
            true => sides(&format!("body.{i}.out_conv")),
            false => sides(&format!("body.{i}.resnets.0.block1")),
        };
        let mut channels: Vec<usize> = (0..MAX_FOUND).map_while(width).map(|[outputs, _]| outputs).collect();
        // It ends with one more block of the same width.
        channels.truncate(channels.len() - usize::from(light && channels.len() > 1));
        let adapter_type = match (light, downscale_factor) {
            (true, _) => AdapterType::Light,
            (_, 8) => AdapterType::Full,
            _ => AdapterType::FullXl,
        };
        let num_res_blocks = (0..MAX_FOUND).take_while(resnet).count();
        Ok(T2iAdapterConfig { adapter_type, in_channels, channels, num_res_blocks, downscale_factor })
    }

    /// Channels of the input: those of a square of pixels.
    pub fn unshuffled(&self) -> usize {
        self.in_channels * self.downscale_factor * self.downscale_factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code::{self, InvalidModel, Unsupported};

    fn parse(json: &str) -> Result<T2iAdapterConfig> {
        T2iAdapterConfig::from_json(json.as_bytes(), "adapter/config.json")
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let wanted = T2iAdapterConfig {
            adapter_type: AdapterType::Full,
            in_channels: 3,
            channels: vec![320, 640, 1280, 1280],
            num_res_blocks: 2,
            downscale_factor: 8,
        };
        assert_eq!(wanted.unshuffled(), 192);
        assert_eq!(parse("{}").unwrap(), wanted);
        assert_eq!(
            parse(r#"{"_class_name": "T2IAdapter", "adapter_type": "full_adapter"}"#).unwrap(),
            wanted
        );
    }

    #[test]
    fn values_are_read() {
        let json = r#"{"adapter_type": "light_adapter", "in_channels": 1, "channels": [32, 64],
            "num_res_blocks": 4, "downscale_factor": 16}"#;
        let wanted = T2iAdapterConfig {
            adapter_type: AdapterType::Light,
            in_channels: 1,
            channels: vec![32, 64],
            num_res_blocks: 4,
            downscale_factor: 16,
        };
        assert_eq!(parse(json).unwrap(), wanted);
        let xl = parse(r#"{"adapter_type": "full_adapter_xl"}"#).unwrap();
        assert_eq!(xl.adapter_type, AdapterType::FullXl);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let cases: [(&str, Code, &str); 7] = [
            (r#"{"_class_name": "MultiAdapter"}"#, Unsupported, "MultiAdapter"),
            (r#"{"adapter_type": "half_adapter"}"#, Unsupported, "half_adapter"),
            (r#"{"adapter_type": "light_adapter", "channels": [30]}"#, Unsupported, "multiples of 4"),
            (r#"{"downscale_factor": 128}"#, Unsupported, "downscale_factor is 128"),
            (r#"{"in_channels": 65}"#, Unsupported, "in_channels is 65"),
            (r#"{"channels": 320}"#, InvalidModel, "channels is 320"),
            (
                r#"{"adapter_type": "full_adapter_xl", "channels": [320, 640, 1280, 640]}"#,
                InvalidModel,
                "from the third on",
            ),
        ];
        for (json, code, words) in cases {
            let e = parse(json).unwrap_err();
            assert_eq!(e.code, code, "{json}: {e}");
            assert!(e.message.contains(words) && e.message.contains("adapter/config.json"), "{e}");
        }
    }
}
