//! What the result of a product or a convolution goes through.

use std::ops::Range;

use crate::lanes::{Lanes, Loop, gelu, load, sigmoid, store, tanh};

/// `act((result + bias + add[image]) * gate[image] + residual)`.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    pub bias: &'a [f32],
    /// Vectors of images, where the first begins, and the distance of the next.
    pub vectors: Option<(&'a [f32], usize, usize)>,
    /// Whether they are factors; or else they are added.
    pub gates: bool,
    pub rows_per_image: usize,
    /// `[rows, width]`.
    pub residual: Option<&'a [f32]>,
    pub width: usize,
    /// As kernels/lib/activation.wgsl numbers them.
    pub activation: u32,
}

impl Epilogue<'_> {
    /// Panics unless all of it is there for so many rows.
    pub fn check(&self, rows: usize) {
        assert!(
            self.bias.len() >= self.width,
            "{} values of bias for {} outputs",
            self.bias.len(),
            self.width
        );
        if let Some((vectors, at, stride)) = self.vectors {
            let end = (rows - 1) / self.rows_per_image * stride + at + self.width;
            assert!(vectors.len() >= end, "vectors of images end at {end} of {}", vectors.len());
        }
        if let Some(residual) = self.residual {
            assert!(residual.len() >= rows * self.width, "{} values of {rows} rows", residual.len());
        }
    }

    /// Of `count` values, from column `c` of a row on.
    #[inline(always)]
    pub(crate) unsafe fn some<L: Lanes>(&self, row: usize, c: usize, count: usize, v: L::V) -> L::V {
        unsafe {
            let mut v = L::add(v, load::<L>(self.bias.as_ptr().add(c), count));
            if let Some((vectors, at, stride)) = self.vectors {
                let at = row / self.rows_per_image * stride + at + c;
                let vector = load::<L>(vectors.as_ptr().add(at), count);
                v = if self.gates { L::mul(v, vector) } else { L::add(v, vector) };
            }
            if let Some(residual) = self.residual {
                v = L::add(v, load::<L>(residual.as_ptr().add(row * self.width + c), count));
            }
            activate::<L>(self.activation, v)
        }
    }
}

/// Finishes columns of some rows, of which the first column of the first row is at `values`, that of the next `stride`
/// values on.
pub struct Finish;

impl Loop for Finish {
    type Args<'a> = (&'a Epilogue<'a>, Range<usize>, Range<usize>, *mut f32, usize);

    #[inline(always)]
    unsafe fn call<L: Lanes>((epilogue, rows, columns, values, stride): Self::Args<'_>) {
        for row in rows.clone() {
            for c in (0..columns.len()).step_by(L::N) {
                unsafe {
                    let (p, count) = (values.add((row - rows.start) * stride + c), columns.len() - c);
                    let v = epilogue.some::<L>(row, columns.start + c, count, load::<L>(p, count));
                    store::<L>(p, count, v);
                }
            }
        }
    }
}

#[inline(always)]
pub unsafe fn activate<L: Lanes>(kind: u32, v: L::V) -> L::V {
    unsafe {
        match kind {
            1 => L::mul(v, sigmoid::<L>(v)),
            2 => gelu::<L>(v),
            3 => L::mul(v, sigmoid::<L>(L::mul(v, L::splat(1.702)))),
            // What is not a number stays so.
            4 => L::max(v, L::splat(0.0)),
            5 => L::mul(L::splat(3.0), tanh::<L>(L::mul(v, L::splat(1.0 / 3.0)))),
            6 => L::madd(L::splat(2.0), v, L::splat(-1.0)),
            7 => {
                let cubic = L::madd(L::mul(L::mul(v, v), v), L::splat(0.044_715), v);
                let t = tanh::<L>(L::mul(L::splat(0.797_884_6), cubic));
                L::mul(L::mul(L::splat(0.5), v), L::add(L::splat(1.0), t))
            }
            8 => tanh::<L>(v),
            _ => v,
        }
    }
}
