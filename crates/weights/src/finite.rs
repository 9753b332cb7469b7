//! Values that are infinite or not numbers: counted while weights are read, and told once a file.

use super::declare::Layout;
use crate::error::{Code, Error, Result};
use crate::quant::{Format, SUPERBLOCK_BYTES, SUPERBLOCK_CODES, floats};
use crate::warning::{Topic, Warning};

/// The tensors of one file that have something, for a sentence.
#[derive(Default)]
struct Noted {
    first: String,
    tensors: usize,
    values: u64,
}

impl Noted {
    fn add(&mut self, tensor: &str, values: u64) {
        if values > 0 {
            if self.tensors == 0 {
                tensor.clone_into(&mut self.first);
            }
            self.tensors += 1;
            self.values += values;
        }
    }

    /// A warning, if there is something.
    fn warning(&self, file: &str, wanted_and_found: impl Fn(u64) -> String) -> Option<Warning> {
        let others = match self.tensors {
            0 => return None,
            1 => String::new(),
            n => format!(" and {} others", n - 1),
        };
        let what = format!("{file}: '{}'{others}: {}", self.first, wanted_and_found(self.values));
        Some(Warning::new(Topic::NotFinite, what))
    }
}

/// What of one file is not finite.
#[derive(Default)]
pub(super) struct NotFinite(Noted);

impl NotFinite {
    /// `values` of the `count` of a tensor are not finite. A tensor that has no others is an error: whatever is computed
    /// with it is nothing. Of others something may come, as a row of a table that no prompt asks for.
    pub fn add(&mut self, file: &str, tensor: &str, values: u64, count: u64) -> Result<()> {
        if values > 0 && values == count {
            return Err(Error::new(
                Code::NotFinite,
                format!("{file}: '{tensor}': wanted finite numbers, found none among its {count} values"),
            ));
        }
        self.0.add(tensor, values);
        Ok(())
    }

    pub fn values(&self) -> u64 {
        self.0.values
    }

    /// To be called behind the last tensor.
    pub fn warning(&self, file: &str) -> Option<Warning> {
        let found = |values| format!("wanted finite numbers, found {values} infinities or NaNs");
        self.0.warning(file, found)
    }
}

/// What of one file is finite and becomes infinite when it is stored.
#[derive(Default)]
pub(super) struct TooLarge {
    noted: Noted,
    /// What cannot hold the first.
    format: Option<Format>,
}

impl TooLarge {
    pub fn add(&mut self, tensor: &str, values: u64, format: Format) {
        if values > 0 {
            self.format.get_or_insert(format);
        }
        self.noted.add(tensor, values);
    }

    /// To be called behind the last tensor.
    pub fn warning(&self, file: &str) -> Option<Warning> {
        let format = self.format?;
        self.noted.warning(file, |values| {
            format!(
                "wanted values up to {}, the largest of {}, found {values} that become infinite: f32 holds them",
                format.largest(),
                format.as_str()
            )
        })
    }
}

/// How many values are finite but not in this format.
pub(super) fn count_too_large(values: &[f32], format: Format) -> u64 {
    floats::count_above(values, format.largest())
}

/// How many floats of a stored blob are not finite among these bytes of it, which begin at `at`: weights, or the scales
/// of those that are codes, biases, vectors, rows.
pub(super) fn count_stored(layout: &Layout, at: usize, bytes: &[u8]) -> u64 {
    let all = at..at + bytes.len();
    let within = |from: usize, to: usize| {
        let [from, to] = [from, to].map(|end| end.clamp(all.start, all.end) - at);
        &bytes[from..to]
    };
    match *layout {
        Layout::Vectors { .. } | Layout::Table { format: Format::F32, .. } => floats::count_in_f32(bytes),
        Layout::Table { .. } => floats::count_in_f16(bytes),
        Layout::Matrix(m) => {
            let end = m.scale_at() as usize * 16;
            let codes = within(0, end);
            let stored = match m.format {
                Format::F32 => floats::count_in_f32(codes),
                Format::F16 => floats::count_in_f16(codes),
                Format::Q8 => 0,
                Format::Q4 => {
                    let blocks = all.start / SUPERBLOCK_BYTES..all.end.min(end).div_ceil(SUPERBLOCK_BYTES);
                    let scales = |block: usize| block * SUPERBLOCK_BYTES + SUPERBLOCK_CODES;
                    blocks.map(|b| floats::count_in_f16(within(scales(b), (b + 1) * SUPERBLOCK_BYTES))).sum()
                }
            };
            // The scales of q8 and the bias.
            stored + floats::count_in_f32(within(end, usize::MAX))
        }
    }
}
