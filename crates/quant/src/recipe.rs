//! Which matrices a format is for.

use super::{Format, Matrix};

/// Layers that stay at 8 bits in q4, by parts of their names: the first and the last convolution, time embeddings, shortcut
/// convolutions, and self-attention (whose query, key and value projections share one matrix).
const SENSITIVE: [&str; 9] = [
    "conv_in",
    "conv_out",
    "time_emb",
    "add_embedding",
    "conv_shortcut",
    "proj_in",
    "proj_out",
    "attn1",
    "quant_conv",
];

impl Format {
    /// What a matrix of this shape, made of the tensors `names`, is stored as where this format is asked for.
    pub fn of<'a>(self, matrix: Matrix, mut names: impl Iterator<Item = &'a str>) -> Format {
        let whole = matrix.depth().is_multiple_of(32);
        let sensitive = names.any(|name| SENSITIVE.iter().any(|part| name.contains(part)));
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
