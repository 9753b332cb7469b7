//! Every operation on the GPU against its twin.

mod add;
mod attention;
mod conv;
mod copy;
mod group_conv;
mod group_norm;
mod head_norm;
mod image;
mod layer_norm;
mod linear_attention;
mod matmul;
mod mean;
mod multiply_add;
mod patchify;
mod scale;
mod shortcut;
mod step;
mod watch;

use crate::harness::{ELEMS, HALVES};
use tintype::gpu::{Block, Rule, Tile, Tuning};
use tintype::plan::ops::Activation;
use tintype::shape::Elem;

pub const ACTIVATIONS: [Activation; 9] = [
    Activation::None,
    Activation::Silu,
    Activation::Gelu,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::SoftClamp,
    Activation::Signed,
    Activation::GeluTanh,
    Activation::Tanh,
];

/// This tile for such activations, whatever the size.
pub fn tiled(elems: &[Elem], tile: Tile) -> &'static [Rule] {
    let rule = |&elem| Rule { elem, rows: 0, outputs: 0, block: Block::Tile(tile) };
    Vec::leak(elems.iter().map(rule).collect())
}

/// Every way to share a product among threads, whatever its size.
pub fn tunings() -> impl Iterator<Item = Tuning> {
    const TILES: [Tile; 3] = [Tile::WIDE, Tile::THIN, Tile::THIN_STORED];
    let tiles = TILES.into_iter().map(|tile| {
        let rules = tiled(if tile.stored { &HALVES } else { &ELEMS }, tile);
        Tuning { name: "a tile", matmul: rules, conv: rules, attention: &[], winograd: None }
    });
    [Tuning::BASE].into_iter().chain(tiles)
}
