//! Vectors of timesteps and pooled text; patches of latents, and their places.

use crate::nn::{At, Linear};
use crate::plan::ops::{self, Activation, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Handle, Part, Role, Rows, Table, weight_and_bias};

/// `linear_2(silu(linear_1(x)))`, as diffusers' TimestepEmbedding, or with another activation.
#[derive(Clone, Copy, Debug)]
pub struct TwoLinears {
    linear_1: Linear,
    linear_2: Linear,
    activation: Activation,
}

impl TwoLinears {
    pub fn declare(d: &mut Declarations, path: &str, inputs: u32, outputs: u32, bias: bool) -> TwoLinears {
        TwoLinears {
            linear_1: Linear::declare(d, &path.at("linear_1"), inputs, outputs, bias),
            linear_2: Linear::declare(d, &path.at("linear_2"), outputs, outputs, bias),
            activation: Activation::Silu,
        }
    }

    /// Under other names.
    pub fn of([linear_1, linear_2]: [Linear; 2]) -> TwoLinears {
        TwoLinears { linear_1, linear_2, activation: Activation::Silu }
    }

    /// The same around this activation.
    pub fn around(self, activation: Activation) -> TwoLinears {
        TwoLinears { activation, ..self }
    }

    /// `[.., inputs] -> [.., outputs]`, with this epilogue.
    pub fn record(&self, r: &mut Recorder, x: Tensor, epilogue: Epilogue) -> Tensor {
        let active = Epilogue { activation: self.activation, ..Default::default() };
        let h = Matmul { epilogue: active, ..self.linear_1.of(x) }.record(r);
        Matmul { epilogue, ..self.linear_2.of(h) }.record(r)
    }
}

/// Squares of latents to tokens: a convolution whose stride is its kernel.
#[derive(Clone, Copy, Debug)]
pub struct PatchEmbed {
    proj: Linear,
    size: u32,
}

impl PatchEmbed {
    /// `path.proj.weight` `[width, channels, size, size]`.
    pub fn declare(d: &mut Declarations, path: &str, channels: u32, width: u32, size: u32) -> PatchEmbed {
        let shape = [width, channels, size, size].map(|n| n as usize).to_vec();
        let columns = Columns::Patches { channels, places: size * size };
        let parts = weight_and_bias(&path.at("proj"), shape, true, Rows::From(0), columns);
        PatchEmbed { proj: Linear::fused(d, size * size * channels, width, parts), size }
    }

    /// `[N, h, w, channels]` to tokens `[N, T, width]`, row by row; `positions` `[N, T, width]` are added.
    pub fn record(&self, r: &mut Recorder, x: Tensor, positions: Option<Tensor>) -> Tensor {
        let x = ops::patchify(r, x, self.size);
        let epilogue = Epilogue { residual: positions, ..Default::default() };
        let y = Matmul { epilogue, ..self.proj.of(x) }.record(r);
        let tokens = crate::shape::Shape::tokens(y.shape.n, y.shape.pixels(), y.shape.c);
        y.viewed(tokens)
    }
}

/// A table of the places of patches in a square, of which an image takes the middle.
#[derive(Clone, Copy, Debug)]
pub struct Positions {
    pub table: Handle,
    side: u32,
}

impl Positions {
    /// `name` `[1, side * side, width]`.
    pub fn declare(d: &mut Declarations, name: &str, side: u32, width: u32) -> Positions {
        let (rows, width) = ((side * side) as usize, width as usize);
        let part = Part { names: vec![name.to_owned()], shape: vec![1, rows, width], role: Role::Table };
        Positions { table: d.rows_of(part, rows, width), side }
    }

    /// Largest height and width.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// Those of `h` times `w` patches, at most as many as the table has along a side: `[h * w, width]`.
    pub fn middle(&self, table: &Table, [h, w]: [u32; 2]) -> Vec<f32> {
        let (top, left) = ((self.side - h) / 2, (self.side - w) / 2);
        let places = (0..h * w).map(|i| (top + i / w) * self.side + left + i % w);
        places.flat_map(|place| table.row(place as usize).expect("a place in the table")).collect()
    }
}

/// The places of `h` times `w` patches as sinusoids, `[h * w, width]`: the column's in the first half of the channels, the
/// row's in the second, sines first (diffusers' get_2d_sincos_pos_embed). A side has `side` places, however many patches it has.
pub fn grid([h, w]: [u32; 2], side: f32, width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let frequency = |i: usize| 10000f64.powf(-(i as f64) / quarter as f64);
    let mut all = vec![];
    for at in 0..h * w {
        for (i, count) in [(at % w, w), (at / w, h)] {
            // In f32, as there.
            let place = i as f32 / (count as f32 / side);
            let angle = |i| f64::from(place) * frequency(i);
            all.extend((0..quarter).map(|i| angle(i).sin() as f32));
            all.extend((0..quarter).map(|i| angle(i).cos() as f32));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_by_hand() {
        let table = grid([2, 3], 6.0, 8);
        assert_eq!(table.len(), 6 * 8);
        assert_eq!(table[..8], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        // The last: column 2 of 3 is at 4, row 1 of 2 at 3.
        let sines = |x: f64| [x.sin(), (x / 100.0).sin(), x.cos(), (x / 100.0).cos()].map(|v| v as f32);
        assert_eq!(table[40..], [sines(4.0), sines(3.0)].concat());
    }
}
