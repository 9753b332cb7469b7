//! What the elements of a file become, and which of them are told about.

use std::cell::RefCell;

use super::super::finite::count_stored;
use super::super::widen::widen;
use super::*;
use crate::quant::{Format, Matrix, Scales};
use crate::warning::Warning;

/// A file of tensors in this order: name, type, shape, bytes.
fn typed(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let (mut entries, mut data) = (vec![], vec![]);
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend(bytes);
        let end = data.len();
        entries.push(format!(
            r#""{name}": {{"dtype": "{dtype}", "shape": {shape:?}, "data_offsets": [{begin}, {end}]}}"#
        ));
    }
    raw(&format!("{{{}}}", entries.join(", ")), &data)
}

/// What a sink gets of a file, and what is said of it.
fn read(file: Vec<u8>, unwanted: &'static str) -> (Result<BTreeMap<String, Vec<f32>>>, Vec<Warning>) {
    let told = RefCell::new(vec![]);
    let warn = |warning| told.borrow_mut().push(warning);
    let mut sink = Keep { unwanted, ..Keep::default() };
    let hooks = Hooks { warn: &warn, ..Hooks::NONE };
    let done =
        block_on(stream_file(&folder(&[("a/x.safetensors", file)]), "a/x.safetensors", &mut sink, hooks));
    (done.map(|_| sink.tensors), told.take())
}

fn single(value: f32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

#[test]
fn bytes_are_floats_of_8_bits() {
    let bytes: Vec<u16> =
        (0..=255u8).collect::<Vec<_>>().chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let mut floats = [0.0; 256];
    // Sign, exponent, mantissa, of the value's definition.
    let value = |byte: usize, mantissa: u32, bias: i32| {
        let (fraction, exponent) = (byte & ((1 << mantissa) - 1), (byte & 0x7f) >> mantissa);
        let (one, exponent) = if exponent == 0 { (0.0, 1) } else { (1.0, exponent as i32) };
        let magnitude = (one + fraction as f32 / (1 << mantissa) as f32) * 2f32.powi(exponent - bias);
        if byte & 0x80 == 0 { magnitude } else { -magnitude }
    };
    widen(&Dtype::F8E4m3, &bytes, &mut floats);
    for (byte, float) in floats.into_iter().enumerate() {
        let nan = byte & 0x7f == 0x7f;
        assert!(
            if nan { float.is_nan() } else { float.to_bits() == value(byte, 3, 7).to_bits() },
            "{byte:#x}: {float}"
        );
    }
    assert_eq!(floats[0x7e], 448.0);
    widen(&Dtype::F8E5m2, &bytes, &mut floats);
    for (byte, float) in floats.into_iter().enumerate() {
        let wanted = match byte & 0x7f {
            0x7c => f32::INFINITY.copysign(float),
            0x7d.. => f32::NAN,
            _ => value(byte, 2, 15),
        };
        assert!(
            float.to_bits() == wanted.to_bits() || float.is_nan() && wanted.is_nan(),
            "{byte:#x}: {float}"
        );
    }
    assert_eq!(floats[0x7b], 57344.0);
}

#[test]
fn numbers_of_any_type() {
    let file = typed(&[
        ("f64", "F64", &[2], [1.5f64, -1e-3].into_iter().flat_map(f64::to_le_bytes).collect()),
        ("i64", "I64", &[], (-3i64).to_le_bytes().to_vec()),
        ("i32", "I32", &[1], 16i32.to_le_bytes().to_vec()),
        ("i16", "I16", &[], 300i16.to_le_bytes().to_vec()),
        ("i8", "I8", &[1, 1], vec![0xff]),
        ("u8", "U8", &[], vec![0xff]),
        ("bool", "BOOL", &[], vec![1]),
        ("u16", "U16", &[], 65535u16.to_le_bytes().to_vec()),
        ("u32", "U32", &[], (1u32 << 31).to_le_bytes().to_vec()),
        ("u64", "U64", &[], (1u64 << 40).to_le_bytes().to_vec()),
    ]);
    let found = read(file, "").0.unwrap();
    let of = |name: &str| found[name].clone();
    assert_eq!([of("f64"), of("i64"), of("i32")].concat(), [1.5, -1e-3, -3.0, 16.0]);
    assert_eq!([of("i16"), of("i8"), of("u8"), of("bool")].concat(), [300.0, -1.0, 255.0, 1.0]);
    assert_eq!([of("u16"), of("u32"), of("u64")].concat(), [65535.0, 2f32.powi(31), 2f32.powi(40)]);
    for (dtype, size) in [("I64", 16), ("U8", 2), ("BOOL", 2), ("F8_E8M0", 2)] {
        let e = read(typed(&[("codes", dtype, &[2], vec![0; size])]), "").0.unwrap_err();
        assert_eq!(e.code, Unsupported);
        assert!(
            e.message.starts_with(&format!("a/x.safetensors: tensor 'codes' is {dtype} [2], supported")),
            "{e}"
        );
    }
}

/// 1, 2, -1, 0.5 of E4M3.
const CODES: [u8; 4] = [0x38, 0x40, 0xb8, 0x30];

#[test]
fn scales_stand_before_or_behind_their_weights() {
    let weight = |name| (name, "F8_E4M3", &[2, 2][..], CODES.to_vec());
    let far = vec![0; 1 << 18];
    for unwanted in ["b.scale_weight", "nothing"] {
        let file = typed(&[
            ("a.scale_weight", "F32", &[], single(3.0)),
            weight("a.weight"),
            weight("b.weight"),
            weight("plain.weight"),
            ("far.bias", "F32", &[1 << 16], far.clone()),
            ("b.scale_weight", "F32", &[1], single(0.5)),
            ("c.weight_scale", "F32", &[2, 1], [single(2.0), single(-1.0)].concat()),
            ("c.weight", "F8_E5M2", &[2, 2], vec![0x3c, 0x40, 0xbc, 0x38]),
            ("c.scale_input", "F32", &[], single(9.0)),
            ("scaled_fp8", "F8_E4M3", &[0], vec![]),
            ("half.weight", "F16", &[1, 1], vec![0, 0x3c]),
            ("half.scale_weight", "F32", &[], single(7.0)),
        ]);
        let (found, told) = read(file, unwanted);
        let found = found.unwrap();
        assert_eq!(found["a.weight"], [3.0, 6.0, -3.0, 1.5]);
        assert_eq!(found["b.weight"], [0.5, 1.0, -0.5, 0.25]);
        assert_eq!(found["c.weight"], [2.0, 4.0, 1.0, -0.5]);
        assert_eq!(found["plain.weight"], [1.0, 2.0, -1.0, 0.5]);
        // Only what has too few bits of its own is scaled, and the others' scales are said.
        assert_eq!(found["half.weight"], [1.0]);
        let [told] = &told[..] else { panic!("{told:?}") };
        assert_eq!(told.code.as_str(), "unused");
        let words = "a/x.safetensors: 1 of its scales are not used, the first is half.scale_weight";
        assert!(told.message.starts_with(words), "{told}");
    }
    let blocks = typed(&[
        ("a.weight", "F8_E4M3", &[2, 2], CODES.to_vec()),
        ("a.scale_weight", "F32", &[1, 2, 2], vec![0; 16]),
    ]);
    let e = read(blocks, "").0.unwrap_err();
    assert_eq!(e.code, Unsupported);
    let words = ["a/x.safetensors: 'a.scale_weight' is F32 [1, 2, 2]", "2 rows of 'a.weight'"];
    assert!(words.iter().all(|word| e.message.contains(word)), "{e}");
    let both = typed(&[
        ("a.weight", "F8_E4M3", &[2, 2], CODES.to_vec()),
        ("a.scale_weight", "F32", &[], single(2.0)),
        ("a.weight_scale", "F32", &[], single(3.0)),
    ]);
    let e = read(both, "").0.unwrap_err();
    let words = ["'a.weight' has two scales", "a.scale_weight and a.weight_scale"];
    assert!(e.code == InvalidModel && words.iter().all(|word| e.message.contains(word)), "{e}");
}

#[test]
fn scales_are_those_of_the_file_that_is_read() {
    /// Says something else of the scale when it is asked for it alone.
    struct Changes(MemoryFolder, Vec<u8>);
    #[async_trait(?Send)]
    impl Folder for Changes {
        async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
            self.0.open(path).await
        }
        async fn open_at(&self, _: &str, begin: u64, _: bool) -> Result<Option<OpenFile>> {
            let mut file = MemoryFile::new(self.1.clone());
            file.skip(begin).await?;
            Ok(Some(Box::new(file)))
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
    }
    let file = |scale| {
        typed(&[
            ("a.weight", "F8_E4M3", &[2, 2], CODES.to_vec()),
            ("a.scale_weight", "F32", &[], single(scale)),
        ])
    };
    for (other, same) in [(3.0, true), (2.0, false)] {
        let files = Changes(folder(&[("x.safetensors", file(3.0))]), file(other));
        let mut sink = Keep { unwanted: "a.scale_weight", ..Keep::default() };
        let done = block_on(stream_file(&files, "x.safetensors", &mut sink, Hooks::NONE));
        let Err(e) = done else {
            assert!(same);
            continue;
        };
        assert!(!same && e.code == Code::Integrity, "{e}");
        assert!(e.message.starts_with("x.safetensors: 'a.scale_weight': wanted the scale"), "{e}");
    }
}

#[test]
fn scales_and_weights_in_two_shards_are_refused() {
    let weight = typed(&[("a.weight", "F8_E4M3", &[2, 2], CODES.to_vec())]);
    for end in ["scale_weight", "weight_scale"] {
        let scale = typed(&[(&format!("a.{end}"), "F32", &[], single(3.0))]);
        for [one, two] in [["1.safetensors", "2.safetensors"], ["2.safetensors", "1.safetensors"]] {
            let index = format!(r#"{{"weight_map": {{"a.weight": "{one}", "a.{end}": "{two}"}}}}"#);
            let index = ("model.safetensors.index.json", index.into_bytes());
            let files = folder(&[index, (one, weight.clone()), (two, scale.clone())]);
            let e = block_on(stream(&files, "", "model", &mut Keep::default(), Hooks::NONE)).unwrap_err();
            assert_eq!(e.code, Unsupported, "{e}");
            let words = ["'a.weight'", &format!("'a.{end}'"), one, two];
            assert!(words.iter().all(|word| e.message.contains(word)), "{e}");
        }
    }
}

#[test]
fn what_is_not_finite_is_told_by_tensor() {
    let nan = f32::NAN;
    let file = |b: &[f32]| {
        floats(&[("a", &[2], &[1.0, 2.0]), ("b", &[3], b), ("c", &[2], &[f32::NEG_INFINITY, 0.0])])
    };
    let told = |file| read(file, "c").1.into_iter().map(|w| (w.code.as_str(), w.message)).collect::<Vec<_>>();
    assert_eq!(told(file(&[0.0; 3])), []);
    let one = "a/x.safetensors: 'b': wanted finite numbers, found 2 infinities or NaNs";
    assert_eq!(told(file(&[nan, 1.0, f32::INFINITY])), [("not-finite", one.to_owned())]);
    let both = "a/x.safetensors: 'b' and 1 others: wanted finite numbers, found 2 infinities or NaNs";
    let warnings = read(file(&[nan, 1.0, 1.0]), "").1;
    assert_eq!(warnings.into_iter().map(|w| w.message).collect::<Vec<_>>(), [both]);
    let e = read(file(&[nan, nan, f32::INFINITY]), "").0.unwrap_err();
    assert_eq!(e.code, Code::NotFinite);
    assert_eq!(e.message, "a/x.safetensors: 'b': wanted finite numbers, found none among its 3 values");
    // 448 times 1e38.
    let scaled = typed(&[
        ("w.weight", "F8_E4M3", &[2, 1], vec![0x7e, 0x38]),
        ("w.scale_weight", "F32", &[], single(1e38)),
    ]);
    let [warning] = &read(scaled, "").1[..] else { panic!("not told") };
    assert!(warning.message.contains("'w.weight'"), "{warning}");
}

/// In every format, wherever a piece of the blob begins.
#[test]
fn stored_values_that_are_not_finite_are_counted() {
    for format in Format::ALL {
        let m = Matrix { format, outputs: 8, inputs: 96, taps: 1 };
        let mut blob = vec![0; m.bytes()];
        for output in 0..8 {
            let mut row = vec![0.25; 96];
            match output {
                3 => row[40] = f32::NAN,
                6 => row[95] = f32::NEG_INFINITY,
                _ => {}
            }
            m.store_row(&mut blob, output, &row, |c| c, Scales::Chosen);
            m.store_bias(&mut blob, output, if output == 7 { f32::NAN } else { 0.0 });
        }
        let layout = Layout::Matrix(m);
        assert_eq!(count_stored(&layout, 0, &blob), 3, "{format:?}");
        for piece in [16, 48, 144, 208] {
            let pieces = blob.chunks(piece).enumerate();
            let counted: u64 = pieces.map(|(i, bytes)| count_stored(&layout, i * piece, bytes)).sum();
            assert_eq!(counted, 3, "{format:?} in pieces of {piece}");
        }
        // What is stored is told as well by what kernels compute with.
        assert!(m.dequantise(&blob).iter().filter(|v| !v.is_finite()).count() >= 2, "{format:?}");
    }
    let vectors = Layout::Vectors { bytes: 12 };
    assert_eq!(count_stored(&vectors, 0, &[single(1.0), single(f32::NAN), single(0.0)].concat()), 1);
    let table = Layout::Table { format: Format::F16, rows: 1, width: 3 };
    assert_eq!(count_stored(&table, 0, &[0, 0x7c, 0xff, 0x7b, 1, 0xfe]), 2);
}
