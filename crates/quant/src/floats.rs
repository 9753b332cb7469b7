//! Loops over the values of files and of blobs, in which a load spends its time.

use half::f16;

/// A half of these bits, without a branch, so that several are converted at once, in wasm too: the multiplication moves the
/// exponent from bias 15 to bias 127 and makes normal numbers of subnormal ones, exactly; only infinity and NaN need a
/// hand.
pub fn half_to_f32(bits: u16) -> f32 {
    const REBASE: f32 = f32::from_bits((127 + 127 - 15) << 23); // 2^112
    let bits = u32::from(bits);
    let magnitude = (f32::from_bits((bits & 0x7fff) << 13) * REBASE).to_bits();
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude | special | (bits & 0x8000) << 16)
}

/// 4 bits of exponent with bias 7, 3 of mantissa; no infinities, and all ones is NaN (torch's `float8_e4m3fn`).
fn e4m3_to_f32(byte: u8) -> f32 {
    let bits = u32::from(byte & 0x7f);
    // The multiplication moves the exponent from bias 7 to bias 127, and makes normal numbers of subnormal ones.
    let magnitude = f32::from_bits(bits << 20) * f32::from_bits((127 + 127 - 7) << 23);
    let magnitude = if bits == 0x7f { f32::NAN } else { magnitude };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

fn each<const N: usize>(bytes: &[u8], floats: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, float) in bytes.as_chunks::<N>().0.iter().zip(floats) {
        *float = value(*bytes);
    }
}

/// Floats of the file's bytes, little-endian.
pub fn from_f32(bytes: &[u8], floats: &mut [f32]) {
    each(bytes, floats, f32::from_le_bytes);
}

pub fn from_f16(bytes: &[u8], floats: &mut [f32]) {
    each(bytes, floats, |half| half_to_f32(u16::from_le_bytes(half)));
}

pub fn from_bf16(bytes: &[u8], floats: &mut [f32]) {
    each(bytes, floats, |half| f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16));
}

pub fn from_f8_e4m3(bytes: &[u8], floats: &mut [f32]) {
    each(bytes, floats, |[byte]: [u8; 1]| e4m3_to_f32(byte));
}

/// The upper halves of F16.
pub fn from_f8_e5m2(bytes: &[u8], floats: &mut [f32]) {
    each(bytes, floats, |[byte]: [u8; 1]| half_to_f32(u16::from(byte) << 8));
}

pub fn to_f16(floats: &[f32], bytes: &mut [u8]) {
    for (half, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(floats) {
        *half = f16::from_f32(*value).to_le_bytes();
    }
}

/// How many are infinite or not a number.
pub fn count_not_finite(values: &[f32]) -> u64 {
    values.iter().map(|v| u64::from(!v.is_finite())).sum()
}

/// How many are finite, but larger than `largest`.
pub fn count_above(values: &[f32], largest: f32) -> u64 {
    values.iter().map(|v| u64::from(v.is_finite() && v.abs() > largest)).sum()
}

/// [`count_not_finite`] of the bytes of f32.
pub fn count_in_f32(bytes: &[u8]) -> u64 {
    bytes.as_chunks().0.iter().map(|b| u64::from(!f32::from_le_bytes(*b).is_finite())).sum()
}

/// [`count_not_finite`] of the bytes of halves: all ones in the exponent.
pub fn count_in_f16(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<2>().0.iter().map(|b| u64::from(b[1] & 0x7c == 0x7c)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_halves_are_converted() {
        for bits in 0..=u16::MAX {
            let (got, want) = (half_to_f32(bits), f16::from_bits(bits).to_f32());
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{bits:#06x}: {got}, {want}"
            );
            let mut bytes = [0; 2];
            to_f16(&[got], &mut bytes);
            assert!(bytes == bits.to_le_bytes() || got.is_nan());
            assert_eq!(
                (count_in_f16(&bytes), count_not_finite(&[got])),
                (u64::from(!want.is_finite()), u64::from(!want.is_finite()))
            );
        }
        assert_eq!(count_above(&[65520.0, -65520.0, f32::INFINITY, 65519.0], 65519.0), 2);
    }
}
