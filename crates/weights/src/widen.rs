//! Elements of a file to f32: exactly, but for F64 and long whole numbers, which are rounded once.

use super::safetensors::{Dtype, TensorInfo};
use crate::quant::floats;

/// What [`widen`] takes.
pub(super) const SUPPORTED: &str =
    "F32, F16, BF16, F64, F8_E4M3 and F8_E5M2, and whole numbers where a tensor is one number";

/// Whether a tensor can be read as floats.
pub(super) fn widens(info: &TensorInfo) -> bool {
    match info.dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::F8E4m3 | Dtype::F8E5m2 => true,
        Dtype::Other(_) => false,
        // An alpha, for example. More whole numbers are ids or packed weights, and no floats.
        _ => info.shape.iter().product::<usize>() == 1,
    }
}

/// The elements in `units`, which hold the bytes as they are in the file. The type is one that [`widens`].
pub(super) fn widen(dtype: &Dtype, units: &[u16], to: &mut [f32]) {
    let bytes: &[u8] = bytemuck::cast_slice(units);
    match dtype {
        Dtype::F16 => floats::from_f16(bytes, to),
        Dtype::Bf16 => floats::from_bf16(bytes, to),
        Dtype::F32 => floats::from_f32(bytes, to),
        Dtype::F64 => each(bytes, to, |b| f64::from_le_bytes(b) as f32),
        Dtype::F8E4m3 => floats::from_f8_e4m3(bytes, to),
        Dtype::F8E5m2 => floats::from_f8_e5m2(bytes, to),
        Dtype::I64 => each(bytes, to, |b| i64::from_le_bytes(b) as f32),
        Dtype::I32 => each(bytes, to, |b| i32::from_le_bytes(b) as f32),
        Dtype::I16 => each(bytes, to, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::I8 => each(bytes, to, |[byte]: [u8; 1]| f32::from(byte as i8)),
        Dtype::U64 => each(bytes, to, |b| u64::from_le_bytes(b) as f32),
        Dtype::U32 => each(bytes, to, |b| u32::from_le_bytes(b) as f32),
        Dtype::U16 => each(bytes, to, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::U8 => each(bytes, to, |[byte]: [u8; 1]| f32::from(byte)),
        Dtype::Bool => each(bytes, to, |[byte]: [u8; 1]| f32::from(u8::from(byte != 0))),
        Dtype::Other(name) => unreachable!("{name} is refused before it is read"),
    }
}

fn each<const N: usize>(bytes: &[u8], floats: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, float) in bytes.as_chunks::<N>().0.iter().zip(floats) {
        *float = value(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn numbers_of_every_type() {
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
            (Dtype::U16, &65535u16.to_le_bytes(), 65535.0),
            (Dtype::U32, &(1u32 << 31).to_le_bytes(), 2147483648.0),
            (Dtype::U64, &(1u64 << 40).to_le_bytes(), 2f32.powi(40)),
        ];
        for (dtype, bytes, wanted) in cases {
            let info = |shape: &[usize]| TensorInfo {
                name: "alpha".to_owned(),
                dtype: dtype.clone(),
                shape: shape.to_vec(),
                begin: 8,
                end: 8 + bytes.len() as u64,
            };
            assert!(widens(&info(&[])) && widens(&info(&[1, 1])), "{dtype}");
            let mut units = [0u16; 4];
            bytemuck::cast_slice_mut::<u16, u8>(&mut units)[..bytes.len()].copy_from_slice(bytes);
            let mut float = [0.0];
            widen(&dtype, &units, &mut float);
            assert_eq!(float, [wanted], "{dtype}");
        }
        let several = TensorInfo { name: String::new(), dtype: Dtype::I32, shape: vec![2], begin: 0, end: 8 };
        assert!(!widens(&several));
    }
}
