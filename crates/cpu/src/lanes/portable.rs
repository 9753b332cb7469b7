//! Arrays of four, of which a compiler makes what it can: for machines whose instructions are not known here, and for
//! loops that are short everywhere.

use super::{Lanes, Loop};

#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn each(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY: what is read and written is that of the trait.
unsafe impl Lanes for Portable {
    type V = [f32; 4];
    const N: usize = 4;
    const ROWS: usize = 6;
    const DEPTH: usize = 512;

    #[inline(never)]
    unsafe fn call<F: Loop>(args: F::Args<'_>) {
        unsafe { F::call::<Portable>(args) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, _: usize) -> [f32; 4] {
        unsafe { Self::load(p) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, _: usize, v: [f32; 4]) {
        unsafe { Self::store(p, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn madd(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| if a < b { b } else { a })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| if b < a { b } else { a })
    }
    #[inline(always)]
    unsafe fn nearest(v: [f32; 4]) -> [f32; 4] {
        // Added and taken away again it rounds to whole numbers, ties to even, without a call.
        const ROUND: f32 = 1.5 * (1 << 23) as f32;
        v.map(|v| (v + ROUND) - ROUND)
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: [f32; 4]) -> [f32; 4] {
        v.map(|v| f32::from_bits(((v as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn abs(v: [f32; 4]) -> [f32; 4] {
        v.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn copysign(magnitude: [f32; 4], sign: [f32; 4]) -> [f32; 4] {
        each(magnitude, sign, f32::copysign)
    }
}
