//! AVX2 with FMA, and AVX-512.

use core::arch::x86_64::*;

use super::{Lanes, Loop};

#[derive(Clone, Copy)]
pub struct Avx2;

// SAFETY: what is read and written is that of the trait.
unsafe impl Lanes for Avx2 {
    type V = __m256;
    const N: usize = 8;
    // Sixteen registers: twelve sums.
    const ROWS: usize = 6;
    const DEPTH: usize = 256;

    #[inline(always)]
    unsafe fn call<F: Loop>(args: F::Args<'_>) {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn inner<F: Loop>(args: F::Args<'_>) {
            unsafe { F::call::<Avx2>(args) }
        }
        unsafe { inner::<F>(args) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, _: usize) -> __m256 {
        unsafe { _mm256_zextps128_ps256(_mm_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, _: usize, v: __m256) {
        unsafe { _mm_storeu_ps(p, _mm256_castps256_ps128(v)) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn madd(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // The second where either is not a number.
        unsafe { _mm256_max_ps(b, a) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(b, a) }
    }
    #[inline(always)]
    unsafe fn nearest(v: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvttps_epi32(v), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn abs(v: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), v) }
    }
    #[inline(always)]
    unsafe fn copysign(magnitude: __m256, sign: __m256) -> __m256 {
        unsafe {
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign))
        }
    }
}

#[derive(Clone, Copy)]
pub struct Avx512;

// SAFETY: what is read and written is that of the trait.
unsafe impl Lanes for Avx512 {
    type V = __m512;
    const N: usize = 16;
    // Thirty-two registers: twenty-four sums.
    const ROWS: usize = 12;
    const DEPTH: usize = 256;

    #[inline(always)]
    unsafe fn call<F: Loop>(args: F::Args<'_>) {
        #[target_feature(enable = "avx512f")]
        unsafe fn inner<F: Loop>(args: F::Args<'_>) {
            unsafe { F::call::<Avx512>(args) }
        }
        unsafe { inner::<F>(args) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, count: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, p) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, count: usize, v: __m512) {
        unsafe { _mm512_mask_storeu_ps(p, (1 << count) - 1, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn madd(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // The second where either is not a number.
        unsafe { _mm512_max_ps(b, a) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(b, a) }
    }
    #[inline(always)]
    unsafe fn nearest(v: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvttps_epi32(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn abs(v: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(v) }
    }
    #[inline(always)]
    unsafe fn copysign(magnitude: __m512, sign: __m512) -> __m512 {
        unsafe {
            let bit = _mm512_set1_epi32(i32::MIN);
            let [m, s] = [_mm512_castps_si512(magnitude), _mm512_castps_si512(sign)];
            _mm512_castsi512_ps(_mm512_or_epi32(_mm512_andnot_epi32(bit, m), _mm512_and_epi32(bit, s)))
        }
    }
}
