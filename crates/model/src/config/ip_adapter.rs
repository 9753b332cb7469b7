//! What the file of an IP-Adapter says of itself: it has no configuration, but names and shapes.

use super::ClipVisionConfig;
use crate::error::{Error, Result};
use crate::weights::Header;

/// How an IP-Adapter makes tokens of what an image encoder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpAdapterConfig {
    /// Of the image embedding, by one matrix.
    Plain,
    /// "Full face": of every token's state before the encoder's last layer, by two matrices.
    Full { inner: usize },
    /// "Plus" and "plus face": `queries` tokens that attend to those states, in `depth` layers of `width` channels.
    Plus { queries: usize, width: usize, heads: usize, depth: usize, inner: usize },
}

impl IpAdapterConfig {
    /// Channels of a head in a resampler: no shape tells them, and all published ones have as many.
    pub const HEAD: usize = 64;

    /// Errors are `Unsupported` for adapters that see faces by other means, else `InvalidModel`.
    pub fn from_header(header: &Header, file: &str) -> Result<Self> {
        let find = |name: &str| header.tensors.iter().find(|t| t.name == name);
        let has = |name: &str| find(&format!("image_proj.{name}")).is_some();
        let wrong = |name: &str, wanted: &str, found: &[usize]| {
            Error::unsupported(format!("{file}: {name}: supported is {wanted}, found {found:?}"))
        };
        let matrix = |name: &str, of: usize| -> Result<usize> {
            let name = format!("image_proj.{name}");
            let Some(tensor) = find(&name) else {
                return Err(Error::model(format!(
                    "{file}: wanted the tensor {name}, found none of this name"
                )));
            };
            match tensor.shape[..] {
                [outputs, _] if is_width(outputs, of) => Ok(outputs),
                _ => Err(wrong(&name, &format!("a matrix whose rows are a multiple of {of}"), &tensor.shape)),
            }
        };
        let face = |name: &&str| {
            let plain = has("proj.weight") || has("proj.3.weight");
            name.contains("perceiver_resampler")
                || name.contains("_lora.")
                || !plain && *name == "image_proj.norm.weight"
        };
        if let Some(name) = header.tensors.iter().map(|t| t.name.as_str()).find(face) {
            return Err(Error::unsupported(format!(
                "{file}: {name} is a tensor of an IP-Adapter FaceID, which sees a face through a network for faces; \
                 supported are IP-Adapter, plus, plus face and full face, which see an image through CLIP"
            )));
        }
        if has("proj.weight") {
            return Ok(IpAdapterConfig::Plain);
        }
        if has("proj.3.weight") {
            return Ok(IpAdapterConfig::Full { inner: matrix("proj.0.weight", 4)? });
        }
        let Some(latents) = find("image_proj.latents") else {
            let first = header.tensors.first().map_or("none at all", |t| &t.name);
            return Err(Error::model(format!(
                "{file}: wanted the tensors of an IP-Adapter, one of image_proj.proj.weight, image_proj.proj.3.weight and \
                 image_proj.latents, found {first}"
            )));
        };
        let [1, queries, width] = latents.shape[..] else {
            return Err(wrong(&latents.name, "[1, queries, width]", &latents.shape));
        };
        if !is_width(width, 4) || !(1..=MAX_QUERIES).contains(&queries) {
            return Err(wrong(&latents.name, "a width that is a multiple of 4", &latents.shape));
        }
        let layer = |i: usize| has(&format!("layers.{i}.0.to_q.weight"));
        let depth = (0..=MAX_DEPTH).take_while(|&i| layer(i)).count();
        if depth > MAX_DEPTH {
            return Err(Error::unsupported(format!(
                "{file}: image_proj.layers: supported are at most {MAX_DEPTH}, found more"
            )));
        }
        let heads = matrix("layers.0.0.to_q.weight", Self::HEAD)? / Self::HEAD;
        Ok(IpAdapterConfig::Plus { queries, width, heads, depth, inner: matrix("layers.0.1.1.weight", 4)? })
    }

    /// Whether the file is for a U-Net whose context is `context` wide, and for this image encoder: published adapters
    /// for SDXL come with one of two.
    pub fn check(
        self,
        header: &Header,
        file: &str,
        context: usize,
        encoder: &ClipVisionConfig,
    ) -> Result<()> {
        let (norm, first) = match self {
            IpAdapterConfig::Plain => ("image_proj.norm.weight", "image_proj.proj.weight"),
            IpAdapterConfig::Full { .. } => ("image_proj.proj.3.weight", "image_proj.proj.0.weight"),
            IpAdapterConfig::Plus { .. } => ("image_proj.norm_out.weight", "image_proj.proj_in.weight"),
        };
        let (seen, says) = match self.sees_states() {
            true => (encoder.hidden_size, "image_encoder/config.json: hidden_size"),
            false => (encoder.projection_dim, "image_encoder/config.json: projection_dim"),
        };
        for (name, key, wanted) in
            [(norm, "unet/config.json: cross_attention_dim", context), (first, says, seen)]
        {
            let tensor = header.tensors.iter().find(|t| t.name == name);
            if let Some(found) = tensor.and_then(|t| t.shape.last()).filter(|found| **found != wanted) {
                return Err(Error::model(format!(
                    "{file}: the IP-Adapter is for another model or image encoder: {name} is for {found} channels, but \
                     {key} is {wanted}"
                )));
            }
        }
        Ok(())
    }

    /// Whether it sees the states before the encoder's last layer, rather than the image embedding.
    pub fn sees_states(self) -> bool {
        self != IpAdapterConfig::Plain
    }
}

/// Most layers of a resampler; published ones have 4.
const MAX_DEPTH: usize = 64;
/// Most queries of a resampler; published ones have 16. A 32-bit machine can count the values of these and the widths.
const MAX_QUERIES: usize = 1 << 12;

fn is_width(n: usize, of: usize) -> bool {
    (1..=1 << 16).contains(&n) && n.is_multiple_of(of)
}

#[cfg(test)]
mod tests {
    use super::IpAdapterConfig::{Full, Plain, Plus};
    use super::*;
    use crate::error::Code::{InvalidModel, Unsupported};
    use crate::weights::{Dtype, TensorInfo};

    fn read(tensors: &[(&str, &[usize])]) -> Result<IpAdapterConfig> {
        let info = |&(name, shape): &(&str, &[usize])| TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::F16,
            shape: shape.to_vec(),
            begin: 0,
            end: 0,
        };
        let header = Header { tensors: tensors.iter().map(info).collect(), metadata: Default::default() };
        IpAdapterConfig::from_header(&header, "a.safetensors")
    }

    /// As published for SD 1.5 and SDXL.
    #[test]
    fn names_and_shapes_tell_the_kind() {
        let base: &[(&str, &[usize])] =
            &[("image_proj.norm.weight", &[768]), ("image_proj.proj.weight", &[3072, 1024])];
        assert_eq!(read(base).unwrap(), Plain);
        let full: &[(&str, &[usize])] =
            &[("image_proj.proj.0.weight", &[1280, 1280]), ("image_proj.proj.3.weight", &[768])];
        assert_eq!(read(full).unwrap(), Full { inner: 1280 });
        for (width, heads) in [(768, 12), (1280, 20)] {
            let plus: &[(&str, &[usize])] = &[
                ("image_proj.latents", &[1, 16, width]),
                ("image_proj.layers.0.0.to_q.weight", &[width, width]),
                ("image_proj.layers.0.1.1.weight", &[4 * width, width]),
                ("image_proj.layers.1.0.to_q.weight", &[width, width]),
            ];
            assert_eq!(read(plus).unwrap(), Plus { queries: 16, width, heads, depth: 2, inner: 4 * width });
        }
    }

    #[test]
    fn adapters_of_faces_are_refused_by_name() {
        let faces: [&[(&str, &[usize])]; 3] = [
            &[("image_proj.proj.0.weight", &[1024, 512]), ("image_proj.norm.weight", &[768])],
            &[("image_proj.perceiver_resampler.latents", &[1, 4, 768])],
            &[("ip_adapter.0.to_q_lora.down.weight", &[128, 320]), ("image_proj.proj.weight", &[3072, 512])],
        ];
        for tensors in faces {
            let e = read(tensors).unwrap_err();
            let named = tensors.iter().any(|(name, _)| e.message.contains(&format!("a.safetensors: {name}")));
            assert!(e.code == Unsupported && named && e.message.contains("FaceID"), "{e}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_tensor() {
        let plus: [(&str, &[usize]); 3] = [
            ("image_proj.latents", &[1, 2, 8]),
            ("image_proj.layers.0.0.to_q.weight", &[64, 8]),
            ("image_proj.layers.0.1.1.weight", &[16, 8]),
        ];
        assert!(read(&plus).is_ok());
        let shapes: [(usize, &[usize]); 6] =
            [(0, &[2, 2, 8]), (0, &[1, 2, 6]), (0, &[1, 0, 8]), (1, &[80, 8]), (2, &[16]), (2, &[0, 8])];
        for (at, shape) in shapes {
            let mut tensors = plus;
            tensors[at].1 = shape;
            let e = read(&tensors).unwrap_err();
            assert!(e.code == Unsupported && e.message.contains(plus[at].0), "{e}");
            assert!(e.message.contains(&format!("{shape:?}")), "{e}");
        }
        for (tensors, words) in [(&plus[..1], "layers.0.0.to_q.weight"), (&plus[1..], "image_proj.latents")] {
            let e = read(tensors).unwrap_err();
            assert!(e.code == InvalidModel && e.message.contains(words), "{e}");
        }
    }
}
