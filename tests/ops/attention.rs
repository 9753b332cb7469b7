//! Attention over heads, alone and between its projections.

use super::tiled;
use crate::harness::{Bench, ELEMS, F32_LIMIT, FORMATS, HALVES, compare};
use crate::twin;
use tintype::gpu::{Tile, Tuning};
use tintype::nn;
use tintype::nn::{Heads, Projections};
use tintype::plan::ops::{Attention, Bias, HIDDEN};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

#[derive(Clone, Copy, Debug)]
struct Case {
    elem: Elem,
    images: u32,
    heads: u32,
    size: u32,
    queries: u32,
    keys: u32,
    causal: bool,
    /// Largest query and key.
    range: f32,
    limit: f64,
}

const CASE: Case = Case {
    elem: Elem::F32,
    images: 2,
    heads: 2,
    size: 8,
    queries: 5,
    keys: 7,
    causal: false,
    range: 1.0,
    limit: F32_LIMIT,
};

/// By tiles, whatever the size.
fn attention(tile: Tile) -> Tuning {
    Tuning { name: "a tile", attention: tiled(&ELEMS, tile), ..Tuning::BASE }
}

impl Case {
    fn check(self) {
        let tile = |each| attention(Tile { each, ..Tile::THIN });
        [Tuning::BASE, tile(4), tile(3), tile(2)].into_iter().for_each(|tuning| self.check_with(tuning));
        // Only those of halves may be as small.
        if self.elem == Elem::F16 {
            self.check_with(tile(1));
        }
    }

    fn check_with(self, tuning: Tuning) {
        let mut b = Bench { tuning, ..Bench::new(self.elem, Format::F32) };
        let padded = self.size.next_multiple_of(4);
        let mut input = |tokens: u32, range: f32| {
            let count = (self.images * tokens * self.heads * self.size) as usize;
            let values: Vec<f32> = b.random.values(count).into_iter().map(|v| v * range).collect();
            let row = |head: &[f32]| [head, &vec![0.0; (padded - self.size) as usize]].concat();
            let stored = values.chunks(self.size as usize).flat_map(row).collect();
            let shape = Shape::tokens(self.images, tokens, self.heads * padded);
            let (tensor, seen) = b.input_of(shape, self.elem, stored);
            (tensor, twin::columns(&seen, padded as usize, 0, self.size as usize))
        };
        let (q, q_seen) = input(self.queries, self.range);
        let (k, k_seen) = input(self.keys, self.range);
        let (v, v_seen) = input(self.keys, 1.0);
        let Case { heads, size, causal, .. } = self;
        let y = Attention { causal, ..Attention::of((q, 0), (k, 0), (v, 0), heads, size) }.record(&mut b.r);
        let (images, heads, size) = (self.images as usize, heads as usize, size as usize);
        let want = twin::attention([&q_seen, &k_seen, &v_seen], images, heads, size, causal);
        let got = b.run(y);
        let real: Vec<f32> = got.chunks(padded as usize).flat_map(|head| &head[..size]).copied().collect();
        let padding = got.chunks(padded as usize).flat_map(|head| &head[size..]);
        assert!(padding.into_iter().all(|&v| v == 0.0), "{self:?}: the padding is not zero");
        compare(self.elem, &real, &want, self.limit)
            .unwrap_or_else(|e| panic!("{self:?} with {}: {e}", tuning.name));
    }
}

#[test]
fn head_sizes() {
    for elem in ELEMS {
        for size in [1, 4, 5, 6, 8, 10, 40, 64, 80, 160] {
            Case { elem, size, ..CASE }.check();
        }
    }
    // Takes lavapipe many seconds to compile: once is enough.
    Case { size: 512, ..CASE }.check();
}

#[test]
fn numbers_of_queries_and_keys() {
    for elem in ELEMS {
        for (queries, keys) in [(1, 1), (1, 300), (77, 1), (5, 4), (70, 77), (3, 7), (17, 300)] {
            Case { elem, queries, keys, ..CASE }.check();
        }
    }
}

#[test]
fn causal() {
    for elem in ELEMS {
        for tokens in [1, 4, 7, 77] {
            Case { elem, queries: tokens, keys: tokens, causal: true, ..CASE }.check();
        }
    }
}

#[test]
fn large_scores() {
    // Scores to sqrt(8) * 60^2 = 10000, some negative: exp of one of them is infinite, of all of them zero. A
    // score is rounded by 8 * 2^-24 of itself, 5e-3, and so is the weight of a near tie; ties are rare.
    Case { range: 60.0, queries: 33, keys: 77, limit: 1e-3, ..CASE }.check();
    for elem in HALVES {
        Case { elem, range: 60.0, queries: 33, keys: 77, limit: 1e-3, ..CASE }.check();
    }
}

#[test]
fn slabs_of_a_fused_projection() {
    for elem in ELEMS {
        for tuning in [Tuning::BASE, attention(Tile::THIN)] {
            let mut b = Bench { tuning, ..Bench::new(elem, Format::F32) };
            let (heads, size, tokens) = (3, 8, 17);
            let width = heads * size;
            // Something before, between and behind them.
            let (q_at, k_at, v_at, stride) = (4, 8 + width, 8 + 2 * width, 12 + 3 * width);
            let (x, seen) = b.input(Shape::tokens(2, tokens, stride));
            let y = Attention::of((x, q_at), (x, k_at), (x, v_at), heads, size).record(&mut b.r);
            let [q, k, v] = [q_at, k_at, v_at]
                .map(|at| twin::columns(&seen, stride as usize, at as usize, width as usize));
            let want = twin::attention([&q, &k, &v], 2, heads as usize, size as usize, false);
            b.check("slabs", y, &want, F32_LIMIT);
        }
    }
}

/// `x` is `[2, tokens, 12]` of a layer with 3 heads of 5, which are padded to 8.
const HEADS: Heads = Heads { count: 3, size: 5 };

#[test]
fn layer_over_itself() {
    for format in FORMATS {
        let mut b = Bench::new(Elem::F32, format);
        let layer = nn::Attention::declare(&mut b.d, "a", 12, HEADS, Projections::CLIP);
        let w = b.fill();
        let (x, seen) = b.input(Shape::tokens(2, 7, 12));
        let (residual, before) = b.input(Shape::tokens(2, 7, 12));
        let y = layer.record(&mut b.r, x, None, residual, true);
        let [q, k, v] = ["q", "k", "v"]
            .map(|n| twin::matmul(&seen, &w[&format!("a.{n}_proj.weight")], &w[&format!("a.{n}_proj.bias")]));
        let mixed = twin::attention([&q, &k, &v], 2, 3, 5, true);
        let out = twin::matmul(&mixed, &w["a.out_proj.weight"], &w["a.out_proj.bias"]);
        let want: Vec<f64> = out.iter().zip(&before).map(|(a, b)| a + b).collect();
        b.check(&format!("self-attention with {format:?}"), y, &want, F32_LIMIT);
    }
}

#[test]
fn layer_over_a_context() {
    for format in FORMATS {
        let mut b = Bench::new(Elem::F32, format);
        let (layer, keys_values) = nn::Attention::cross(&mut b.d, "a", 12, 20, HEADS, Projections::UNET);
        let w = b.fill();
        let (x, seen) = b.input(Shape::tokens(2, 7, 12));
        let (context, told) = b.input(Shape::tokens(2, 9, 20));
        let kv = keys_values.of(context).record(&mut b.r);
        let y = layer.record(&mut b.r, x, Some(kv), x, false);
        let q = twin::matmul(&seen, &w["a.to_q.weight"], &[0.0; 15]);
        let [k, v] = ["k", "v"].map(|n| twin::matmul(&told, &w[&format!("a.to_{n}.weight")], &[0.0; 15]));
        let mixed = twin::attention([&q, &k, &v], 2, 3, 5, false);
        let out = twin::matmul(&mixed, &w["a.to_out.0.weight"], &w["a.to_out.0.bias"]);
        let want: Vec<f64> = out.iter().zip(&seen).map(|(a, b)| a + b).collect();
        b.check(&format!("cross-attention with {format:?}"), y, &want, F32_LIMIT);
    }
}

/// Grouped queries, soft caps, and biases of keys and of distances, by every kernel and by the CPU.
#[test]
fn what_transformers_do_to_scores() {
    for elem in ELEMS {
        for (shared, cap, biased, causal) in [
            (1, None, "distances", false),
            (1, None, "both", false),
            (2, None, "keys", true),
            (4, Some(1.5), "", true),
            (1, None, "keys", false),
        ] {
            for tile in [None, Some(4), Some(2)] {
                let tuning = tile.map_or(Tuning::BASE, |each| attention(Tile { each, ..Tile::THIN }));
                let mut b = Bench { tuning, ..Bench::new(elem, Format::F32) };
                let (images, heads, size, queries) = (2, 4, 12, 35);
                let keys = if causal { queries } else { 41 };
                let (q, q_seen) = b.input(Shape::tokens(images, queries, heads * size));
                let others = heads / shared * size;
                let [(k, k_seen), (v, v_seen)] = [0; 2].map(|_| b.input(Shape::tokens(images, keys, others)));
                let each = (queries + keys).next_multiple_of(4);
                // Of every image another number of keys at the end is hidden.
                let hidden = |i: u32| i % each + 7 * (1 + i / each) >= keys;
                let mut f32_input = |shape: Shape, masked: bool| {
                    let values = b.random.values((shape.rows() * shape.c) as usize);
                    let hide = |(i, value)| if masked && hidden(i) { HIDDEN } else { value };
                    let values = (0..).zip(values).map(hide).collect();
                    b.input_of(shape, Elem::F32, values)
                };
                let (keys, of_key) = f32_input(Shape::new(images, 1, 1, each), true);
                let (distances, of_distance) = f32_input(Shape::new(1, 1, heads, each), false);
                let bias = match biased {
                    "keys" => Some(Bias::Keys(keys)),
                    "distances" => Some(Bias::Distances(distances)),
                    "both" => Some(Bias::Both { keys, distances }),
                    _ => None,
                };
                let op = Attention::of((q, 0), (k, 0), (v, 0), heads, size);
                let y = Attention { causal, scale: 0.8, shared, cap, bias, ..op }.record(&mut b.r);
                let each = each as usize;
                let want = twin::attention_of(&twin::Attention {
                    q: &q_seen,
                    k: &k_seen,
                    v: &v_seen,
                    images: images as usize,
                    heads: heads as usize,
                    size: size as usize,
                    causal,
                    scale: f64::from(0.8f32),
                    shared: shared as usize,
                    cap: cap.map(f64::from),
                    bias: &|n, h, t, s| match biased {
                        "keys" => of_key[n * each + s],
                        "distances" => of_distance[h * each + s + queries as usize - 1 - t],
                        "both" => of_key[n * each + s] + of_distance[h * each + s + queries as usize - 1 - t],
                        _ => 0.0,
                    },
                });
                b.check(&format!("{shared} share, cap {cap:?}, bias of {biased}"), y, &want, F32_LIMIT);
            }
        }
    }
}
