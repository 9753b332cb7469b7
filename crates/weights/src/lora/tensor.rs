//! Tensors of a file in memory, as small as they came.

use std::borrow::Cow;
use std::ops::Range;

use half::f16;

use crate::error::{Error, Result};
use crate::quant::floats;
use crate::safetensors::{Dtype, TensorInfo};

#[derive(Clone, Debug)]
pub struct Tensor {
    /// In the file.
    pub name: String,
    pub shape: Vec<usize>,
    values: Values,
}

/// Halves stay halves: a file takes as much memory as it has bytes.
#[derive(Clone, Debug)]
enum Values {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
}

impl Tensor {
    /// Without its values, which follow.
    pub fn new(info: &TensorInfo) -> Tensor {
        let values = match info.dtype {
            Dtype::F16 => Values::F16(vec![]),
            Dtype::Bf16 => Values::Bf16(vec![]),
            _ => Values::F32(vec![]),
        };
        Tensor { name: info.name.clone(), shape: info.shape.clone(), values }
    }

    /// Values as they were read, of the type of the file.
    pub fn push(&mut self, data: &[f32]) {
        match &mut self.values {
            Values::F32(values) => values.extend_from_slice(data),
            Values::F16(halves) => halves.extend(data.iter().map(|v| f16::from_f32(*v).to_bits())),
            Values::Bf16(halves) => halves.extend(data.iter().map(|v| (v.to_bits() >> 16) as u16)),
        }
    }

    pub fn len(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len(),
            Values::F16(halves) | Values::Bf16(halves) => halves.len(),
        }
    }

    /// Some of its values.
    pub fn floats(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        let mut floats = vec![];
        match &self.values {
            Values::F32(values) => return Cow::Borrowed(&values[range]),
            Values::F16(halves) => {
                floats.resize(range.len(), 0.0);
                floats::from_f16(bytemuck::cast_slice(&halves[range]), &mut floats);
            }
            Values::Bf16(halves) => {
                floats.resize(range.len(), 0.0);
                floats::from_bf16(bytemuck::cast_slice(&halves[range]), &mut floats);
            }
        }
        Cow::Owned(floats)
    }

    pub fn all(&self) -> Cow<'_, [f32]> {
        self.floats(0..self.len())
    }

    /// Itself as f32.
    pub fn widened(&self) -> Tensor {
        let values = Values::F32(self.all().into_owned());
        Tensor { name: self.name.clone(), shape: self.shape.clone(), values }
    }

    /// Of one that was widened.
    pub fn values(&self) -> &[f32] {
        match &self.values {
            Values::F32(values) => values,
            _ => panic!("{} has halves", self.name),
        }
    }

    pub fn is_zero(&self) -> bool {
        match &self.values {
            Values::F32(values) => values.iter().all(|v| *v == 0.0),
            Values::F16(halves) | Values::Bf16(halves) => halves.iter().all(|half| half & 0x7fff == 0),
        }
    }

    /// A matrix the other way round.
    pub fn turned(self) -> Result<Tensor> {
        let [rows, columns] = self.shape[..] else { return Err(self.wrong("[rank, outputs]")) };
        let all = self.all();
        let values = (0..columns).flat_map(|c| all.iter().skip(c).step_by(columns.max(1)).copied()).collect();
        Ok(Tensor { shape: vec![columns, rows], values: Values::F32(values), name: self.name.clone() })
    }

    pub fn wrong(&self, wanted: &str) -> Error {
        Error::model(format!("{}: wanted the shape {wanted}, found {:?}", self.name, self.shape))
    }
}
