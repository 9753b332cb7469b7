//! Weight formats: how a matrix lies in its blob, and what quantising costs.
//!
//! A blob holds blocks of 4 inputs x 4 outputs, `[outputs / 4, taps, inputs / 4]`, then one scale an output
//! (q8 only), then one bias an output, both f32. In a block, element `4 j + i` belongs to input j, output i.

use half::f16;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    F32,
    /// Halves: an error of at most 2^-11 of the value.
    F16,
    /// Signed bytes with one scale an output, `w = scale * q`, scale = max |w| / 127: an error of at most scale / 2.
    Q8,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Q8 => "q8",
        }
    }

    /// Bytes of one block of 4 x 4.
    fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 64,
            Format::F16 => 32,
            Format::Q8 => 16,
        }
    }
}

/// The layout of one matrix, or of the taps of a convolution. `outputs` and `inputs` are multiples of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub format: Format,
    pub outputs: u32,
    pub inputs: u32,
    pub taps: u32,
}

impl Matrix {
    fn blocks(&self) -> usize {
        (self.outputs / 4 * self.taps) as usize * (self.inputs / 4) as usize
    }

    /// Where the scales begin, in 16-byte units; the bias follows.
    pub fn scale_at(&self) -> u32 {
        (self.blocks() * self.format.block_bytes() / 16) as u32
    }

    pub fn bias_at(&self) -> u32 {
        self.scale_at() + if self.format == Format::Q8 { self.outputs / 4 } else { 0 }
    }

    pub fn bytes(&self) -> usize {
        (self.bias_at() + self.outputs / 4) as usize * 16
    }

    /// Stores the weights of one output: `row` is `[inputs, taps]` as checkpoints have it, `column` says
    /// which input of ours each of its inputs is.
    pub fn store_row(&self, blob: &mut [u8], output: u32, row: &[f32], column: impl Fn(u32) -> u32) {
        let scale = row.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (index, &value) in row.iter().enumerate() {
            let (input, tap) = (column(index as u32 / self.taps), index as u32 % self.taps);
            let at = self.element(output, tap, input);
            match self.format {
                Format::F32 => blob[at * 4..at * 4 + 4].copy_from_slice(&value.to_le_bytes()),
                Format::F16 => blob[at * 2..at * 2 + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                Format::Q8 => blob[at] = (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8,
            }
        }
        if self.format == Format::Q8 {
            store_f32(blob, self.scale_at() as usize * 4 + output as usize, scale);
        }
    }

    pub fn store_bias(&self, blob: &mut [u8], output: u32, value: f32) {
        store_f32(blob, self.bias_at() as usize * 4 + output as usize, value);
    }

    /// The weights that the kernel computes with, `[outputs, taps, inputs]`, for comparison.
    pub fn dequantise(&self, blob: &[u8]) -> Vec<f32> {
        let mut out = Vec::with_capacity((self.outputs * self.taps * self.inputs) as usize);
        for output in 0..self.outputs {
            let scale = load_f32(blob, self.scale_at() as usize * 4 + output as usize);
            for tap in 0..self.taps {
                for input in 0..self.inputs {
                    let at = self.element(output, tap, input);
                    out.push(match self.format {
                        Format::F32 => load_f32(blob, at),
                        Format::F16 => f16::from_le_bytes([blob[at * 2], blob[at * 2 + 1]]).to_f32(),
                        Format::Q8 => scale * f32::from(blob[at] as i8),
                    });
                }
            }
        }
        out
    }

    /// The position of a weight, counted in elements of the format.
    pub(crate) fn element(&self, output: u32, tap: u32, input: u32) -> usize {
        let block =
            ((output / 4 * self.taps + tap) as usize) * (self.inputs / 4) as usize + (input / 4) as usize;
        block * 16 + (input % 4 * 4 + output % 4) as usize
    }
}

/// Stores the `index`th f32 of a blob.
pub fn store_f32(blob: &mut [u8], index: usize, value: f32) {
    blob[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
}

fn load_f32(blob: &[u8], index: usize) -> f32 {
    f32::from_le_bytes(blob[index * 4..index * 4 + 4].try_into().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(format: Format) -> (Matrix, Vec<f32>, Vec<f32>) {
        let m = Matrix { format, outputs: 8, inputs: 8, taps: 9 };
        let mut blob = vec![0u8; m.bytes()];
        // Halves of small integers are exact in every format but q8.
        let row =
            |o: u32| (0..8 * 9).map(|i| ((i * 7 + o * 13) % 41) as f32 * 0.5 - 10.0).collect::<Vec<f32>>();
        for o in 0..8 {
            m.store_row(&mut blob, o, &row(o), |c| c);
        }
        let mut want = vec![];
        for o in 0..8 {
            for tap in 0..9 {
                want.extend((0..8).map(|i| row(o)[i * 9 + tap]));
            }
        }
        (m, m.dequantise(&blob), want)
    }

    #[test]
    fn floats_come_back() {
        for format in [Format::F32, Format::F16] {
            let (_, got, want) = stored(format);
            assert_eq!(got, want);
        }
    }

    #[test]
    fn q8_is_within_half_a_scale() {
        let (_, got, want) = stored(Format::Q8);
        let scale = 10.0 / 127.0;
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst <= scale / 2.0 + 1e-6, "{worst}");
    }
}
