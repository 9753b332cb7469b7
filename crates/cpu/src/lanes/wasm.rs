//! WebAssembly's fixed-width SIMD, and relaxed SIMD's fused multiply-add where the module is compiled with it.

use core::arch::wasm32::*;

use super::{Lanes, Loop};

#[derive(Clone, Copy)]
pub struct Simd128;

// SAFETY: what is read and written is that of the trait.
unsafe impl Lanes for Simd128 {
    type V = v128;
    const N: usize = 4;
    // Sixteen registers of an x86-64 machine: twelve sums, the rest for the operands.
    const ROWS: usize = 6;
    const DEPTH: usize = 512;

    #[inline(never)]
    unsafe fn call<F: Loop>(args: F::Args<'_>) {
        unsafe { F::call::<Simd128>(args) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> v128 {
        unsafe { v128_load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: v128) {
        unsafe { v128_store(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, _: usize) -> v128 {
        unsafe { v128_load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, _: usize, v: v128) {
        unsafe { v128_store(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> v128 {
        f32x4_splat(x)
    }
    #[inline(always)]
    unsafe fn add(a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: v128, b: v128) -> v128 {
        f32x4_div(a, b)
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    unsafe fn madd(a: v128, b: v128, c: v128) -> v128 {
        f32x4_relaxed_madd(a, b, c)
    }
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    unsafe fn madd(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }
    #[inline(always)]
    unsafe fn max(a: v128, b: v128) -> v128 {
        f32x4_pmax(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: v128, b: v128) -> v128 {
        f32x4_pmin(a, b)
    }
    #[inline(always)]
    unsafe fn nearest(v: v128) -> v128 {
        f32x4_nearest(v)
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: v128) -> v128 {
        i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(v), i32x4_splat(127)), 23)
    }
    #[inline(always)]
    unsafe fn abs(v: v128) -> v128 {
        f32x4_abs(v)
    }
    #[inline(always)]
    unsafe fn copysign(magnitude: v128, sign: v128) -> v128 {
        v128_bitselect(sign, magnitude, i32x4_splat(i32::MIN))
    }
}
