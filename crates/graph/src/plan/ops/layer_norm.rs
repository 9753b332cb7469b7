//! Layer norm and RMS norm over the channels of every row.

use super::{Activation, Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::weights::Handle;

/// `[.., C]`, C a multiple of four: `(x - mean) / sqrt(variance + epsilon) * weight + bias`, then
/// `y (1 + scale) + shift`, then `act(y + residual)`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    pub kind: NormKind,
    pub epsilon: f32,
    pub x: Tensor,
    /// Of every image.
    pub modulation: Option<Modulation>,
    pub residual: Option<Tensor>,
    pub activation: Activation,
}

/// What a row is divided by, and multiplied by afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The deviation from the mean; the blob holds weight, then bias. None is without either.
    Layer(Option<Handle>),
    /// The root of the mean of squares; the blob holds the weight (Zhang and Sennrich, arXiv:1910.07467).
    Rms(Handle),
    /// As `Rms`; the blob holds weight, then bias.
    RmsBias(Handle),
}

impl NormKind {
    pub fn weight(self) -> Option<Handle> {
        match self {
            NormKind::Layer(weight) => weight,
            NormKind::Rms(weight) | NormKind::RmsBias(weight) => Some(weight),
        }
    }

    /// Vectors of the blob.
    fn vectors(self) -> u64 {
        match self {
            NormKind::Layer(_) | NormKind::RmsBias(_) => 2,
            NormKind::Rms(_) => 1,
        }
    }

    /// Whether the mean counts as zero.
    pub fn is_rms(self) -> bool {
        matches!(self, NormKind::Rms(_) | NormKind::RmsBias(_))
    }

    /// Whether the blob has a bias.
    pub fn has_bias(self) -> bool {
        matches!(self, NormKind::Layer(Some(_)) | NormKind::RmsBias(_))
    }
}

/// Adaptive modulation (Peebles and Xie, arXiv:2212.09748): `vectors` is `[N, 1, 1, ..]`, of which the scale begins at one
/// channel and the shift at another.
#[derive(Clone, Copy, Debug)]
pub struct Modulation {
    pub vectors: Tensor,
    pub scale: u32,
    pub shift: Option<u32>,
    /// The factor is the tanh of the scale, not what it is more than one.
    pub gate: bool,
}

impl Operator for LayerNorm {
    fn reads(&self) -> Vec<Tensor> {
        [self.x].into_iter().chain(self.modulation.map(|m| m.vectors)).chain(self.residual).collect()
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        self.kind.weight().map(|weight| (weight, u64::from(self.x.shape.c) * 4 * self.kind.vectors()))
    }

    fn cost(&self, y: Tensor) -> Cost {
        uncounted(32 * y.shape.vec4s())
    }
}

impl LayerNorm {
    /// Without modulation, residual and activation.
    pub fn of(kind: NormKind, epsilon: f32, x: Tensor) -> LayerNorm {
        LayerNorm { kind, epsilon, x, modulation: None, residual: None, activation: Activation::None }
    }

    pub fn record(self, r: &mut Recorder) -> Tensor {
        let (x, shape) = (self.x, self.x.shape);
        assert!(shape.c.is_multiple_of(4), "norm of {shape}");
        if let Some(Modulation { vectors, scale, shift, .. }) = self.modulation {
            let rows = vectors.shape.rows();
            assert!(rows == shape.n && vectors.elem == x.elem, "modulation {} of {shape}", vectors.shape);
            for at in [Some(scale), shift].into_iter().flatten() {
                assert!(
                    at % 4 == 0 && at + shape.c <= vectors.shape.c,
                    "vector at {at} of {}",
                    vectors.shape
                );
            }
        }
        if let Some(t) = self.residual {
            assert!(t.shape.vec4s() == shape.vec4s() && t.elem == x.elem, "residual {} of {shape}", t.shape);
        }
        let y = r.tensor(shape);
        r.record(self, y)
    }
}

pub fn layer_norm(
    r: &mut Recorder,
    kind: NormKind,
    epsilon: f32,
    x: Tensor,
    modulation: Option<Modulation>,
) -> Tensor {
    LayerNorm { modulation, ..LayerNorm::of(kind, epsilon, x) }.record(r)
}
