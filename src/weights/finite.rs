//! Values that are infinite or not numbers: counted while weights are read, and told once a file.

use super::declare::Layout;
use crate::error::{Code, Error, Result};
use crate::quant::{Format, SUPERBLOCK_BYTES, SUPERBLOCK_CODES};
use crate::warning::{Topic, Warning};

/// What of one file is not finite.
#[derive(Default)]
pub(super) struct NotFinite {
    /// The first tensor that has some.
    first: String,
    tensors: usize,
    pub values: u64,
}

impl NotFinite {
    /// `values` of the `count` of a tensor are not finite. A tensor that has no others is an error: whatever is computed
    /// with it is nothing. Of others something may come, as a row of a table that no prompt asks for.
    pub fn add(&mut self, file: &str, tensor: &str, values: u64, count: u64) -> Result<()> {
        if values == 0 {
            return Ok(());
        }
        if values == count {
            return Err(Error::new(
                Code::NotFinite,
                format!("{file}: '{tensor}': wanted finite numbers, found none among its {count} values"),
            ));
        }
        self.note(tensor, values);
        Ok(())
    }

    fn note(&mut self, tensor: &str, values: u64) {
        if values > 0 {
            if self.tensors == 0 {
                tensor.clone_into(&mut self.first);
            }
            self.tensors += 1;
            self.values += values;
        }
    }

    /// To be called behind the last tensor.
    pub fn warning(&self, file: &str) -> Option<Warning> {
        let others = match self.tensors {
            0 => return None,
            1 => String::new(),
            n => format!(" and {} others", n - 1),
        };
        let (first, values) = (&self.first, self.values);
        let what =
            format!("{file}: '{first}'{others}: wanted finite numbers, found {values} infinities or NaNs");
        Some(Warning::new(Topic::NotFinite, what))
    }
}

/// What becomes infinite when it is stored: values that halves cannot hold.
#[derive(Default)]
pub(super) struct TooLarge(NotFinite);

impl TooLarge {
    pub fn add(&mut self, name: &str, layout: &Layout, at: usize, bytes: &[u8]) {
        let halves = match layout {
            Layout::Matrix(m) => m.format == Format::F16,
            Layout::Table { format, .. } => *format != Format::F32,
            Layout::Vectors { .. } => false,
        };
        if halves {
            self.0.note(name, count_stored(layout, at, bytes));
        }
    }

    /// `before` values were not finite before they were stored.
    pub fn warning(&self, component: &str, before: u64) -> Option<Warning> {
        let NotFinite { first, values, .. } = &self.0;
        (*values > before).then(|| {
            let values = values - before;
            let what = format!(
                "{component}: '{first}': wanted values up to 65504, the largest half, found {values} that become infinite: \
                 f32 and q8 hold them"
            );
            Warning::new(Topic::NotFinite, what)
        })
    }
}

pub(super) fn count(values: &[f32]) -> u64 {
    values.iter().filter(|x| !x.is_finite()).count() as u64
}

/// How many floats of a stored blob are not finite among these bytes of it, which begin at `at`: weights, or the scales
/// of those that are codes, biases, vectors, rows.
pub(super) fn count_stored(layout: &Layout, at: usize, bytes: &[u8]) -> u64 {
    let all = at..at + bytes.len();
    let within = |from: usize, to: usize| {
        let [from, to] = [from, to].map(|end| end.clamp(all.start, all.end) - at);
        &bytes[from..to]
    };
    let singles = |bytes: &[u8]| {
        bytes.as_chunks().0.iter().filter(|b| !f32::from_le_bytes(**b).is_finite()).count() as u64
    };
    // All ones in the exponent.
    let halves =
        |bytes: &[u8]| bytes.as_chunks::<2>().0.iter().filter(|b| b[1] & 0x7c == 0x7c).count() as u64;
    match *layout {
        Layout::Vectors { .. } | Layout::Table { format: Format::F32, .. } => singles(bytes),
        Layout::Table { .. } => halves(bytes),
        Layout::Matrix(m) => {
            let end = m.scale_at() as usize * 16;
            let codes = within(0, end);
            let stored = match m.format {
                Format::F32 => singles(codes),
                Format::F16 => halves(codes),
                Format::Q8 => 0,
                Format::Q4 => {
                    let blocks = all.start / SUPERBLOCK_BYTES..all.end.min(end).div_ceil(SUPERBLOCK_BYTES);
                    let scales = |block: usize| block * SUPERBLOCK_BYTES + SUPERBLOCK_CODES;
                    blocks.map(|b| halves(within(scales(b), (b + 1) * SUPERBLOCK_BYTES))).sum()
                }
            };
            // The scales of q8 and the bias.
            stored + singles(within(end, usize::MAX))
        }
    }
}
