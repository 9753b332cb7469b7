//! Scales beside weights of 8 bits: `x.scale_weight` (also `x.weight_scale`), as ComfyUI writes and reads them. What is
//! meant is the product of both. `x.scale_input` is about activations, which are not stored in 8 bits here.

use std::collections::HashMap;

use super::safetensors::{Dtype, Header, TensorInfo};
use super::source::{Folder, OpenFile};
use super::widen::{widen, widens};
use crate::error::{Code, Error, Result};
use crate::warning::{Topic, Warning};

/// What a scale is called behind the module whose `weight` it is for.
const ENDS: [&str; 2] = ["scale_weight", "weight_scale"];

/// The scales of a file's weights.
#[derive(Default)]
pub(super) struct Scales {
    /// By the weight: one number, or one for each of its rows.
    values: HashMap<String, Vec<f32>>,
    /// As they were read before the rest of the file, by their own names.
    bytes: HashMap<String, Vec<u8>>,
    /// Scales of weights that have bits enough, which are taken as they are.
    unused: Vec<String>,
}

impl Scales {
    /// Reads the scale of every weight that is wanted and has one. They are a few bytes each, and may stand behind
    /// their weights. `data` is where the data begins.
    ///
    /// Errors: `Unsupported` for scales that are neither one number nor one a row; `InvalidModel` for a file that ends, and for
    /// a weight with two scales.
    pub async fn read(
        folder: &dyn Folder,
        path: &str,
        (header, data): (&Header, u64),
        wanted: &[bool],
    ) -> Result<Scales> {
        let mut scales = Scales::default();
        let by_name: HashMap<&str, &TensorInfo> =
            header.tensors.iter().map(|info| (info.name.as_str(), info)).collect();
        let mut scaled = vec![];
        for (info, _) in header.tensors.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
            let partners =
                partners(&info.name).into_iter().filter_map(|name| by_name.get(name.as_str()).copied());
            match partners.filter(|partner| is_scale(&partner.name)).collect::<Vec<_>>()[..] {
                [one, other, ..] if is_eight_bits(info) => {
                    return Err(Error::model(format!(
                        "{path}: '{}' has two scales, wanted one, found {} and {}",
                        info.name, one.name, other.name
                    )));
                }
                [scale, ..] => scaled.push((info, scale)),
                [] => {}
            }
        }
        let (mut found, others): (Vec<(&TensorInfo, &TensorInfo)>, Vec<_>) =
            scaled.into_iter().partition(|(info, _)| is_eight_bits(info));
        scales.unused.extend(others.into_iter().map(|(_, scale)| scale.name.clone()));
        found.sort_by_key(|(_, scale)| scale.begin);
        let mut open: Option<(OpenFile, u64)> = None;
        for (info, scale) in found {
            let count = scale.shape.iter().product::<usize>();
            if !widens(scale) || (count != 1 && (count != info.rows() || count > MOST)) {
                return Err(Error::unsupported(format!(
                    "{path}: '{}' is {} {:?}, supported are scales of one number, or of one for each of the {} rows \
                     of '{}'",
                    scale.name,
                    scale.dtype,
                    scale.shape,
                    info.rows(),
                    info.name
                )));
            }
            // What lies between two scales is read over, unless it is much.
            let file = match open.take() {
                Some((mut file, at)) if scale.begin - at <= NEAR => {
                    file.skip(scale.begin - at).await?;
                    file
                }
                _ => folder.open_at(path, data + scale.begin, false).await?.ok_or_else(|| gone(path))?,
            };
            let (mut file, mut bytes) = (file, vec![0; (scale.end - scale.begin) as usize]);
            if file.read_full(&mut bytes).await? < bytes.len() {
                return Err(Error::model(format!(
                    "{path} is truncated: it ends inside tensor '{}'",
                    scale.name
                )));
            }
            let mut units = vec![0u16; bytes.len().div_ceil(2)];
            bytemuck::cast_slice_mut(&mut units)[..bytes.len()].copy_from_slice(&bytes);
            let mut values = vec![0.0; count];
            widen(&scale.dtype, &units, &mut values);
            scales.values.insert(info.name.clone(), values);
            scales.bytes.insert(scale.name.clone(), bytes);
            open = Some((file, scale.end));
        }
        Ok(scales)
    }

    /// What this tensor was when the scales were read, if it is one of them.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.bytes.get(name).map(Vec::as_slice)
    }

    pub fn warning(&self, path: &str) -> Option<Warning> {
        let first = self.unused.first()?;
        let count = self.unused.len();
        let what = format!(
            "{path}: {count} of its scales are not used, the first is {first}: wanted weights of 8 bits, found others"
        );
        Some(Warning::new(Topic::Unused, what))
    }

    /// Multiplies rows of a tensor, from `first` on.
    pub fn apply(&self, info: &TensorInfo, first: usize, rows: &mut [f32]) {
        match self.values.get(&info.name).map(Vec::as_slice) {
            None => {}
            Some(&[scale]) => rows.iter_mut().for_each(|value| *value *= scale),
            Some(scales) => {
                for (row, scale) in rows.chunks_exact_mut(info.row_len()).zip(&scales[first..]) {
                    row.iter_mut().for_each(|value| *value *= scale);
                }
            }
        }
    }
}

/// No layer has more rows; a header that lies about them costs no memory.
const MOST: usize = 1 << 20;

/// Less is read over sooner than asked for anew.
const NEAR: u64 = 1 << 16;

/// Whether a tensor is about the weights of 8 bits beside it: not a weight itself, and not one that nothing uses.
pub fn is_scale(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    ENDS.contains(&last) || ["scale_input", "input_scale", "scaled_fp8", "comfy_quant"].contains(&last)
}

/// Where the scale of a weight is, or the weight of a scale.
fn partners(name: &str) -> Vec<String> {
    let (module, end) = name.rsplit_once('.').unwrap_or_default();
    let ends = if end == "weight" { &ENDS[..] } else { &["weight"][..ENDS.contains(&end).into()] };
    ends.iter().map(|end| format!("{module}.{end}")).collect()
}

/// That no scale stands in another file than its weight, which is read with that file alone. `found` says where all
/// tensors are that are known so far.
pub(super) fn refuse_apart(header: &Header, path: &str, found: &HashMap<String, String>) -> Result<()> {
    for info in &header.tensors {
        for partner in partners(&info.name) {
            if let Some(other) = found.get(&partner).filter(|other| *other != path) {
                return Err(Error::unsupported(format!(
                    "{path}: '{}' and '{partner}', which is in {other}: wanted a weight and its scale in one file",
                    info.name
                )));
            }
        }
    }
    Ok(())
}

/// What was read twice is not the same.
pub(super) fn changed(path: &str, name: &str) -> Error {
    Error::new(
        Code::Integrity,
        format!(
            "{path}: '{name}': wanted the scale that was read before, found another: has the file changed?"
        ),
    )
}

fn is_eight_bits(info: &TensorInfo) -> bool {
    matches!(info.dtype, Dtype::F8E4m3 | Dtype::F8E5m2)
}

fn gone(path: &str) -> Error {
    Error::not_found(format!("{path} does not exist any more"))
}
