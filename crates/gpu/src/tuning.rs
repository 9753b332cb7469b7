//! Which kernel computes which shape: tables, which the tier of an adapter chooses from.

use crate::shape::Elem;

/// How much of a product one thread makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// 4 rows x 8 outputs, or a query of attention: what the registers of a GPU hold.
    Small,
    /// 16 rows x 16 outputs of f32 activations, or four queries.
    Large,
}

impl Block {
    /// The library that fills the kernels' slot.
    pub fn as_str(self) -> &'static str {
        match self {
            Block::Small => "4x8",
            Block::Large => "16x16",
        }
    }

    /// Rows of a thread's block, divided by four.
    pub fn row_quads(self) -> u32 {
        match self {
            Block::Small => 1,
            Block::Large => 4,
        }
    }

    /// Outputs of a thread's block, divided by four.
    pub fn out_vec4s(self) -> u32 {
        match self {
            Block::Small => 2,
            Block::Large => 4,
        }
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

/// Of the rows of a kernel the first that fits counts; small blocks where none does.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub name: &'static str,
    pub matmul: &'static [Rule],
    pub conv: &'static [Rule],
    pub attention: &'static [Rule],
}

/// Large blocks for all of f32. Others have none.
const LARGE: &[Rule] = &[Rule { elem: Elem::F32, rows: 0, outputs: 0, block: Block::Large }];

impl Tuning {
    /// What every GPU runs well.
    pub const BASE: Tuning = Tuning { name: "base", matmul: &[], conv: &[], attention: &[] };

    /// For an adapter that loads lane by lane: the fewer loads the better.
    pub const LANES: Tuning = Tuning { name: "lanes", matmul: LARGE, conv: LARGE, attention: LARGE };

    pub const ALL: [Tuning; 2] = [Tuning::BASE, Tuning::LANES];

    /// The names of all tables, for people.
    pub fn names() -> String {
        Tuning::ALL.map(|tuning| tuning.name).join(" or ")
    }

    pub fn matmul(&self, elem: Elem, rows: u32, outputs: u32) -> Block {
        choose(self.matmul, elem, rows, outputs)
    }

    pub fn conv(&self, elem: Elem, rows: u32, outputs: u32) -> Block {
        choose(self.conv, elem, rows, outputs)
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
