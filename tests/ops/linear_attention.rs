//! Linear attention.

use crate::harness::{Bench, ELEMS, F32_LIMIT, compare};
use crate::twin;
use tintype::plan::Tensor;
use tintype::plan::ops::LinearAttention;
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

/// Images, tokens, heads and their size; whether queries, keys and values of a head follow one another, as those of an
/// autoencoder do, or all queries are in front of all keys.
const CASES: [([u32; 4], bool); 5] = [
    ([1, 1, 1, 4], false),
    ([2, 35, 5, 12], false),
    ([1, 130, 3, 32], false),
    ([2, 6, 3, 16], true),
    ([1, 70, 2, 32], true),
];

fn ready(elem: Elem, [n, tokens, heads, size]: [u32; 4], alternating: bool) -> (Bench, Tensor, Vec<f64>) {
    let mut b = Bench::new(elem, Format::F32);
    let width = heads * size;
    let (x, seen) = b.input(Shape::tokens(n, tokens, 3 * width));
    let at = |i: u32| if alternating { i * size } else { i * width };
    let each = if alternating { 3 * size } else { size };
    let op = LinearAttention { q: (x, at(0)), k: (x, at(1)), v: (x, at(2)), heads, size, each };
    let y = op.record(&mut b.r);
    let of = |i: u32| -> Vec<f64> {
        let head = |h: u32| at(i) + h * each;
        let row = |row: &[f64]| -> Vec<f64> {
            (0..heads).flat_map(|h| row[head(h) as usize..][..size as usize].to_vec()).collect()
        };
        seen.chunks(3 * width as usize).flat_map(row).collect()
    };
    let parts = [0, 1, 2].map(of);
    let sizes = [n, tokens, heads, size].map(|n| n as usize);
    let want = twin::linear_attention([&parts[0], &parts[1], &parts[2]], sizes);
    (b, y, want)
}

#[test]
fn heads_of_every_layout() {
    for (sizes, alternating) in CASES {
        for elem in ELEMS {
            let (b, y, want) = ready(elem, sizes, alternating);
            b.check(&format!("{elem:?} {sizes:?}"), y, &want, F32_LIMIT);
        }
    }
}

#[test]
fn on_the_cpu() {
    for (sizes, alternating) in CASES {
        let (b, y, want) = ready(Elem::F32, sizes, alternating);
        if let Err(e) = compare(Elem::F32, &b.run_on_cpu(y), &want, F32_LIMIT) {
            panic!("{sizes:?}: {e}");
        }
    }
}

/// No key is positive: nothing is divided by nothing.
#[test]
fn where_nothing_is_looked_at() {
    let mut b = Bench::new(Elem::F32, Format::F32);
    let values = b.random.values(3 * 12).into_iter().map(|v| -v.abs()).collect();
    let (x, _) = b.input_of(Shape::tokens(1, 3, 12), Elem::F32, values);
    let op = LinearAttention { q: (x, 0), k: (x, 4), v: (x, 8), heads: 1, size: 4, each: 4 };
    let y = op.record(&mut b.r);
    assert_eq!(b.run(y), [0.0; 12]);
}
