//! Shapes: `[N, H, W, C]`, channels packed by four. A sequence `[N, T, C]` is `[N, T, 1, C]`.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
}

impl Shape {
    pub fn new(n: u32, h: u32, w: u32, c: u32) -> Self {
        Shape { n, h, w, c }
    }

    /// A sequence of `t` tokens.
    pub fn tokens(n: u32, t: u32, c: u32) -> Self {
        Shape { n, h: t, w: 1, c }
    }

    /// This shape with another number of channels.
    pub fn with_c(self, c: u32) -> Self {
        Shape { c, ..self }
    }

    /// Pixels (or tokens) of one image.
    pub fn pixels(self) -> u32 {
        self.h * self.w
    }

    /// Pixels of the whole batch: the rows of a matrix product.
    pub fn rows(self) -> u32 {
        self.n * self.h * self.w
    }

    /// Channels in groups of four, the last one padded with zeros.
    pub fn c4(self) -> u32 {
        self.c.div_ceil(4)
    }

    /// Stored elements of four channels.
    pub fn vec4s(self) -> u64 {
        u64::from(self.n) * u64::from(self.h) * u64::from(self.w) * u64::from(self.c4())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}, {}]", self.n, self.h, self.w, self.c)
    }
}

/// How activations are stored. Arithmetic is always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    F32,
    /// Halves; needs the device feature `shader-f16`.
    F16,
    /// Halves packed in words, for devices without `shader-f16`.
    Pack16,
}

impl Elem {
    pub fn as_str(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::F16 => "f16",
            Elem::Pack16 => "pack16",
        }
    }

    /// Bytes of four channels.
    pub fn bytes(self) -> u64 {
        match self {
            Elem::F32 => 16,
            Elem::F16 | Elem::Pack16 => 8,
        }
    }
}

/// `[N, C, pixels]` values to `[N, pixels, C]`, the order of kernels.
pub fn nhwc(values: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    transpose(values, channels, pixels)
}

/// `[N, pixels, C]` values to `[N, C, pixels]`, the order of the reference.
pub fn nchw(values: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    transpose(values, pixels, channels)
}

/// The last two dimensions, `[.., rows, columns]`, exchanged.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for matrix in values.chunks_exact(rows * columns) {
        for column in 0..columns {
            out.extend((0..rows).map(|row| matrix[row * columns + column]));
        }
    }
    out
}
