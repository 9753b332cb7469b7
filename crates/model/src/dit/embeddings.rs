//! Vectors of timesteps and pooled text; patches of latents, and their places.

use crate::nn::{At, Linear};
use crate::plan::ops::{self, Activation::Silu, Epilogue, Matmul};
use crate::plan::{Recorder, Tensor};
use crate::weights::{Columns, Declarations, Handle, Part, Role, Rows, Table, weight_and_bias};

/// diffusers' TimestepEmbedding: `linear_2(silu(linear_1(x)))`.
#[derive(Clone, Copy, Debug)]
pub struct TwoLinears {
    linear_1: Linear,
    linear_2: Linear,
}

impl TwoLinears {
    pub fn declare(d: &mut Declarations, path: &str, inputs: u32, outputs: u32, bias: bool) -> TwoLinears {
        TwoLinears {
            linear_1: Linear::declare(d, &path.at("linear_1"), inputs, outputs, bias),
            linear_2: Linear::declare(d, &path.at("linear_2"), outputs, outputs, bias),
        }
    }

    /// Under other names.
    pub fn of([linear_1, linear_2]: [Linear; 2]) -> TwoLinears {
        TwoLinears { linear_1, linear_2 }
    }

    /// `[N, 1, 1, inputs] -> [N, 1, 1, outputs]`, with this epilogue.
    pub fn record(&self, r: &mut Recorder, x: Tensor, epilogue: Epilogue) -> Tensor {
        let silu = Epilogue { activation: Silu, ..Default::default() };
        let h = Matmul { epilogue: silu, ..self.linear_1.of(x) }.record(r);
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
