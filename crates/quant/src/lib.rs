//! Weight formats: how a matrix lies in its blob, which scales lose least, and which matrices a format is for.

pub mod floats;
mod matrix;
mod recipe;
mod scale;

pub use matrix::{Matrix, SUPERBLOCK_BYTES, SUPERBLOCK_CODES, store_f32};
pub use scale::{Scales, best_scale};

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    F32,
    /// Halves: an error of at most 2^-11 of the value.
    F16,
    /// Signed bytes with one f32 scale an output, `w = scale * q`.
    Q8,
    /// Codes of 4 bits with one f16 scale for every 32 weights of an output, `w = scale * (code - 8)`: 4.5 bits a
    /// weight. Sensitive layers of a network stay q8 ([`Format::of`]).
    Q4,
}

impl Format {
    pub const ALL: [Format; 4] = [Format::F32, Format::F16, Format::Q8, Format::Q4];

    pub fn as_str(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Q8 => "q8",
            Format::Q4 => "q4",
        }
    }

    /// The largest magnitude of a weight that does not become an infinity: halves, and the scales of codes of 4 bits, end
    /// there.
    pub fn largest(self) -> f32 {
        const HALF: f32 = 65519.0;
        match self {
            Format::F32 | Format::Q8 => f32::MAX,
            Format::F16 => HALF,
            Format::Q4 => 7.0 * HALF,
        }
    }
}
