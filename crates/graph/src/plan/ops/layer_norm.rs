//! Layer norm and RMS norm over the channels of every row.

use super::{Operator, uncounted};
use crate::plan::{Cost, Recorder, Tensor};
use crate::weights::Handle;

/// `[.., C]`, C a multiple of four: `(x - mean) / sqrt(variance + epsilon) * weight + bias`, then
/// `y (1 + scale) + shift`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    pub kind: NormKind,
    pub epsilon: f32,
    pub x: Tensor,
    /// Of every image.
    pub modulation: Option<Modulation>,
}

/// What a row is divided by, and multiplied by afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The deviation from the mean; the blob holds weight, then bias. None is without either.
    Layer(Option<Handle>),
    /// The root of the mean of squares; the blob holds the weight (Zhang and Sennrich, arXiv:1910.07467).
    Rms(Handle),
}

impl NormKind {
    pub fn weight(self) -> Option<Handle> {
        match self {
            NormKind::Layer(weight) => weight,
            NormKind::Rms(weight) => Some(weight),
        }
    }

    /// Vectors of the blob.
    fn vectors(self) -> u64 {
        match self {
            NormKind::Layer(_) => 2,
            NormKind::Rms(_) => 1,
        }
    }
}

/// Adaptive modulation (Peebles and Xie, arXiv:2212.09748): `vectors` is `[N, 1, 1, ..]`, of which the scale begins at one
/// channel and the shift at another.
#[derive(Clone, Copy, Debug)]
pub struct Modulation {
    pub vectors: Tensor,
    pub scale: u32,
    pub shift: Option<u32>,
}

impl Operator for LayerNorm {
    fn reads(&self) -> Vec<Tensor> {
        [self.x].into_iter().chain(self.modulation.map(|m| m.vectors)).collect()
    }

    fn weight(&self) -> Option<(Handle, u64)> {
        self.kind.weight().map(|weight| (weight, u64::from(self.x.shape.c) * 4 * self.kind.vectors()))
    }

    fn cost(&self, y: Tensor) -> Cost {
        uncounted(32 * y.shape.vec4s())
    }
}

pub fn layer_norm(
    r: &mut Recorder,
    kind: NormKind,
    epsilon: f32,
    x: Tensor,
    modulation: Option<Modulation>,
) -> Tensor {
    assert!(x.shape.c.is_multiple_of(4), "norm of {}", x.shape);
    if let Some(Modulation { vectors, scale, shift }) = modulation {
        let rows = vectors.shape.rows();
        assert!(rows == x.shape.n && vectors.elem == x.elem, "modulation {} of {}", vectors.shape, x.shape);
        for at in [Some(scale), shift].into_iter().flatten() {
            assert!(at % 4 == 0 && at + x.shape.c <= vectors.shape.c, "vector at {at} of {}", vectors.shape);
        }
    }
    let y = r.tensor(x.shape);
    r.record(LayerNorm { kind, epsilon, x, modulation }, y)
}
