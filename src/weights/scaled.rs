//! Scales beside weights of 8 bits: `x.scale_weight` (also `x.weight_scale`), as ComfyUI writes and reads them. What is
//! meant is the product of both. `x.scale_input` is about activations, which are not stored in 8 bits here.

use std::collections::HashMap;

use super::safetensors::{Dtype, Header, TensorInfo};
use super::source::{ByteStream, Folder};
use super::widen::{widen, widens};
use crate::error::{Error, Result};

/// The scales of a file's weights.
#[derive(Default)]
pub(super) struct Scales {
    /// By the weight: one number, or one for each of its rows.
    values: HashMap<String, Vec<f32>>,
}

impl Scales {
    /// Reads the scale of every weight that is wanted and has one. They are a few bytes each, and may stand behind
    /// their weights. `data` is where the data begins.
    ///
    /// Errors: `Unsupported` for scales that are neither one number nor one a row; `InvalidModel` for a file that ends.
    pub async fn read<F: Folder>(
        folder: &F,
        path: &str,
        (header, data): (&Header, u64),
        wanted: &[bool],
    ) -> Result<Scales> {
        let mut scales = Scales::default();
        let by_name: HashMap<&str, &TensorInfo> =
            header.tensors.iter().map(|info| (info.name.as_str(), info)).collect();
        let weights =
            header.tensors.iter().zip(wanted).filter(|(info, wanted)| **wanted && is_eight_bits(info));
        let mut found: Vec<(&TensorInfo, &TensorInfo)> = weights
            .filter_map(|(info, _)| {
                let module = info.name.strip_suffix(".weight")?;
                let scale = ["scale_weight", "weight_scale"].map(|end| format!("{module}.{end}"));
                Some((info, *scale.iter().find_map(|name| by_name.get(name.as_str()))?))
            })
            .collect();
        found.sort_by_key(|(_, scale)| scale.begin);
        let mut open: Option<(F::File, u64)> = None;
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
            open = Some((file, scale.end));
        }
        Ok(scales)
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
    ["scale_weight", "weight_scale", "scale_input", "input_scale", "scaled_fp8", "comfy_quant"]
        .contains(&last)
}

fn is_eight_bits(info: &TensorInfo) -> bool {
    matches!(info.dtype, Dtype::F8E4m3 | Dtype::F8E5m2)
}

fn gone(path: &str) -> Error {
    Error::not_found(format!("{path} does not exist any more"))
}
