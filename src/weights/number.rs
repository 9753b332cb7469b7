//! Elements of files to f32: halves in numbers, and a number alone of any type, since trainers write what scales a tensor
//! as Python had it.

use half::{bf16, f16};

use super::safetensors::{Dtype, TensorInfo};

/// Whether a tensor is one number, of a type that is read for numbers alone.
pub fn is_number(info: &TensorInfo) -> bool {
    let values: usize = info.shape.iter().product();
    let bytes = [0; 8];
    let size = usize::try_from(info.end - info.begin).unwrap_or(usize::MAX);
    values == 1 && bytes.get(..size).is_some_and(|bytes| number(&info.dtype, bytes).is_some())
}

/// The number that these bytes are.
pub fn number(dtype: &Dtype, bytes: &[u8]) -> Option<f32> {
    Some(match (dtype, bytes) {
        (Dtype::F64, bytes) => f64::from_le_bytes(bytes.try_into().ok()?) as f32,
        (Dtype::F32, bytes) => f32::from_le_bytes(bytes.try_into().ok()?),
        (Dtype::F16, bytes) => f16::from_le_bytes(bytes.try_into().ok()?).to_f32(),
        (Dtype::Bf16, bytes) => bf16::from_le_bytes(bytes.try_into().ok()?).to_f32(),
        (Dtype::I64, bytes) => i64::from_le_bytes(bytes.try_into().ok()?) as f32,
        (Dtype::I32, bytes) => i32::from_le_bytes(bytes.try_into().ok()?) as f32,
        (Dtype::I16, bytes) => f32::from(i16::from_le_bytes(bytes.try_into().ok()?)),
        (Dtype::I8, [byte]) => f32::from(*byte as i8),
        (Dtype::U8, [byte]) => f32::from(*byte),
        (Dtype::Bool, [byte]) => f32::from(u8::from(*byte != 0)),
        (Dtype::Other(name), bytes) => match name.as_str() {
            "U16" => f32::from(u16::from_le_bytes(bytes.try_into().ok()?)),
            "U32" => u32::from_le_bytes(bytes.try_into().ok()?) as f32,
            "U64" => u64::from_le_bytes(bytes.try_into().ok()?) as f32,
            _ => return None,
        },
        _ => return None,
    })
}

/// Written without branches, for wasm too: the multiplication moves the exponent from bias 15 to
/// bias 127 and makes normal numbers of subnormal ones, exactly; only infinity and NaN need a hand.
pub fn f16_to_f32(halves: &[u16], floats: &mut [f32]) {
    let scale = f32::from_bits((127 + 127 - 15) << 23); // 2^112
    for (half, float) in halves.iter().zip(floats) {
        let h = u32::from(u16::from_le(*half));
        let magnitude = (f32::from_bits((h & 0x7fff) << 13) * scale).to_bits();
        let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        *float = f32::from_bits(magnitude | special | (h & 0x8000) << 16);
    }
}

pub fn bf16_to_f32(halves: &[u16], floats: &mut [f32]) {
    for (half, float) in halves.iter().zip(floats) {
        *float = f32::from_bits(u32::from(u16::from_le(*half)) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_type() {
        let other = |name: &str| Dtype::Other(name.to_owned());
        let cases: [(Dtype, &[u8], f32); 13] = [
            (Dtype::F64, &(-2.5f64).to_le_bytes(), -2.5),
            (Dtype::F32, &0.1f32.to_le_bytes(), 0.1),
            (Dtype::F16, &f16::from_f32(0.5).to_le_bytes(), 0.5),
            (Dtype::Bf16, &bf16::from_f32(-3.0).to_le_bytes(), -3.0),
            (Dtype::I64, &(-(1i64 << 40)).to_le_bytes(), -(2f32.powi(40))),
            (Dtype::I32, &(-70000i32).to_le_bytes(), -70000.0),
            (Dtype::I16, &(-300i16).to_le_bytes(), -300.0),
            (Dtype::I8, &[0xfe], -2.0),
            (Dtype::U8, &[0xfe], 254.0),
            (Dtype::Bool, &[1], 1.0),
            (other("U16"), &65535u16.to_le_bytes(), 65535.0),
            (other("U32"), &(1u32 << 31).to_le_bytes(), 2147483648.0),
            (other("U64"), &(1u64 << 40).to_le_bytes(), 2f32.powi(40)),
        ];
        for (dtype, bytes, wanted) in cases {
            assert_eq!(number(&dtype, bytes), Some(wanted), "{dtype}");
            let info = |shape: &[usize], end| TensorInfo {
                name: "alpha".to_owned(),
                dtype: dtype.clone(),
                shape: shape.to_vec(),
                begin: 8,
                end,
            };
            let end = 8 + bytes.len() as u64;
            assert!(is_number(&info(&[], end)) && is_number(&info(&[1, 1], end)), "{dtype}");
            assert!(!is_number(&info(&[2], end)) && !is_number(&info(&[], end + 9)), "{dtype}");
        }
        assert_eq!(number(&other("F4"), &[0]), None);
    }
}
