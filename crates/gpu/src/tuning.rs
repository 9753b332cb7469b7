//! Which kernel computes which shape: tables, which the tier of an adapter chooses from.

use tintype_quant::Format;

use crate::shape::Elem;

/// How a product is shared among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Each thread alone: 4 rows x 8 outputs, or a query of attention.
    Small,
    /// Each thread alone: 16 rows x 16 outputs of f32 activations, or four queries.
    Large,
    /// The threads of a workgroup together.
    Tile(Tile),
}

/// A workgroup's share of a product, which goes through its memory (kernels/lib/tile.wgsl): `rows` rows x 64 outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub rows: u32,
    /// Rows that a thread makes, with 8 outputs of each; of attention nothing else counts, as the most queries of a thread.
    pub each: u32,
    /// Whether workgroup memory keeps operands as activations are stored, or else in f32. Weights of 32 bits stay so.
    pub stored: bool,
}

impl Tile {
    pub const OUTPUTS: u32 = 64;
    /// 64 threads, and the fewest operands for each product.
    pub const WIDE: Tile = Tile { rows: 64, each: 8, stored: false };
    /// 128 threads, each with half the registers.
    pub const THIN: Tile = Tile { rows: 64, each: 4, stored: false };
    /// That, with half the workgroup memory too where activations are halves.
    pub const THIN_STORED: Tile = Tile { rows: 64, each: 4, stored: true };

    /// Of a workgroup.
    pub fn threads(self) -> u32 {
        self.rows / self.each * (Tile::OUTPUTS / 8)
    }

    /// Threads in x and y that make a product of so many rows and outputs: a row of threads is a row of workgroups.
    pub fn grid(self, rows: u32, outputs: u32) -> [u32; 2] {
        [outputs.div_ceil(Tile::OUTPUTS) * self.threads(), rows.div_ceil(self.rows)]
    }

    /// A variant's name up to its tile, for products of these activations and weights.
    pub fn name(self, elem: Elem, format: Format) -> String {
        let cell = if self.stored && format != Format::F32 { elem } else { Elem::F32 };
        let types = [elem.as_str(), format.as_str(), cell.as_str()].join(".");
        format!("{types}.{}.{}", self.rows, self.each)
    }
}

/// A row of a table: products of activations in this storage, from so many rows (pixels, tokens, queries) and so many outputs
/// (channels of a head) on, are made in such blocks.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub elem: Elem,
    pub rows: u32,
    pub outputs: u32,
    pub block: Block,
}

/// The 3x3 convolutions that Winograd's F(4x4, 3x3) computes, in tiles of products: where so many pixels share the weights
/// that are transformed for them, and so many inputs and outputs the pixels.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    pub pixels: u32,
    pub channels: u32,
    /// What weights may take that are transformed at a time, and a band's inputs or products.
    pub bytes: u64,
}

/// Of the rows of a kernel the first that fits counts; small blocks where none does.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub name: &'static str,
    pub matmul: &'static [Rule],
    pub conv: &'static [Rule],
    pub attention: &'static [Rule],
    pub winograd: Option<Winograd>,
}

/// Large blocks for all of f32. Others have none.
const LARGE: &[Rule] = &[Rule { elem: Elem::F32, rows: 0, outputs: 0, block: Block::Large }];

/// Fewer rows than this leave most of a tile empty.
const TILE_ROWS: u32 = 32;

const fn tile(elem: Elem, tile: Tile) -> Rule {
    Rule { elem, rows: TILE_ROWS, outputs: 0, block: Block::Tile(tile) }
}

const WIDE: &[Rule] =
    &[tile(Elem::F32, Tile::WIDE), tile(Elem::F16, Tile::WIDE), tile(Elem::Pack16, Tile::WIDE)];

const THIN: &[Rule] =
    &[tile(Elem::F32, Tile::THIN), tile(Elem::F16, Tile::THIN_STORED), tile(Elem::Pack16, Tile::THIN_STORED)];

/// With fewer pixels the transformed weights are more than what they save; with fewer channels the inputs are.
/// The bytes are much less than the activations of a large image.
const WINOGRAD: Winograd = Winograd { pixels: 1024, channels: 64, bytes: 32 << 20 };

/// Three times this is about a percent of a small model.
const SAVED_BYTES: u64 = 4 << 20;

/// Four queries a thread, or three where heads are long.
const THIN_ATTENTION: &[Rule] = &[
    Rule {
        elem: Elem::F16,
        rows: TILE_ROWS,
        outputs: 68,
        block: Block::Tile(Tile { each: 3, ..Tile::THIN }),
    },
    tile(Elem::F32, Tile::THIN),
    tile(Elem::F16, Tile::THIN),
    tile(Elem::Pack16, Tile::THIN),
];

/// Two queries a thread, or one where heads are long.
const NARROW_ATTENTION: &[Rule] = &[
    Rule {
        elem: Elem::F16,
        rows: TILE_ROWS,
        outputs: 84,
        block: Block::Tile(Tile { each: 1, ..Tile::THIN }),
    },
    tile(Elem::F32, Tile::THIN),
    tile(Elem::F16, Tile { each: 2, ..Tile::THIN }),
    tile(Elem::Pack16, Tile::THIN),
];

impl Tuning {
    /// What every GPU runs well.
    pub const BASE: Tuning = Tuning { name: "base", matmul: &[], conv: &[], attention: &[], winograd: None };

    /// For an adapter that loads lane by lane: the fewer loads the better.
    pub const LANES: Tuning =
        Tuning { name: "lanes", matmul: LARGE, conv: LARGE, attention: LARGE, winograd: None };

    /// For GPUs with many registers: those of AMD, NVIDIA, Qualcomm.
    pub const WIDE: Tuning =
        Tuning { name: "wide", matmul: WIDE, conv: WIDE, attention: WIDE, winograd: Some(WINOGRAD) };

    /// For GPUs with about 128 registers a thread: those of Apple.
    pub const THIN: Tuning = Tuning {
        name: "thin",
        matmul: THIN,
        conv: THIN,
        attention: THIN_ATTENTION,
        winograd: Some(WINOGRAD),
    };

    /// For GPUs with fewer: those of Intel.
    pub const NARROW: Tuning = Tuning {
        name: "narrow",
        matmul: THIN,
        conv: THIN,
        attention: NARROW_ATTENTION,
        winograd: Some(WINOGRAD),
    };

    /// One of them with Winograd at every size: where small images should show what it does.
    pub const WINOGRAD: Tuning = Tuning {
        name: "winograd",
        winograd: Some(Winograd { pixels: 0, channels: 0, ..WINOGRAD }),
        ..Tuning::THIN
    };

    pub const ALL: [Tuning; 6] =
        [Tuning::BASE, Tuning::LANES, Tuning::WIDE, Tuning::THIN, Tuning::NARROW, Tuning::WINOGRAD];

    /// The table of this name.
    pub fn find(name: &str) -> Option<Tuning> {
        Tuning::ALL.into_iter().find(|tuning| tuning.name == name)
    }

    /// The names of all tables, for people.
    pub fn names() -> String {
        let [first @ .., last] = Tuning::ALL.map(|tuning| tuning.name);
        format!("{} or {last}", first.join(", "))
    }

    pub fn matmul(&self, elem: Elem, rows: u32, outputs: u32) -> Block {
        choose(self.matmul, elem, rows, outputs)
    }

    pub fn conv(&self, elem: Elem, rows: u32, outputs: u32) -> Block {
        choose(self.conv, elem, rows, outputs)
    }

    /// The same kernels with little workspace, where memory is limited: Winograd in more bands, which change no bit, and only
    /// of as many inputs as they have room for.
    pub fn saving(self) -> Tuning {
        let least = |how: Winograd| Winograd { bytes: how.bytes.min(SAVED_BYTES), ..how };
        Tuning { winograd: self.winograd.map(least), ..self }
    }

    /// How a 3x3 convolution is computed by Winograd, if it is: in bands, by tiles of products.
    pub fn winograd(&self, elem: Elem, pixels: u32, inputs: u32, outputs: u32) -> Option<(Winograd, Tile)> {
        let how = self.winograd?;
        let large = pixels >= how.pixels && inputs.min(outputs) >= how.channels;
        // Of a tile's rows, or as many outputs, in f32.
        let least = 36 * 64 * 4 * u64::from(inputs.max(64));
        match self.matmul(elem, pixels, outputs) {
            Block::Tile(tile) if large && least <= how.bytes => Some((how, tile)),
            _ => None,
        }
    }

    pub fn attention(&self, elem: Elem, queries: u32, head: u32) -> Block {
        choose(self.attention, elem, queries, head)
    }
}

fn choose(rules: &[Rule], elem: Elem, rows: u32, outputs: u32) -> Block {
    let fits = |rule: &&Rule| rule.elem == elem && rule.rows <= rows && rule.outputs <= outputs;
    rules.iter().find(fits).map_or(Block::Small, |rule| rule.block)
}

/// What an adapter can do, each tier all of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// SwiftShader: it loads lane by lane, and hardly optimises what it compiles.
    Lanes,
    /// Any other. llvmpipe is one: it loads whole vectors, and takes ten seconds to compile a large block.
    Portable,
    /// With `shader-f16`.
    Halves,
}

impl Tier {
    /// Only software adapters are told by their names.
    pub fn of(name: &str, f16: bool) -> Tier {
        match () {
            () if name.to_lowercase().contains("swiftshader") => Tier::Lanes,
            () if f16 => Tier::Halves,
            () => Tier::Portable,
        }
    }

    pub fn tuning(self) -> Tuning {
        match self {
            Tier::Lanes => Tuning::LANES,
            Tier::Portable | Tier::Halves => Tuning::BASE,
        }
    }
}
