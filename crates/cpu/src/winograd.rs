//! 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3) and F(2x2, 3x3): Lavin and Gray, "Fast algorithms for
//! convolutional neural networks" (2015). F(4x4) is at the points 0, ±1/√2, ±√2, whose rounding errors are half of
//! those of 0, ±1, ±2: Alam et al., "Winograd convolution for deep neural networks: efficient point selection" (2022).
//!
//! A tile of 6x6 (4x4) inputs becomes 36 (16) elements, in each of which the convolution is a product over channels;
//! those become 4x4 (2x2) outputs. Tiles are in groups of as many as a product has rows in registers.

mod tiles;
mod transform;

use std::marker::PhantomData;
use std::ops::Range;

use tiles::{Input, Output};
use transform::{F2, F4, Transform};

use crate::Scratch;
use crate::conv::{Conv, Shape};
use crate::lanes::{Lanes, Loop, widest};
use crate::tasks::{Shared, tasks};
use crate::tile::{Panels, Strip, Tiles, registers};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// F(2x2, 3x3): 16/9 of the weights, 4/9 of the products.
    F2,
    /// F(4x4, 3x3): 36/9 of the weights, 1/4 of the products.
    F4,
}

impl Kind {
    /// Outputs of a tile along one side.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Kind::F2 => 2,
            Kind::F4 => 4,
        }
    }

    pub fn elements(self) -> usize {
        (self.outputs() + 2) * (self.outputs() + 2)
    }
}

/// Groups of tiles of a piece.
const GROUPS: usize = 16;
/// Values of transformed weights that are made for a call at a time, at most: 32 MB.
const BLOCK: usize = 8_000_000;

/// How a convolution is cut: outputs of a block, whose weights are there at a time; tiles of a piece.
struct Cut {
    panels: usize,
    all_panels: usize,
    tiles: usize,
    pieces: usize,
}

impl Cut {
    fn of<L: Lanes>(conv: &Conv, kind: Kind) -> Cut {
        let (channels, outputs) = (conv.weight.depth / 9, conv.weight.outputs);
        let all_panels = outputs.div_ceil(2 * L::N);
        let panels = match conv.weight.transformed() {
            Some(_) => all_panels,
            // What must be unpacked first is unpacked a block at a time.
            None => block_panels::<L>(kind, channels, outputs).min(conv.weight.block().div_ceil(2 * L::N)),
        };
        let tiles = conv.shape.tiles(kind);
        let pieces = tiles.div_ceil(GROUPS * L::ROWS);
        Cut { panels, all_panels, tiles, pieces }
    }

    fn blocks(&self) -> usize {
        self.all_panels.div_ceil(self.panels)
    }
}

/// Panels whose weights are made for a call at a time: in as many blocks as there must be, of the same size.
fn block_panels<L: Lanes>(kind: Kind, channels: usize, outputs: usize) -> usize {
    let all = outputs.div_ceil(2 * L::N);
    let most = (BLOCK / (kind.elements() * weights_pitch::<L>(channels))).max(1);
    all.div_ceil(all.div_ceil(most))
}

/// Values of memory that a call takes beside inputs and output; `kept`: the weights need no transform.
pub(crate) fn scratch(shape: &Shape, kind: Kind, kept: bool) -> usize {
    unsafe fn count<L: Lanes>(shape: &Shape, kind: Kind, kept: bool) -> usize {
        let (channels, outputs) = (shape.inputs[0] + shape.inputs[1], shape.outputs);
        let per_panel = kind.elements() * weights_pitch::<L>(channels);
        let weights = if kept { 0 } else { block_panels::<L>(kind, channels, outputs) * per_panel };
        let groups = GROUPS.min(shape.tiles(kind).div_ceil(L::ROWS));
        weights + groups * kind.elements() * (pitch::<L>(channels) + pitch::<L>(outputs))
    }
    widest!(count(shape, kind, kept))
}

pub(crate) fn pieces(conv: &Conv, kind: Kind) -> usize {
    unsafe fn count<L: Lanes>(conv: &Conv, kind: Kind) -> usize {
        let cut = Cut::of::<L>(conv, kind);
        cut.blocks() * cut.pieces
    }
    widest!(count(conv, kind))
}

pub(crate) fn run(conv: &Conv, kind: Kind, piece: usize, y: &mut [f32], scratch: &mut Scratch) {
    assert!(
        conv.shape.has_tiles(),
        "a convolution whose weights are transformed is 3x3, of stride 1, with a border of 1"
    );
    match kind {
        Kind::F2 => widest!(run_f2(conv, piece, y, scratch)),
        Kind::F4 => widest!(run_f4(conv, piece, y, scratch)),
    }
}

unsafe fn run_f2<L: Lanes>(conv: &Conv, piece: usize, y: &mut [f32], scratch: &mut Scratch) {
    unsafe { run_piece::<L, F2>(conv, piece, y, scratch) }
}

unsafe fn run_f4<L: Lanes>(conv: &Conv, piece: usize, y: &mut [f32], scratch: &mut Scratch) {
    unsafe { run_piece::<L, F4>(conv, piece, y, scratch) }
}

/// Values of an element of a panel's transformed weights; the sixteen more are as those of [`pitch`].
fn weights_pitch<L: Lanes>(channels: usize) -> usize {
    channels * 2 * L::N + 16
}

/// Values of all transformed weights of a convolution.
pub(crate) fn weights_size<L: Lanes>(kind: Kind, channels: usize, outputs: usize) -> usize {
    outputs.div_ceil(2 * L::N) * kind.elements() * weights_pitch::<L>(channels)
}

/// Transforms a panel, `[9][channels][2 N]`, to `[elements][channels][2 N]`, in its place of those from `to` on, all of
/// whose values are written.
pub(crate) unsafe fn transform_panel<L: Lanes>(kind: Kind, from: Panels, panel: usize, to: Shared) {
    let per_panel = kind.elements() * weights_pitch::<L>(from.depth / 9);
    unsafe {
        let to = to.get().add(panel * per_panel);
        match kind {
            Kind::F2 => L::call::<Weights<F2>>((from, panel, to)),
            Kind::F4 => L::call::<Weights<F4>>((from, panel, to)),
        }
    }
}

struct Weights<T>(PhantomData<T>);

impl<T: Transform> Loop for Weights<T> {
    type Args<'a> = (Panels, usize, *mut f32);

    #[inline(always)]
    unsafe fn call<L: Lanes>((from, panel, to): Self::Args<'_>) {
        unsafe { weights_of::<L, T>(from, panel, to) }
    }
}

#[inline(always)]
unsafe fn weights_of<L: Lanes, T: Transform>(from: Panels, panel: usize, to: *mut f32) {
    let channels = from.depth / 9;
    let (registers, _) = registers(panel, from.outputs, L::N);
    let (width, pitch) = (registers * L::N, weights_pitch::<L>(channels));
    unsafe {
        let from = from.first.add(panel * from.depth * 2 * L::N);
        for at in (0..channels * width).step_by(L::N) {
            let mut half = [[L::splat(0.0); 3]; 6];
            for column in 0..3 {
                let taps =
                    std::array::from_fn(|row| L::load(from.add((row * 3 + column) * channels * width + at)));
                for (half, v) in half.iter_mut().zip(T::weights::<L>(taps)) {
                    half[column] = v;
                }
            }
            for (i, half) in half.into_iter().enumerate().take(T::A) {
                for (j, v) in T::weights::<L>(half).into_iter().enumerate().take(T::A) {
                    L::store(to.add((i * T::A + j) * pitch + at), v);
                }
            }
        }
        for element in 0..T::A * T::A {
            to.add(element * pitch + channels * width).write_bytes(0, pitch - channels * width);
        }
    }
}

/// Values of an element of a group of tiles; the sixteen more keep elements out of one another's way in the cache.
fn pitch<L: Lanes>(channels: usize) -> usize {
    L::ROWS * channels + 16
}

unsafe fn run_piece<L: Lanes, T: Transform>(conv: &Conv, piece: usize, y: &mut [f32], scratch: &mut Scratch) {
    let cut = Cut::of::<L>(conv, T::KIND);
    let (channels, outputs) = (conv.weight.depth / 9, conv.weight.outputs);
    let elements = T::A * T::A;
    let (block, piece) = (piece / cut.pieces, piece % cut.pieces);
    let panels = block * cut.panels..((block + 1) * cut.panels).min(cut.all_panels);
    let per_panel = elements * weights_pitch::<L>(channels);
    // The panels' transformed weights; the first of them is that of the block.
    let transformed: &[f32] = match conv.weight.transformed() {
        Some((_, values)) => values,
        None => {
            let values = scratch.transformed.room(panels.len() * per_panel);
            if piece == 0 {
                unsafe { make_weights::<L>(conv, T::KIND, panels.clone(), values, &mut scratch.panels) };
            }
            values
        }
    };
    let columns = panels.start * 2 * L::N..(panels.end * 2 * L::N).min(outputs);
    let (in_pitch, out_pitch) = (pitch::<L>(channels), pitch::<L>(columns.len()));
    let first = piece * GROUPS * L::ROWS;
    let count = (GROUPS * L::ROWS).min(cut.tiles - first);
    let groups = count.div_ceil(L::ROWS);
    let room =
        scratch.values.room(GROUPS.min(cut.tiles.div_ceil(L::ROWS)) * elements * (in_pitch + out_pitch));
    let (inputs, products) = room.split_at_mut(groups * elements * in_pitch);
    let (inputs, products) = (Shared::new(inputs), Shared::new(products));
    let [h, w] = conv.shape.out.map(|side| side.div_ceil(T::R));
    let place = |tile: usize| [tile / (h * w), tile / w % h, tile % w];
    each(count, |tile| unsafe {
        let to = inputs.get().add(tile / L::ROWS * elements * in_pitch + tile % L::ROWS * channels);
        let mut at = 0;
        for (x, channels) in conv.x.iter().zip(conv.shape.inputs).filter(|(_, channels)| *channels > 0) {
            L::call::<Input<T>>((conv, x.as_ptr(), channels, place(first + tile), to.add(at), in_pitch));
            at += channels;
        }
    });
    let weights = transformed.as_ptr() as usize;
    tasks(elements, |element| unsafe {
        for begin in (0..channels).step_by(L::DEPTH) {
            for panel in panels.clone() {
                let (registers, last) = registers(panel, outputs, L::N);
                let weights = (weights as *const f32).add((panel - panels.start) * per_panel);
                for group in 0..groups {
                    let at = group * elements + element;
                    L::call::<Tiles>(&Strip {
                        rows: L::ROWS.min(count - group * L::ROWS),
                        registers,
                        last,
                        depth: L::DEPTH.min(channels - begin),
                        a: inputs.get().add(at * in_pitch + begin),
                        a_row: channels,
                        panel: weights.add(element * weights_pitch::<L>(channels) + begin * registers * L::N),
                        c: products.get().add(at * out_pitch + (panel - panels.start) * 2 * L::N),
                        c_row: columns.len(),
                        accumulate: begin > 0,
                    });
                }
            }
        }
    });
    let y = Shared::new(y);
    each(count, |tile| unsafe {
        let from = products.get().add(tile / L::ROWS * elements * out_pitch + tile % L::ROWS * columns.len());
        L::call::<Output<T>>((conv, place(first + tile), columns.clone(), from, out_pitch, y.get()));
    });
}

/// Calls `work` for some tiles a task, so that it is worth its hand-over.
fn each(count: usize, work: impl Fn(usize) + Sync + Send) {
    const MANY: usize = 2;
    tasks(count.div_ceil(MANY), |task| (task * MANY..((task + 1) * MANY).min(count)).for_each(&work));
}

/// The weights of a block for this call: from panels, or unpacked on the way.
unsafe fn make_weights<L: Lanes>(
    conv: &Conv,
    kind: Kind,
    panels: Range<usize>,
    to: &mut [f32],
    scratch: &mut crate::Lines,
) {
    let per_panel = kind.elements() * weights_pitch::<L>(conv.weight.depth / 9);
    let each = conv.weight.block().div_ceil(2 * L::N);
    // Where the first panel of all would be.
    let to = Shared::at(to.as_mut_ptr().wrapping_sub(panels.start * per_panel));
    let mut panel = panels.start;
    while panel < panels.end {
        let block = panel / each;
        let end = ((block + 1) * each).min(panels.end);
        let (from, _) = conv.weight.panels(block, true, scratch);
        tasks(end - panel, |i| unsafe { transform_panel::<L>(kind, from, panel + i, to) });
        panel = end;
    }
}
