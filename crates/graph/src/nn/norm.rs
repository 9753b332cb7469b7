//! Group norm, layer norm and RMS norm.

use crate::plan::ops::{self, Activation, NormKind};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Declarations, Handle};

#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    weight: Handle,
    groups: u32,
    epsilon: f32,
}

impl GroupNorm {
    pub fn declare(d: &mut Declarations, path: &str, channels: u32, groups: u32, epsilon: f32) -> GroupNorm {
        GroupNorm { weight: d.norm(path, channels), groups, epsilon }
    }

    /// Normalises `x`, or `x` and `x2` side by side, and joins them.
    pub fn record(&self, r: &mut Recorder, x: Tensor, x2: Option<Tensor>, activation: Activation) -> Tensor {
        ops::group_norm(r, (self.weight, self.groups, self.epsilon), x, x2, activation)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    weight: Handle,
    epsilon: f32,
}

impl LayerNorm {
    pub fn declare(d: &mut Declarations, path: &str, channels: u32, epsilon: f32) -> LayerNorm {
        LayerNorm { weight: d.norm(path, channels), epsilon }
    }

    pub fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        ops::layer_norm(r, NormKind::Layer(Some(self.weight)), self.epsilon, x, None)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    kind: NormKind,
    epsilon: f32,
}

impl RmsNorm {
    /// `path.weight`.
    pub fn declare(d: &mut Declarations, path: &str, channels: u32, epsilon: f32) -> RmsNorm {
        RmsNorm { kind: NormKind::Rms(d.vectors([format!("{path}.weight")], channels)), epsilon }
    }

    /// `path.weight` and `path.bias`.
    pub fn with_bias(d: &mut Declarations, path: &str, channels: u32, epsilon: f32) -> RmsNorm {
        RmsNorm { kind: NormKind::RmsBias(d.norm(path, channels)), epsilon }
    }

    /// The operation for `x`; callers change fields, then record it.
    pub fn of(&self, x: Tensor) -> ops::LayerNorm {
        ops::LayerNorm::of(self.kind, self.epsilon, x)
    }

    /// `path.weight`, which is what the weight is more than one (Gemma's).
    pub fn from_one(d: &mut Declarations, path: &str, channels: u32, epsilon: f32) -> RmsNorm {
        let kind = NormKind::Rms(d.vector_from_one(format!("{path}.weight"), channels));
        RmsNorm { kind, epsilon }
    }

    pub fn record(&self, r: &mut Recorder, x: Tensor) -> Tensor {
        self.of(x).record(r)
    }
}
