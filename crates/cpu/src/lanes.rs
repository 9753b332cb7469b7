//! Registers of f32 lanes: four on wasm and ARM, eight or sixteen on x86-64, whichever the machine has. Everything
//! above is written once, for any [`Lanes`].

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(not(target_arch = "wasm32"))]
mod portable;
#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
#[cfg(not(target_arch = "wasm32"))]
pub use portable::Portable;
#[cfg(target_arch = "wasm32")]
pub use wasm::Simd128;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// A loop that is compiled for each kind of lanes. What it calls must be part of it (`#[inline(always)]`): a closure in
/// its place would be compiled without the instructions, and each of them be a call.
pub trait Loop {
    type Args<'a>;

    /// # Safety
    ///
    /// As that of [`Lanes`].
    unsafe fn call<L: Lanes>(args: Self::Args<'_>);
}

/// A register of `N` lanes and what it can do.
///
/// # Safety
///
/// All functions may only be called on a machine that has the instructions; pointers must be valid for as many values as
/// are read or written, but need no alignment.
pub unsafe trait Lanes: Copy + Send + Sync + 'static {
    type V: Copy;
    /// Lanes of a register: a multiple of four.
    const N: usize;
    /// Rows of a product that are in registers at a time.
    const ROWS: usize;
    /// Inputs whose weights for two registers of outputs stay in the first cache.
    const DEPTH: usize;

    /// Calls a loop, as a function of its own that may use the instructions.
    unsafe fn call<F: Loop>(args: F::Args<'_>);
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `count` values, a multiple of four and less than `N`; the others are zero.
    unsafe fn load_some(p: *const f32, count: usize) -> Self::V;
    unsafe fn store_some(p: *mut f32, count: usize, v: Self::V);
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a b + c`, rounded once or twice.
    unsafe fn madd(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a < b ? b : a`: what is not a number in `a` stays so.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `b < a ? b : a`.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole numbers, ties to even.
    unsafe fn nearest(v: Self::V) -> Self::V;
    /// 2 to the power of whole numbers from -126 to 127.
    unsafe fn exp2_whole(v: Self::V) -> Self::V;
    unsafe fn abs(v: Self::V) -> Self::V;
    /// Magnitudes with the signs of others.
    unsafe fn copysign(magnitude: Self::V, sign: Self::V) -> Self::V;

    /// The lanes' sum, in the order of the lanes.
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe { values::<Self>(v)[..Self::N].iter().sum() }
    }

    /// The largest lane.
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe { values::<Self>(v)[..Self::N].iter().copied().fold(f32::NEG_INFINITY, f32::max) }
    }
}

/// The lanes of the widest register there is, of which the first are these.
#[inline(always)]
unsafe fn values<L: Lanes>(v: L::V) -> [f32; 16] {
    let mut values = [0.0; 16];
    unsafe { L::store(values.as_mut_ptr(), v) };
    values
}

/// `count` values, which may be all `N` or a multiple of four below.
#[inline(always)]
pub unsafe fn load<L: Lanes>(p: *const f32, count: usize) -> L::V {
    unsafe { if L::N == 4 || count >= L::N { L::load(p) } else { L::load_some(p, count) } }
}

#[inline(always)]
pub unsafe fn store<L: Lanes>(p: *mut f32, count: usize, v: L::V) {
    unsafe { if L::N == 4 || count >= L::N { L::store(p, v) } else { L::store_some(p, count, v) } }
}

/// e^x, off by at most 1e-7 of itself or 1.2e-38; arguments are held between -87.3 and 88.3. The polynomial is that of
/// Cephes' expf.
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L::V) -> L::V {
    unsafe {
        let x = L::min(L::max(x, L::splat(-87.3)), L::splat(88.3));
        let n = L::nearest(L::mul(x, L::splat(LOG2_E)));
        let r = L::madd(n, L::splat(-0.693_359_4), x);
        let r = L::madd(n, L::splat(2.121_944_4e-4), r);
        let mut p = L::splat(1.987_569_2e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
            p = L::madd(p, r, L::splat(c));
        }
        let y = L::add(L::madd(L::mul(p, r), r, r), L::splat(1.0));
        L::mul(y, L::exp2_whole(n))
    }
}

#[inline(always)]
pub unsafe fn sigmoid<L: Lanes>(x: L::V) -> L::V {
    unsafe { L::div(L::splat(1.0), L::add(L::splat(1.0), exp::<L>(L::sub(L::splat(0.0), x)))) }
}

#[inline(always)]
pub unsafe fn tanh<L: Lanes>(x: L::V) -> L::V {
    unsafe {
        let e = exp::<L>(L::mul(L::splat(2.0), x));
        L::sub(L::splat(1.0), L::div(L::splat(2.0), L::add(e, L::splat(1.0))))
    }
}

/// The error function, off by at most 4e-7: Chebyshev's fit of erfc from Numerical Recipes, section 6.2.
#[inline(always)]
unsafe fn erf<L: Lanes>(x: L::V) -> L::V {
    unsafe {
        let z = L::abs(x);
        let t = L::div(L::splat(1.0), L::madd(L::splat(0.5), z, L::splat(1.0)));
        let mut p = L::splat(0.170_872_77);
        for c in [
            -0.822_152_23,
            1.488_515_9,
            -1.135_204,
            0.278_868_07,
            -0.186_288_06,
            0.096_784_18,
            0.374_091_96,
            1.000_023_7,
            -1.265_512_2,
        ] {
            p = L::madd(p, t, L::splat(c));
        }
        let e = L::mul(t, exp::<L>(L::sub(p, L::mul(z, z))));
        L::copysign(L::sub(L::splat(1.0), e), x)
    }
}

#[inline(always)]
pub unsafe fn gelu<L: Lanes>(x: L::V) -> L::V {
    unsafe {
        let half = L::mul(L::splat(0.5), x);
        L::madd(half, erf::<L>(L::mul(x, L::splat(FRAC_1_SQRT_2))), half)
    }
}

/// Calls `$f::<L>($args)` with the widest lanes of this machine.
macro_rules! widest {
    ($f:ident($($arg:expr),* $(,)?)) => {{
        #[cfg(target_arch = "wasm32")]
        // SAFETY: a module with these instructions would not have been loaded without them.
        unsafe {
            $f::<$crate::lanes::Simd128>($($arg),*)
        }
        #[cfg(not(target_arch = "wasm32"))]
        // SAFETY: the machine was asked.
        unsafe {
            match $crate::lanes::isa() {
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Isa::Avx512 => $f::<$crate::lanes::Avx512>($($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Isa::Avx2 => $f::<$crate::lanes::Avx2>($($arg),*),
                #[cfg(target_arch = "aarch64")]
                $crate::lanes::Isa::Neon => $f::<$crate::lanes::Neon>($($arg),*),
                $crate::lanes::Isa::Portable => $f::<$crate::lanes::Portable>($($arg),*),
            }
        }
    }};
}
pub(crate) use widest;

/// Instructions that a machine may have.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

#[cfg(not(target_arch = "wasm32"))]
impl Isa {
    /// Whether this machine has it.
    pub fn is_here(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
        }
    }
}

/// The widest that this machine has.
#[cfg(not(target_arch = "wasm32"))]
pub fn isa() -> Isa {
    #[cfg(test)]
    if let Some(isa) = FORCED.get() {
        return isa;
    }
    #[cfg(target_arch = "x86_64")]
    let wide = [Isa::Avx512, Isa::Avx2];
    #[cfg(target_arch = "aarch64")]
    let wide = [Isa::Neon];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let wide = [];
    wide.into_iter().find(|isa: &Isa| isa.is_here()).unwrap_or(Isa::Portable)
}

#[cfg(test)]
thread_local!(static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) });

/// Calls `f` on a machine that has no more than this.
#[cfg(test)]
pub fn forced<R>(isa: Isa, f: &dyn Fn() -> R) -> R {
    let before = FORCED.replace(Some(isa));
    let result = f();
    FORCED.set(before);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `f` makes of 4001 values from -20 to 20, beside the exact ones: the largest differences, absolute and
    /// relative.
    fn off(f: unsafe fn(*mut f32), exact: fn(f64) -> f64) -> [f64; 2] {
        let mut worst = [0f64; 2];
        for i in -2000..=2000 {
            let x = i as f32 / 100.0;
            let mut values = [x; 16];
            unsafe { f(values.as_mut_ptr()) };
            let (got, want) = (f64::from(values[0]), exact(f64::from(x)));
            let off = (got - want).abs();
            worst = [worst[0].max(off), worst[1].max(off / want.abs().max(1e-30))];
        }
        worst
    }

    unsafe fn of<L: Lanes>(p: *mut f32, f: impl Fn(L::V) -> L::V) {
        unsafe { L::store(p, f(L::load(p))) }
    }

    fn functions<L: Lanes>() {
        let [_, relative] = off(|p| unsafe { of::<L>(p, |v| exp::<L>(v)) }, f64::exp);
        assert!(relative < 3e-7, "exp is off by {relative}");
        let [absolute, _] = off(|p| unsafe { of::<L>(p, |v| sigmoid::<L>(v)) }, |x| 1.0 / (1.0 + (-x).exp()));
        assert!(absolute < 3e-7, "sigmoid is off by {absolute}");
        let [absolute, _] = off(|p| unsafe { of::<L>(p, |v| tanh::<L>(v)) }, f64::tanh);
        assert!(absolute < 5e-7, "tanh is off by {absolute}");
        let [absolute, _] = off(|p| unsafe { of::<L>(p, |v| erf::<L>(v)) }, libm::erf);
        assert!(absolute < 6e-7, "erf is off by {absolute}");
    }

    fn odd_values<L: Lanes>() {
        let exp = |x: f32| {
            let mut values = [x; 16];
            unsafe { of::<L>(values.as_mut_ptr(), |v| exp::<L>(v)) };
            values[0]
        };
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY) > 1e38 && exp(f32::NEG_INFINITY) < 1.3e-38);
        let ramp: [f32; 16] = std::array::from_fn(|i| i as f32 + 1.0);
        let mut to = [7.0; 16];
        unsafe {
            for count in (4..L::N).step_by(4) {
                to.fill(7.0);
                L::store_some(to.as_mut_ptr(), count, L::load(ramp.as_ptr()));
                assert_eq!((to[count - 1], to[count]), (count as f32, 7.0));
                L::store(to.as_mut_ptr(), L::load_some(ramp.as_ptr(), count));
                assert_eq!((to[count - 1], to[count]), (count as f32, 0.0));
            }
            assert_eq!(L::sum(L::splat(1.5)), L::N as f32 * 1.5);
            assert_eq!(L::largest(L::load(ramp.as_ptr())), L::N as f32);
            assert!(L::largest(L::max(L::splat(f32::NAN), L::splat(1.0))).is_infinite());
        }
    }

    macro_rules! all {
        ($($(#[$on:meta])* $name:ident $lanes:ident;)*) => { $(
            $(#[$on])*
            #[test]
            fn $name() {
                if Isa::$lanes.is_here() {
                    functions::<super::$lanes>();
                    odd_values::<super::$lanes>();
                }
            }
        )* };
    }
    all! {
        portable Portable;
        #[cfg(target_arch = "aarch64")]
        neon Neon;
        #[cfg(target_arch = "x86_64")]
        avx2 Avx2;
        #[cfg(target_arch = "x86_64")]
        avx512 Avx512;
    }
}
