//! The exponential of the frequencies, to the bit.

/// `e^x` as torch 2.9.1 built for x86-64 has it (its vectors go through Intel's library, at high accuracy): wrong in
/// the last bit at one argument in a hundred. A guidance scale makes angles of 1e4, of which the last bit is 1e-3,
/// so that bit of a frequency shows. Found from values alone, and equal to all of them where `|x| < 87`.
///
/// With `x = n ln(2) / 128 + r` it is `2^(n/128) (1 + r + r^2 / 2)`, every step rounded to f32 and none fused. What
/// is missing of the series is what shows in the last bit.
pub fn exp(x: f32) -> f32 {
    // ln(2) / 128 as a head of few bits, whose product with n is exact, and the rest.
    const HEAD: f32 = 355.0 / 65536.0;
    const REST: f32 = -2.121_944_4e-4 / 128.0;

    // Infinite, NaN or beyond the exponents of normal floats.
    if !(-87.0..87.0).contains(&x) {
        return x.exp();
    }
    let n = (x * (128.0 * std::f32::consts::LOG2_E)).round_ties_even();
    let r = x - n * HEAD - n * REST;
    let p = r + 0.5 * (r * r);
    let n = n as i32;
    let (high, low) = root_power(n & 127);
    let two_to_the = |k: i32| f32::from_bits(((127 + k) as u32) << 23);
    (high + (low + high * p)) * two_to_the(n >> 7)
}

/// `2^(j/128)` for j in 0..128, in two floats. From square roots, which are the same on every platform.
fn root_power(j: i32) -> (f32, f32) {
    let (mut power, mut root) = (1f64, 2f64);
    for bit in (0..7).rev() {
        root = root.sqrt();
        if j >> bit & 1 == 1 {
            power *= root;
        }
    }
    let high = power as f32;
    (high, (power - f64::from(high)) as f32)
}

#[cfg(test)]
mod tests {
    use super::exp;

    /// Arguments and what `torch.exp` makes of them, as bits, and whether that is the nearest float.
    const TORCH: [(u32, u32, bool); 14] = [
        // -arange(128) * (log(10000) / 127): elements 0, 1, 4, 64 and 127
        (0x80000000, 0x3f800000, true),
        (0xbd94869b, 0x3f6e176d, true),
        (0xbe94869b, 0x3f3f89d0, false),
        (0xc094869b, 0x3c1e0162, true),
        (0xc1135d8e, 0x38d1b716, true),
        // Of others than 128: 24, 32, 40, 256 and 512
        (0xc04d07ba, 0x3d265cd1, false),
        (0xc0e42dc3, 0x3a51c7e1, false),
        (0xc0539a07, 0x3d1620d6, false),
        (0xc00862a1, 0x3df32175, false),
        (0xc02b0f3b, 0x3d8d6e6c, false),
        (0xbfdd7b13, 0x3e357b3f, false),
        (0xc01158c4, 0x3dd35ce2, false),
        (0x3f800000, 0x402df854, true),
        (0xc2700000, 0x142d70c9, true),
    ];

    #[test]
    fn torch_exp() {
        for (x, y, nearest) in TORCH {
            let x = f32::from_bits(x);
            assert_eq!(exp(x).to_bits(), y, "exp({x})");
            assert_eq!((f64::from(x).exp() as f32).to_bits() == y, nearest, "exp({x}) rounded");
        }
        // Of torch.exp(-torch.arange(40960) / 4096), 414 of which are not the nearest float.
        let all = (0..40960)
            .fold(0u32, |h, i| h.wrapping_mul(31).wrapping_add(exp(-(i as f32) / 4096.0).to_bits()));
        assert_eq!(all, 0x9ead_53ba);
    }

    #[test]
    fn beyond_its_range() {
        assert_eq!([exp(f32::NEG_INFINITY), exp(-200.0), exp(200.0)], [0.0, 0.0, f32::INFINITY]);
        assert!(exp(f32::NAN).is_nan());
    }
}
