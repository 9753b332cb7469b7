//! kernels/attention.wgsl on the CPU: scores of a band of queries, which stay in the cache, softmax, product with the
//! values.

use std::cell::RefCell;
use std::ops::Range;

use crate::lanes::{Lanes, Loop, exp, widest};
use crate::tasks::{Shared, tasks};
use crate::tile::{Panels, block, registers};
use crate::{Lines, PIECE, Scratch};

/// Queries whose scores are kept at a time: whole numbers of rows of every tile but ARM's.
const BAND: usize = 48;

thread_local!(static SCORES: RefCell<Lines> = RefCell::default());

/// Rows of tokens, in which a head's values begin at `at + head * size` of every `stride`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub at: usize,
}

/// What is added to scores, in rows of `each` numbers.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    pub values: &'a [f32],
    pub each: usize,
}

pub struct Attention<'a> {
    pub images: usize,
    pub heads: usize,
    /// Values of a head, a multiple of four.
    pub size: usize,
    pub queries: usize,
    pub keys: usize,
    /// A query sees no key behind its own place.
    pub causal: bool,
    pub scale: f32,
    /// Heads of queries that share a head of keys and values.
    pub shared: usize,
    /// The bound `c` of scores, which become `c tanh(score / c)`.
    pub cap: Option<f32>,
    /// A row for each image, a number for each key.
    pub keys_bias: Option<Bias<'a>>,
    /// A row for each head, a number for each distance from a query to a key, from `1 - queries` on.
    pub distances_bias: Option<Bias<'a>>,
    pub q: Rows<'a>,
    pub k: Rows<'a>,
    pub v: Rows<'a>,
}

impl Attention<'_> {
    fn bands(&self) -> usize {
        self.images * self.heads * self.queries.div_ceil(BAND)
    }

    /// Bands of a piece.
    fn piece(&self) -> usize {
        (PIECE / (4 * BAND * self.size) / self.keys).max(8)
    }

    pub fn pieces(&self) -> usize {
        self.bands().div_ceil(self.piece())
    }

    /// Pieces in their order: the first packs keys and values for all.
    pub fn run(&self, piece: usize, y: &mut [f32], scratch: &mut Scratch) {
        assert!(self.size.is_multiple_of(4), "heads of {}", self.size);
        let width = self.heads * self.size;
        let heads_width = width / self.shared;
        for (rows, count, width) in [
            (self.q, self.queries, width),
            (self.k, self.keys, heads_width),
            (self.v, self.keys, heads_width),
        ] {
            let end = (self.images * count - 1) * rows.stride + rows.at + width;
            assert!(rows.values.len() >= end, "rows of tokens end at {end} of {}", rows.values.len());
        }
        assert!(y.len() >= self.images * self.queries * width, "{} values of attention", y.len());
        let bands = piece * self.piece()..((piece + 1) * self.piece()).min(self.bands());
        widest!(run(self, piece == 0, bands, Shared::new(y), scratch));
    }
}

/// Keys of a head as the columns of a matrix, times the scale; its values as rows; both padded with zeros.
struct Packed {
    keys: usize,
    size: usize,
    /// Values of one head, of which those of the keys come first.
    each: usize,
    first: usize,
}

unsafe fn run<L: Lanes>(a: &Attention, pack: bool, bands: Range<usize>, y: Shared, scratch: &mut Scratch) {
    let keys = a.keys.next_multiple_of(2 * L::N);
    let size = a.size.next_multiple_of(L::N);
    let packed = Packed { keys, size, first: keys * a.size, each: keys * (a.size + size) };
    let heads = a.images * a.heads / a.shared;
    let room = Shared::new(scratch.values.room(heads * packed.each));
    if pack {
        tasks(heads, |head| unsafe {
            pack_head::<L>(a, &packed, head, room.get().add(head * packed.each));
        });
    }
    tasks(bands.len(), |task| {
        SCORES.with_borrow_mut(|scores| unsafe {
            let scores = scores.room(BAND * packed.keys);
            band::<L>(a, &packed, bands.start + task, scores, room.get(), y.get());
        });
    });
}

#[inline(always)]
unsafe fn pack_head<'a, L: Lanes>(a: &Attention<'a>, packed: &Packed, head: usize, to: *mut f32) {
    let (image, head) = (head / (a.heads / a.shared), head % (a.heads / a.shared));
    let row = |rows: Rows<'a>, key: usize| {
        (key < a.keys).then(|| {
            let at = (image * a.keys + key) * rows.stride + rows.at + head * a.size;
            rows.values.get(at..at + a.size).expect("lengths were asked")
        })
    };
    let panel = 2 * L::N;
    for key in 0..packed.keys {
        let keys = unsafe { to.add(key / panel * a.size * panel + key % panel) };
        let [k, v] = [row(a.k, key), row(a.v, key)];
        for d in 0..a.size {
            unsafe { *keys.add(d * panel) = k.map_or(0.0, |row| row[d] * a.scale) };
        }
        let values = unsafe { to.add(packed.first) };
        for d in (0..packed.size).step_by(L::N) {
            let (registers, _) = registers(d / panel, a.size, L::N);
            let at = d / panel * packed.keys * panel + key * registers * L::N + d % panel;
            for i in 0..L::N {
                let value = v.and_then(|row| row.get(d + i)).copied().unwrap_or(0.0);
                unsafe { *values.add(at + i) = value };
            }
        }
    }
}

#[inline(always)]
unsafe fn band<L: Lanes>(
    a: &Attention,
    packed: &Packed,
    band: usize,
    scores: &mut [f32],
    heads: *const f32,
    y: *mut f32,
) {
    let bands = a.queries.div_ceil(BAND);
    let (head, first) = (band / bands, band % bands * BAND);
    let image = head / a.heads;
    let count = BAND.min(a.queries - first);
    unsafe {
        // Heads of an image are a multiple of those that share.
        let keys = heads.add(head / a.shared * packed.each);
        let at = (image * a.queries + first) * a.q.stride + a.q.at + head % a.heads * a.size;
        let weights = Panels { first: keys, depth: a.size, outputs: packed.keys };
        let all = 0..packed.keys / (2 * L::N);
        let to = (scores.as_mut_ptr(), packed.keys);
        block::<L>([count, a.size], (a.q.values.as_ptr().add(at), a.q.stride), weights, 0, all, to, false);
        for i in 0..count {
            let seen = if a.causal { (first + i + 1).min(a.keys) } else { a.keys };
            let row = &mut scores[i * packed.keys..][..packed.keys];
            finish(a, [image, head % a.heads, first + i], &mut row[..a.keys]);
            L::call::<Softmax>((row, seen));
        }
        let width = a.heads * a.size;
        let weights = Panels { first: keys.add(packed.first), depth: packed.keys, outputs: a.size };
        let to = (y.add((image * a.queries + first) * width + head % a.heads * a.size), width);
        let all = 0..a.size.div_ceil(2 * L::N);
        block::<L>([count, packed.keys], (scores.as_ptr(), packed.keys), weights, 0, all, to, false);
    }
}

/// Scores of a query, capped, and with their biases.
fn finish(a: &Attention, [image, head, query]: [usize; 3], scores: &mut [f32]) {
    if let Some(cap) = a.cap {
        scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
    }
    let of_keys = a.keys_bias.map(|b| &b.values[image * b.each..]);
    let of_distances = a.distances_bias.map(|b| &b.values[head * b.each + a.queries - 1 - query..]);
    for bias in [of_keys, of_distances].into_iter().flatten() {
        scores.iter_mut().zip(&bias[..a.keys]).for_each(|(score, bias)| *score += bias);
    }
}

/// Of the first `seen` scores; the others get no weight.
struct Softmax;

impl Loop for Softmax {
    type Args<'a> = (&'a mut [f32], usize);

    #[inline(always)]
    unsafe fn call<L: Lanes>((row, seen): Self::Args<'_>) {
        unsafe { softmax::<L>(row, seen) }
    }
}

#[inline(always)]
unsafe fn softmax<L: Lanes>(row: &mut [f32], seen: usize) {
    unsafe {
        row[seen..].fill(f32::NEG_INFINITY);
        let p = row.as_mut_ptr();
        let mut largest = L::load(p);
        for i in (L::N..row.len()).step_by(L::N) {
            largest = L::max(largest, L::load(p.add(i)));
        }
        let largest = L::splat(L::largest(largest));
        let mut sum = L::splat(0.0);
        for i in (0..row.len()).step_by(L::N) {
            let e = exp::<L>(L::sub(L::load(p.add(i)), largest));
            sum = L::add(sum, e);
            L::store(p.add(i), e);
        }
        // Of what is hidden exp is not quite zero.
        let scale = L::splat(1.0 / L::sum(sum));
        for i in (0..row.len()).step_by(L::N) {
            L::store(p.add(i), L::mul(L::load(p.add(i)), scale));
        }
        row[seen..].fill(0.0);
    }
}
