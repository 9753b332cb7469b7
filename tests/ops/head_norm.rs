//! RMS norm and rotary positions of heads.

use crate::harness::{Bench, ELEMS, F32_LIMIT};
use crate::twin;
use tintype::plan::ops::{HeadNorm, HeadWeight, Rotary};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

const EPSILON: f32 = 1e-3;
const HEADS: u32 = 3;
/// Queries, keys and values of a fused projection, behind something else.
const AT: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Case {
    elem: Elem,
    tokens: u32,
    size: u32,
    /// The first token of the second segment, if the heads are normalised; beyond the last, there is none.
    split: Option<u32>,
    /// Whether pairs are of neighbours.
    turned: Option<bool>,
}

impl Case {
    fn check(self) {
        let Case { elem, tokens, size, split, turned } = self;
        let mut b = Bench::new(elem, Format::F32);
        let sets = 2;
        let segments = if split.is_some_and(|at| at < tokens) { 2 } else { 1 };
        let names: Vec<String> = (0..segments * sets).map(|i| format!("w{i}")).collect();
        let weight = b.d.vectors(names.clone(), size);
        let w = b.fill();
        let stride = AT + 3 * HEADS * size;
        let (x, seen) = b.input(Shape::tokens(2, tokens, stride));
        let pairs = (tokens * size / 2) as usize;
        let angles: Vec<f32> = b.random.values(pairs).into_iter().map(|a| a * 3.0).collect();
        let table = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        let (table, told) = b.input_of(Shape::new(1, tokens, 1, size), Elem::F32, table);
        let told: Vec<(f64, f64)> = told.as_chunks().0.iter().map(|&[c, s]| (c, s)).collect();
        let split_in = split.filter(|_| segments == 2);
        let norm = split.map(|_| HeadWeight { weight, epsilon: EPSILON, split: split_in });
        let rotary = turned.map(|neighbours| Rotary { table, neighbours });
        let op = HeadNorm { x: (x, AT), sets, heads: HEADS, size, norm, rotary };
        let y = op.record(&mut b.r);
        let count = (sets * HEADS) as usize;
        let mut want = twin::columns(&seen, stride as usize, AT as usize, count * size as usize);
        if split.is_some() {
            let weights: Vec<f64> = names.iter().flat_map(|name| w[name].to_vec()).collect();
            let sizes = [tokens, sets, HEADS, size].map(|n| n as usize);
            let split = split_in.unwrap_or(u32::MAX) as usize;
            want = twin::head_norm(&want, sizes, &weights, split, f64::from(EPSILON));
        }
        if let Some(neighbours) = turned {
            want = twin::turn(&want, count, size as usize, &told, neighbours);
        }
        b.check(&format!("{self:?}"), y, &want, F32_LIMIT);
    }
}

#[test]
fn norms_of_segments() {
    for elem in ELEMS {
        for (tokens, size, split) in [(1, 4, 9), (17, 12, 20), (70, 64, 33), (5, 8, 1)] {
            Case { elem, tokens, size, split: Some(split), turned: None }.check();
        }
    }
}

#[test]
fn turns_of_pairs() {
    for elem in ELEMS {
        for neighbours in [false, true] {
            for (tokens, size) in [(1, 8), (70, 24), (9, 128)] {
                for split in [None, Some(4)] {
                    Case { elem, tokens, size, split, turned: Some(neighbours) }.check();
                }
            }
        }
    }
}
