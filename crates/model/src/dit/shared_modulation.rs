//! Modulations of blocks that share one projection of the timestep, to which each block adds a table of its own (AdaLN-single;
//! Chen et al., arXiv:2310.00426).

use super::{FEATURES, Modulated, TwoLinears};
use crate::denoiser::{Input, Tables};
use crate::nn::Linear;
use crate::plan::ops::{self, Activation, Epilogue};
use crate::plan::{Recorder, Tensor};
use crate::shape::{Elem, Shape};
use crate::weights::{Declarations, Handle};

/// Vectors of a block: shift, scale and gate of the attention, then of the feed-forward layer.
const VECTORS: u32 = 6;
/// In front of the last layer: shift and scale.
const LAST: u32 = 2;

#[derive(Clone, Debug)]
pub struct SharedModulation {
    width: u32,
    timestep_embedder: TwoLinears,
    path: String,
    linear: Linear,
    /// Those of the blocks, and that of the last layer, to which the embedding itself is added.
    tables: Vec<Handle>,
}

impl SharedModulation {
    /// With the embedder of the timestep and the projection of these names.
    pub fn declare(d: &mut Declarations, [embedder, linear]: [&str; 2], width: u32, blocks: usize) -> Self {
        let mut table = |path: String, vectors: u32| d.table(&path, vectors as usize, width as usize);
        let block = |i| format!("transformer_blocks.{i}.scale_shift_table");
        let mut tables: Vec<Handle> = (0..blocks).map(|i| table(block(i), VECTORS)).collect();
        tables.push(table("scale_shift_table".to_owned(), LAST));
        SharedModulation {
            width,
            timestep_embedder: d.sensitive(|d| TwoLinears::declare(d, embedder, FEATURES, width, true)),
            path: linear.to_owned(),
            linear: Linear::declare(d, linear, width, VECTORS * width, true),
            tables,
        }
    }

    fn blocks(&self) -> u32 {
        self.tables.len() as u32 - 1
    }

    /// The tables of all blocks, then the shift and the scale of the last layer, from the input "tables".
    pub fn tables(&self, r: &mut Recorder) -> Vec<Tensor> {
        let (width, blocks) = (self.width, self.blocks());
        let elem = r.target.elem;
        let tables = r.input("tables", Shape::tokens(1, VECTORS * blocks + LAST, width), elem);
        let parts = (0..blocks).map(|i| (VECTORS * i, VECTORS));
        let parts = parts.chain((0..LAST).map(|i| (VECTORS * blocks + i, 1)));
        let vector =
            |(from, count)| ops::slice(r, tables, from, count).viewed(Shape::new(1, 1, 1, count * width));
        parts.map(vector).collect()
    }

    /// The modulations of all blocks, then that of the last layer. `added` goes to the embedding of the timestep. Inputs:
    /// "time_features" and "one".
    pub fn record(
        &self,
        r: &mut Recorder,
        rows: u32,
        added: Option<Tensor>,
        tables: &[Tensor],
    ) -> Vec<Modulated> {
        let elem = r.target.elem;
        let features = r.input("time_features", Shape::new(rows, 1, 1, FEATURES), elem);
        // Behind a SiLU, which the blocks see, and without, which the last layer does.
        let [silu, time] = [Activation::Silu, Activation::None].map(|activation| {
            let epilogue = Epilogue { residual: added, activation, ..Default::default() };
            self.timestep_embedder.record(r, features, epilogue)
        });
        let vectors = self.linear.of(silu).record(r);
        let vectors = r.tap(&self.path, vectors);
        let one = r.input("one", Shape::new(rows, 1, 1, 4), Elem::F32);
        let blocks = self.blocks() as usize;
        let mut sums: Vec<Tensor> = (0..tables.len())
            .map(|i| ops::add(r, one, 0, if i < blocks { vectors } else { time }, tables[i]))
            .collect();
        let [shift, scale] = sums[blocks..] else { unreachable!("two of the last layer") };
        let last = ops::join(r, shift, scale).viewed(Shape::new(rows, 1, 1, LAST * self.width));
        sums.truncate(blocks);
        sums.push(last);
        sums.into_iter().map(|vectors| Modulated { vectors, width: self.width }).collect()
    }

    /// The inputs "tables" and "one" for so many rows.
    pub fn constants(&self, rows: u32, tables: &Tables) -> Vec<Input> {
        let mut values = vec![];
        self.tables.iter().for_each(|table| values.extend_from_slice(tables(*table).values()));
        vec![("tables", values), ("one", [1.0, 0.0, 0.0, 0.0].repeat(rows as usize))]
    }
}
