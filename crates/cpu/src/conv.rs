//! kernels/conv.wgsl on the CPU: by Winograd's transforms where that is quicker, else by gathering inputs for the tile.

use std::cell::RefCell;
use std::ops::Range;

use crate::dense::{Dense, Form};
use crate::epilogue::{Epilogue, Finish};
use crate::lanes::{Lanes, widest};
use crate::matmul::Matmul;
use crate::tasks::{Shared, tasks};
use crate::tile::{Panels, block, cut};
use crate::winograd::{self, Kind};
use crate::{Lines, PIECE, Scratch};

thread_local!(static GATHERED: RefCell<Lines> = RefCell::default());

/// `[images, H, W, inputs] -> [images, H', W', outputs]`, zero outside.
#[derive(Clone, Copy)]
pub struct Conv<'a> {
    pub shape: Shape,
    pub x: [&'a [f32]; 2],
    pub weight: &'a Dense,
    pub epilogue: Epilogue<'a>,
    /// How it is computed; by default what is quickest. Transformed weights leave no choice.
    pub way: Option<Way>,
}

/// What is known of a convolution without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub images: usize,
    /// Channels of the inputs, which are side by side.
    pub inputs: [usize; 2],
    pub outputs: usize,
    /// Height and width of the input, of what it is upsampled to, and of the output.
    pub stored: [usize; 2],
    pub size: [usize; 2],
    pub out: [usize; 2],
    /// 3 or 1.
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Winograd(Kind),
    /// By gathering inputs.
    Direct,
    /// A product over pixels.
    Matmul,
}

/// From how many tiles on weights are worth a transform a call, the quickest first; examples/shapes.rs measures it.
const TABLE: [(Kind, usize); 2] = [(Kind::F4, 64), (Kind::F2, 16)];
/// From so many tiles on F(4x4) is quicker than F(2x2) where weights are kept.
pub const KEPT_F4: usize = 16;
/// Fewer channels are gathered.
const CHANNELS: usize = 16;

impl Shape {
    /// What is quickest where weights are as they are.
    pub fn way(&self) -> Way {
        if self.kernel == 1 && self.stride == 1 && self.pad == 0 && self.stored == self.size {
            return Way::Matmul;
        }
        let wide = self.inputs[0] + self.inputs[1] >= CHANNELS && self.outputs >= CHANNELS;
        let worth = |(kind, tiles): &&(Kind, usize)| self.tiles(*kind) >= *tiles;
        match TABLE.iter().find(worth) {
            Some(&(kind, _)) if wide && self.has_tiles() => Way::Winograd(kind),
            _ => Way::Direct,
        }
    }

    /// Whether it can be one of Winograd's at all.
    pub fn has_tiles(&self) -> bool {
        self.kernel == 3 && self.stride == 1 && self.pad == 1 && self.out == self.size
    }

    pub fn tiles(&self, kind: Kind) -> usize {
        let [h, w] = self.out.map(|side| side.div_ceil(kind.outputs()));
        self.images * h * w
    }

    /// Bytes of memory that a call takes beside inputs and output, where weights are f32; `kept` says how they are kept.
    pub fn scratch(&self, kept: Form) -> u64 {
        let values = match (kept, self.way()) {
            (Form::Winograd(kind), _) => winograd::scratch(self, kind, true),
            (Form::Plain, Way::Winograd(kind)) => winograd::scratch(self, kind, false),
            _ => 0,
        };
        values as u64 * 4
    }

    /// Pixels of the output.
    fn rows(&self) -> usize {
        self.images * self.out[0] * self.out[1]
    }

    /// Where an index of the upsampled input lies in the stored one, if it is inside; `axis` is 0 for rows. As torch
    /// computes it, in f32, so that an odd size picks the same neighbours.
    #[inline(always)]
    pub(crate) fn source(&self, index: usize, axis: usize) -> Option<usize> {
        let index = index.checked_sub(self.pad).filter(|&v| v < self.size[axis])?;
        let (stored, size) = (self.stored[axis], self.size[axis]);
        if stored == size {
            return Some(index);
        }
        Some(((index as f32 * (stored as f32 / size as f32)) as usize).min(stored - 1))
    }
}

impl<'a> Conv<'a> {
    fn way(&self) -> Way {
        match self.weight.form() {
            Form::Winograd(kind) => Way::Winograd(kind),
            Form::Plain => self.way.unwrap_or_else(|| self.shape.way()),
        }
    }

    fn matmul(&self) -> Matmul<'a> {
        Matmul {
            rows: self.shape.rows(),
            x: self.x,
            inputs: self.shape.inputs,
            weight: self.weight,
            epilogue: self.epilogue,
            gate: None,
        }
    }

    pub fn pieces(&self) -> usize {
        match self.way() {
            Way::Matmul => self.matmul().pieces(),
            Way::Winograd(kind) => winograd::pieces(self, kind),
            Way::Direct => self.weight.blocks() * self.shape.rows().div_ceil(self.piece()),
        }
    }

    fn piece(&self) -> usize {
        let columns = self.weight.block().min(self.weight.outputs);
        let rows = PIECE / (2 * columns * self.weight.depth);
        (rows / 96).max(1) * 96
    }

    /// Pieces in their order.
    pub fn run(&self, piece: usize, y: &mut [f32], scratch: &mut Scratch) {
        let Shape { inputs, outputs, kernel, stored, .. } = self.shape;
        let rows = self.shape.rows();
        assert_eq!((inputs[0] + inputs[1]) * kernel * kernel, self.weight.depth, "inputs of a convolution");
        assert_eq!(outputs, self.weight.outputs, "outputs of a convolution");
        assert!(y.len() >= rows * self.weight.outputs, "{} values for {rows} pixels", y.len());
        let pixels = self.shape.images * stored[0] * stored[1];
        for (x, inputs) in self.x.iter().zip(inputs) {
            assert!(x.len() >= pixels * inputs, "{} values of {pixels} pixels", x.len());
        }
        self.epilogue.check(rows);
        match self.way() {
            Way::Matmul => self.matmul().run(piece, y, scratch),
            Way::Winograd(kind) => winograd::run(self, kind, piece, y, scratch),
            Way::Direct => {
                let pieces = rows.div_ceil(self.piece());
                let (at, piece) = (piece / pieces, piece % pieces);
                let rows = piece * self.piece()..((piece + 1) * self.piece()).min(rows);
                let (weights, panels) = self.weight.panels(at, piece == 0, &mut scratch.panels);
                widest!(direct(self, rows, weights, panels, Shared::new(y)));
            }
        }
    }
}

/// Inputs of some taps are gathered for a block of pixels, which then is a product.
unsafe fn direct<L: Lanes>(
    conv: &Conv,
    rows: Range<usize>,
    weights: Panels,
    panels: Range<usize>,
    y: Shared,
) {
    let taps = conv.shape.kernel * conv.shape.kernel;
    let width = conv.shape.inputs[0] + conv.shape.inputs[1];
    let group = (512 / width).clamp(1, taps);
    let row = group * width;
    let (rows_each, panels_each) = cut::<L>(rows.len(), panels.len());
    let (down, across) = (rows.len().div_ceil(rows_each), panels.len().div_ceil(panels_each));
    let work = |task: usize, gathered: &mut [f32]| unsafe {
        let (i, j) = (task % down, task / down);
        let first = rows.start + i * rows_each;
        let count = rows_each.min(rows.end - first);
        let own = panels.start + j * panels_each..(panels.start + (j + 1) * panels_each).min(panels.end);
        let c = (y.get().add(first * weights.outputs), weights.outputs);
        for tap in (0..taps).step_by(group) {
            let many = group.min(taps - tap);
            for r in 0..count {
                for t in 0..many {
                    gather(conv, first + r, tap + t, &mut gathered[r * row + t * width..][..width]);
                }
            }
            let a = (gathered.as_ptr(), row);
            block::<L>([count, many * width], a, weights, tap * width, own.clone(), c, tap > 0);
        }
        let columns = own.start * 2 * L::N..(own.end * 2 * L::N).min(weights.outputs);
        let values = c.0.add(columns.start);
        L::call::<Finish>((&conv.epilogue, first..first + count, columns, values, c.1));
    };
    tasks(down * across, |task| {
        GATHERED.with_borrow_mut(|gathered| work(task, gathered.room(rows_each * row)));
    });
}

/// The inputs of one tap of one pixel.
fn gather(conv: &Conv, pixel: usize, tap: usize, to: &mut [f32]) {
    let shape = &conv.shape;
    let [c1, c2] = shape.inputs;
    let [h, w] = shape.out;
    let (image, i, j) = (pixel / (h * w), pixel / w % h, pixel % w);
    let row = shape.source(i * shape.stride + tap / shape.kernel, 0);
    let column = shape.source(j * shape.stride + tap % shape.kernel, 1);
    let Some((row, column)) = row.zip(column) else { return to.fill(0.0) };
    let at = (image * shape.stored[0] + row) * shape.stored[1] + column;
    to[..c1].copy_from_slice(&conv.x[0][at * c1..at * c1 + c1]);
    if c2 > 0 {
        to[c1..].copy_from_slice(&conv.x[1][at * c2..at * c2 + c2]);
    }
}
