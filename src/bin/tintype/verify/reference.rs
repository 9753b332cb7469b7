//! Reference tensors from a safetensors file, and the distance from them.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use tintype::error::{Error, Result};
use tintype::weights::{Dtype, Header};

pub struct Reference {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Reference {
    pub fn open(path: &Path) -> Result<Reference> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| Error::not_found(format!("{file}: {e}")))?;
        let short = || Error::model(format!("{file}: too short for a safetensors file"));
        let length = bytes.get(..8).ok_or_else(short)?;
        let start = 8 + u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
        let json = bytes.get(8..start).ok_or_else(short)?;
        let header = Header::parse(json, Some((bytes.len() - start) as u64), &file)?;
        let mut tensors = BTreeMap::new();
        for t in header.tensors {
            let values = convert(&t.dtype, &bytes[start + t.begin as usize..start + t.end as usize])
                .ok_or_else(|| Error::model(format!("{file}: {} has the dtype {:?}", t.name, t.dtype)))?;
            tensors.insert(t.name, (t.shape, values));
        }
        Ok(Reference { tensors })
    }

    /// Lists of images and texts, as Z-Image takes them (`in.x.0`, `in.cap_feats.0`), in the form of other transformers: texts
    /// are filled up with zeros, which a mask tells.
    pub fn with_lists_joined(mut self) -> Result<Reference> {
        let first = |name: &String| name.strip_suffix("in.x.0").map(str::to_owned);
        let prefixes: Vec<String> = self.tensors.keys().filter_map(first).collect();
        for prefix in &prefixes {
            let list = |name: &str| -> Vec<&(Vec<usize>, Vec<f64>)> {
                (0..).map_while(|i| self.tensors.get(&format!("{prefix}{name}.{i}"))).collect()
            };
            let (texts, count) = (list("in.cap_feats"), list("in.x").len());
            let (longest, width) = (texts.iter().map(|t| t.0[0]).max().unwrap_or(0), texts[0].0[1]);
            let [mut text, mut mask] = [vec![], vec![]];
            for (i, (shape, values)) in texts.iter().enumerate() {
                text.extend_from_slice(values);
                text.resize((i + 1) * longest * width, 0.0);
                mask.extend((0..longest).map(|at| if at < shape[0] { 1.0 } else { 0.0 }));
            }
            let batch = |name: &str| -> Vec<f64> { list(name).iter().flat_map(|t| &t.1).copied().collect() };
            let [c, _, h, w] = self.shape(&format!("{prefix}in.x.0"))?[..] else {
                return Err(Error::unsupported(format!("{prefix}in.x.0 is not [C, 1, h, w]")));
            };
            let images = vec![count, c, h, w];
            let times = self.f64(&format!("{prefix}in.t"))?.to_vec();
            let joined = [
                ("in.hidden_states", images.clone(), batch("in.x")),
                ("in.encoder_hidden_states", vec![count, longest, width], text),
                ("in.encoder_attention_mask", vec![count, longest], mask),
                ("in.timestep", vec![times.len()], times),
                ("out.sample", images, batch("out.sample")),
            ];
            for (name, shape, values) in joined.into_iter().filter(|(_, _, values)| !values.is_empty()) {
                self.tensors.insert(format!("{prefix}{name}"), (shape, values));
            }
        }
        // One image alone.
        for (shape, _) in self.tensors.iter_mut().filter(|(name, _)| name.contains("out.")).map(|(_, t)| t) {
            if let [c, 1, h, w] = shape[..] {
                *shape = vec![1, c, h, w];
            }
        }
        Ok(self)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.tensors
            .get(name)
            .map(|t| &t.0[..])
            .ok_or_else(|| Error::model(format!("the reference has no {name}")))
    }

    pub fn f64(&self, name: &str) -> Result<&[f64]> {
        self.tensors
            .get(name)
            .map(|t| &t.1[..])
            .ok_or_else(|| Error::model(format!("the reference has no {name}")))
    }

    /// In the stored order: [N, C, H, W] for images.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.f64(name)?.iter().map(|&v| v as f32).collect())
    }

    /// [N, C, H, W] as [N, H, W, C]; sequences as they are.
    pub fn nhwc(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.f32(name)?;
        Ok(match *self.shape(name)? {
            [_, c, h, w] => tintype::shape::nhwc(&values, c, h * w),
            _ => values,
        })
    }
}

/// Latents as tokens of this width, `[N, T, width]`, as `[N, C, h, w]`: a latent each, or squares of 2x2 in the order
/// channel, row, column.
pub fn unpacked(values: &[f32], width: usize, [n, c, h, w]: [usize; 4]) -> Vec<f32> {
    if width == c {
        return tintype::shape::nchw(values, c, h * w);
    }
    let (down, across) = (h / 2, w / 2);
    let at = |image: usize, channel: usize, row: usize, column: usize| {
        let token = (image * down + row / 2) * across + column / 2;
        token * 4 * c + channel * 4 + row % 2 * 2 + column % 2
    };
    let places = (0..n * c * h * w).map(|i| (i / (c * h * w), i / (h * w) % c, i / w % h, i % w));
    places.map(|(image, channel, row, column)| values[at(image, channel, row, column)]).collect()
}

fn convert(dtype: &Dtype, bytes: &[u8]) -> Option<Vec<f64>> {
    fn all<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.chunks_exact(N).map(|b| value(b.try_into().expect("N bytes"))).collect()
    }
    Some(match dtype {
        Dtype::F64 => all(bytes, f64::from_le_bytes),
        Dtype::F32 => all(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => all(bytes, |b| f16::from_le_bytes(b).to_f64()),
        Dtype::Bf16 => all(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        Dtype::I64 => all(bytes, |b| i64::from_le_bytes(b) as f64),
        _ => return None,
    })
}

/// |got - want| / |want|, or infinity when the lengths differ.
pub fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() || got.is_empty() {
        return f64::INFINITY;
    }
    let square = |v: f64| v * v;
    let difference: f64 = got.iter().zip(want).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = want.iter().map(|&b| square(f64::from(b))).sum();
    if norm == 0.0 && difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}
