//! Winograd's transforms of one side of a tile.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::Kind;
use crate::lanes::Lanes;

/// A transform of one side of a tile: `A` inputs to `R` outputs.
pub trait Transform {
    const KIND: Kind;
    const A: usize;
    const R: usize;
    /// Of three weights.
    unsafe fn weights<L: Lanes>(g: [L::V; 3]) -> [L::V; 6];
    unsafe fn inputs<L: Lanes>(d: [L::V; 6]) -> [L::V; 6];
    unsafe fn outputs<L: Lanes>(m: [L::V; 6]) -> [L::V; 6];
}

pub struct F2;
pub struct F4;

impl Transform for F2 {
    const KIND: Kind = Kind::F2;
    const A: usize = 4;
    const R: usize = 2;

    #[inline(always)]
    unsafe fn weights<L: Lanes>(g: [L::V; 3]) -> [L::V; 6] {
        unsafe {
            let zero = L::splat(0.0);
            let even = L::mul(L::splat(0.5), L::add(g[0], g[2]));
            let odd = L::mul(L::splat(0.5), g[1]);
            [g[0], L::add(even, odd), L::sub(even, odd), g[2], zero, zero]
        }
    }

    #[inline(always)]
    unsafe fn inputs<L: Lanes>(d: [L::V; 6]) -> [L::V; 6] {
        unsafe {
            let zero = L::splat(0.0);
            [L::sub(d[0], d[2]), L::add(d[1], d[2]), L::sub(d[2], d[1]), L::sub(d[3], d[1]), zero, zero]
        }
    }

    #[inline(always)]
    unsafe fn outputs<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        unsafe {
            let zero = L::splat(0.0);
            let (sum, difference) = (L::add(m[1], m[2]), L::sub(m[1], m[2]));
            [L::add(m[0], sum), L::add(difference, m[3]), zero, zero, zero, zero]
        }
    }
}

impl Transform for F4 {
    const KIND: Kind = Kind::F4;
    const A: usize = 6;
    const R: usize = 4;

    #[inline(always)]
    unsafe fn weights<L: Lanes>(g: [L::V; 3]) -> [L::V; 6] {
        unsafe {
            // At a point p: (g0 + g1 p + g2 p^2) / (2 p^2 (p^2 - q^2)), q being the other one.
            let pair = |p: f32, factor: f32| {
                let even = L::mul(L::splat(factor), L::madd(L::splat(p * p), g[2], g[0]));
                let odd = L::mul(L::splat(factor * p), g[1]);
                [L::add(even, odd), L::sub(even, odd)]
            };
            let [a, b] = pair(FRAC_1_SQRT_2, -2.0 / 3.0);
            let [c, d] = pair(SQRT_2, 1.0 / 6.0);
            [g[0], a, b, c, d, g[2]]
        }
    }

    #[inline(always)]
    unsafe fn inputs<L: Lanes>(d: [L::V; 6]) -> [L::V; 6] {
        unsafe {
            let p = L::madd(L::splat(-2.0), d[2], d[4]);
            let q = L::mul(L::splat(FRAC_1_SQRT_2), L::madd(L::splat(-2.0), d[1], d[3]));
            let r = L::madd(L::splat(-0.5), d[2], d[4]);
            let s = L::mul(L::splat(SQRT_2), L::madd(L::splat(-0.5), d[1], d[3]));
            let first = L::add(d[0], L::madd(L::splat(-2.5), d[2], d[4]));
            let last = L::add(d[1], L::madd(L::splat(-2.5), d[3], d[5]));
            [first, L::add(p, q), L::sub(p, q), L::add(r, s), L::sub(r, s), last]
        }
    }

    #[inline(always)]
    unsafe fn outputs<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        unsafe {
            let (a, b) = (L::add(m[1], m[2]), L::sub(m[1], m[2]));
            let (c, d) = (L::add(m[3], m[4]), L::sub(m[3], m[4]));
            let zero = L::splat(0.0);
            [
                L::add(L::add(m[0], a), c),
                L::madd(L::splat(FRAC_1_SQRT_2), b, L::mul(L::splat(SQRT_2), d)),
                L::madd(L::splat(0.5), a, L::add(c, c)),
                L::add(L::madd(L::splat(FRAC_1_SQRT_2 / 2.0), b, L::mul(L::splat(2.0 * SQRT_2), d)), m[5]),
                zero,
                zero,
            ]
        }
    }
}
