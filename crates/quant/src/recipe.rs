//! Which matrices a format is for.

use super::{Format, Matrix};

impl Format {
    /// What a matrix of this shape is stored as where this format is asked for. `sensitive` ones stay at 8 bits in q4, and
    /// those whose rows are no whole number of blocks.
    pub fn of(self, matrix: Matrix, sensitive: bool) -> Format {
        let whole = matrix.depth().is_multiple_of(32);
        if self == Format::Q4 && (sensitive || !whole) { Format::Q8 } else { self }
    }

    /// What an autoencoder is stored as: its errors are seen at once, and it is small.
    pub fn of_autoencoder(self) -> Format {
        if self == Format::Q4 { Format::Q8 } else { self }
    }

    /// What the rows of tokens are stored as. They stay on the CPU.
    pub fn of_rows(self) -> Format {
        if self == Format::F32 { Format::F32 } else { Format::F16 }
    }
}
