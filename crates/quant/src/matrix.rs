//! How a matrix lies in its blob.
//!
//! A blob holds blocks of 4 inputs x 4 outputs, `[outputs / 4, taps, inputs / 4]`, then one scale an output
//! (q8 only), then one bias an output, both f32. In a block, element `4 j + i` belongs to input j, output i.
//!
//! Blocks of q4 have 8 bytes: byte i of the first four has the code of input 0 in its low half and that of input 1
//! in its high half, both of output i; the other four bytes have inputs 2 and 3. Eight blocks in a row are a group,
//! whose four outputs have an f16 scale each; two groups are a superblock: 128 bytes of codes, then the 16 of the
//! scales. A kernel that reads one reads a single stream, at 16-byte places.

use half::f16;

use super::Format;
use super::floats::half_to_f32;
use super::scale::{Scales, best_scale};

/// The layout of one matrix, or of the taps of a convolution. `outputs` and `inputs` are multiples of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub format: Format,
    pub outputs: u32,
    pub inputs: u32,
    pub taps: u32,
}

/// Blocks that share scales: 32 inputs.
const GROUP: usize = 8;
/// Of q4: codes, then the scales of two groups.
pub const SUPERBLOCK_BYTES: usize = 144;
pub const SUPERBLOCK_CODES: usize = 128;

impl Matrix {
    /// Weights of one output, with those that pad it.
    pub fn depth(&self) -> usize {
        self.taps as usize * self.inputs as usize
    }

    fn blocks(&self) -> u64 {
        u64::from(self.outputs / 4) * (u64::from(self.taps) * u64::from(self.inputs) / 4)
    }

    /// Where the scales of q8 begin, in 16-byte units; the bias follows.
    pub fn scale_at(&self) -> u32 {
        self.units() as u32
    }

    /// 16-byte units before the scales, in 64 bits: the layout may be one that is refused as too large.
    fn units(&self) -> u64 {
        match self.format {
            Format::F32 => self.blocks() * 4,
            Format::F16 => self.blocks() * 2,
            Format::Q8 => self.blocks(),
            Format::Q4 => self.blocks().div_ceil(2 * GROUP as u64) * (SUPERBLOCK_BYTES / 16) as u64,
        }
    }

    pub fn bias_at(&self) -> u32 {
        self.scale_at() + if self.format == Format::Q8 { self.outputs / 4 } else { 0 }
    }

    pub fn bytes(&self) -> usize {
        self.size() as usize
    }

    /// Bytes of the blob, counted where a 32-bit machine could not.
    pub fn size(&self) -> u64 {
        let scales = if self.format == Format::Q8 { self.outputs / 4 } else { 0 };
        (self.units() + u64::from(scales) + u64::from(self.outputs / 4)) * 16
    }

    /// Stores the weights of one output: `row` is `[inputs, taps]` as checkpoints have it, `column` says
    /// which input of ours each of its inputs is. `scales` says how the scales of q8 and q4 are chosen.
    pub fn store_row(
        &self,
        blob: &mut [u8],
        output: u32,
        row: &[f32],
        column: impl Fn(u32) -> u32,
        scales: Scales,
    ) {
        let columns: Vec<u32> = (0..row.len() as u32 / self.taps).map(column).collect();
        self.store_columns(blob, output, row, &columns, scales);
    }

    /// [`Matrix::store_row`] for many rows, whose columns are the same.
    pub fn store_columns(&self, blob: &mut [u8], output: u32, row: &[f32], columns: &[u32], scales: Scales) {
        assert_eq!(row.len(), columns.len() * self.taps as usize, "values of a row");
        match self.format {
            Format::F32 => {
                let (blob, _) = blob.as_chunks_mut::<4>();
                self.each(row, columns, |k, value| blob[self.element(output, k)] = value.to_le_bytes());
            }
            Format::F16 => self.each(row, columns, |k, value| {
                let at = self.element(output, k) * 2;
                blob[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
            }),
            Format::Q8 => {
                let scale = best_scale(row, 127, scales);
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                self.each(row, columns, |k, value| {
                    let code = (value * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
                    blob[self.element(output, k)] = code as u8;
                });
                store_f32(blob, self.scale_at() as usize * 4 + output as usize, scale);
            }
            Format::Q4 => {
                let mut values = vec![0.0; self.depth()];
                self.each(row, columns, |k, value| values[k] = value);
                for (group, values) in values.chunks_exact(4 * GROUP).enumerate() {
                    self.store_group(blob, output, group, values, scales);
                }
            }
        }
    }

    /// The place of each value of a row among those of its output, and the value.
    fn each(&self, row: &[f32], columns: &[u32], mut put: impl FnMut(usize, f32)) {
        for (values, &column) in row.chunks_exact(self.taps as usize).zip(columns) {
            for (tap, &value) in values.iter().enumerate() {
                put(tap * self.inputs as usize + column as usize, value);
            }
        }
    }

    /// Stores 32 weights of an output, the `group`th, in the order of the blob.
    fn store_group(&self, blob: &mut [u8], output: u32, group: usize, values: &[f32], scales: Scales) {
        let scale = f16::from_f32(best_scale(values, 7, scales));
        let inverse = if scale.to_f32() == 0.0 { 0.0 } else { 1.0 / scale.to_f32() };
        let first = (output / 4) as usize * (self.depth() / 4) + group * GROUP;
        let lane = (output % 4) as usize;
        for (block, values) in (first..).zip(values.chunks_exact(4)) {
            let at = nibbles(block) + lane;
            let code = |v: f32| ((v * inverse).round_ties_even().clamp(-8.0, 7.0) as i32 + 8) as u8;
            blob[at] = code(values[0]) | code(values[1]) << 4;
            blob[at + 4] = code(values[2]) | code(values[3]) << 4;
        }
        let at = group_scales(first) + lane * 2;
        blob[at..at + 2].copy_from_slice(&scale.to_le_bytes());
    }

    pub fn store_bias(&self, blob: &mut [u8], output: u32, value: f32) {
        store_f32(blob, self.bias_at() as usize * 4 + output as usize, value);
    }

    /// The weights of outputs `4 quad..4 quad + 4`, as kernels compute with them: `put` gets the place of each weight
    /// among those of its output, `[taps, inputs]`, in order, and what the four outputs have there.
    pub fn unpack(&self, blob: &[u8], quad: usize, mut put: impl FnMut(usize, [f32; 4])) {
        let blocks = self.depth() / 4;
        let begin = quad * blocks;
        match self.format {
            Format::F32 => {
                for (k, four) in blob[begin * 64..(begin + blocks) * 64].chunks_exact(16).enumerate() {
                    put(k, std::array::from_fn(|i| load_f32(four, i)));
                }
            }
            Format::F16 => {
                for (k, four) in blob[begin * 32..(begin + blocks) * 32].chunks_exact(8).enumerate() {
                    put(
                        k,
                        std::array::from_fn(|i| {
                            half_to_f32(u16::from_le_bytes([four[2 * i], four[2 * i + 1]]))
                        }),
                    );
                }
            }
            Format::Q8 => {
                let scales: [f32; 4] =
                    std::array::from_fn(|i| load_f32(blob, self.scale_at() as usize * 4 + quad * 4 + i));
                for (k, four) in blob[begin * 16..(begin + blocks) * 16].chunks_exact(4).enumerate() {
                    put(k, std::array::from_fn(|i| f32::from(four[i] as i8) * scales[i]));
                }
            }
            Format::Q4 => {
                for group in (0..blocks).step_by(GROUP) {
                    let at = group_scales(begin + group);
                    let scales: [f32; 4] = std::array::from_fn(|i| {
                        f16::from_le_bytes([blob[at + 2 * i], blob[at + 2 * i + 1]]).to_f32()
                    });
                    let value = |nibble: u8, i: usize| (f32::from(nibble) - 8.0) * scales[i];
                    let at = nibbles(begin + group);
                    for (pair, four) in blob[at..at + 8 * GROUP].chunks_exact(4).enumerate() {
                        let k = group * 4 + pair * 2;
                        put(k, std::array::from_fn(|i| value(four[i] & 15, i)));
                        put(k + 1, std::array::from_fn(|i| value(four[i] >> 4, i)));
                    }
                }
            }
        }
    }

    /// One bias an output.
    pub fn bias(&self, blob: &[u8]) -> Vec<f32> {
        let at = self.bias_at() as usize * 4;
        (at..at + self.outputs as usize).map(|i| load_f32(blob, i)).collect()
    }

    /// The weights that the kernel computes with, `[outputs, taps, inputs]`, for comparison.
    pub fn dequantise(&self, blob: &[u8]) -> Vec<f32> {
        let depth = self.depth();
        let mut out = vec![0.0; self.outputs as usize * depth];
        for quad in 0..self.outputs as usize / 4 {
            self.unpack(blob, quad, |k, four| {
                for (i, value) in four.into_iter().enumerate() {
                    out[(quad * 4 + i) * depth + k] = value;
                }
            });
        }
        out
    }

    /// The position of a weight, the `k`th of its output, counted in elements of a format that has no groups.
    fn element(&self, output: u32, k: usize) -> usize {
        let block = (output / 4) as usize * (self.depth() / 4) + k / 4;
        block * 16 + k % 4 * 4 + (output % 4) as usize
    }
}

/// Where the codes of a block of q4 are.
fn nibbles(block: usize) -> usize {
    block / (2 * GROUP) * SUPERBLOCK_BYTES + block % (2 * GROUP) * 8
}

/// Where the four scales of a block's group are.
fn group_scales(block: usize) -> usize {
    block / (2 * GROUP) * SUPERBLOCK_BYTES + SUPERBLOCK_CODES + block / GROUP % 2 * 8
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

    /// 8 outputs of 96 inputs and 9 taps, of halves of small integers: what was stored, what comes back.
    fn stored(format: Format, scales: Scales) -> (Vec<f32>, Vec<f32>) {
        let m = Matrix { format, outputs: 8, inputs: 96, taps: 9 };
        let mut blob = vec![0u8; m.bytes()];
        let row =
            |o: u32| (0..96 * 9).map(|i| ((i * 7 + o * 13) % 41) as f32 * 0.5 - 10.0).collect::<Vec<f32>>();
        for o in 0..8 {
            m.store_row(&mut blob, o, &row(o), |c| c, scales);
        }
        let mut want = vec![];
        for o in 0..8 {
            for tap in 0..9 {
                want.extend((0..96).map(|i| row(o)[i * 9 + tap]));
            }
        }
        (m.dequantise(&blob), want)
    }

    fn worst(got: &[f32], want: &[f32]) -> f32 {
        got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn floats_come_back() {
        for format in [Format::F32, Format::F16] {
            let (got, want) = stored(format, Scales::Chosen);
            assert_eq!(got, want);
        }
    }

    #[test]
    fn plain_rounding_is_within_half_a_step() {
        for (format, step) in [(Format::Q8, 10.0 / 127.0), (Format::Q4, 10.0 / 7.0)] {
            let (got, want) = stored(format, Scales::Plain);
            let worst = worst(&got, &want);
            // The scale of q4 is a half itself.
            assert!(worst > 0.0 && worst <= step * 0.505, "{format:?}: {worst}");
        }
    }

    #[test]
    fn q4_keeps_what_its_codes_can_say() {
        // Every group has a -8, and all values are whole numbers of the step.
        let m = Matrix { format: Format::Q4, outputs: 4, inputs: 96, taps: 1 };
        let mut blob = vec![0u8; m.bytes()];
        let row =
            |o: u32| (0..96).map(|i| ((i as u32 * 5 + o) % 16) as f32 * 0.25 - 2.0).collect::<Vec<f32>>();
        for o in 0..4 {
            m.store_row(&mut blob, o, &row(o), |c| c, Scales::Chosen);
            m.store_bias(&mut blob, o, o as f32 + 0.5);
        }
        assert_eq!(m.dequantise(&blob), (0..4).flat_map(row).collect::<Vec<f32>>());
        assert_eq!(m.bias(&blob), [0.5, 1.5, 2.5, 3.5]);
        // Three groups: two superblocks, and a bias.
        assert_eq!(m.bytes(), 2 * 144 + 16);
    }
}
