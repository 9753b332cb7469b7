//! Files made in memory, good ones and damaged ones.

mod files;
mod lora;
mod merge;
mod names;
mod split;
mod types;

use std::cell::Cell;
use std::collections::BTreeMap;

use async_trait::async_trait;
use pollster::block_on;

use super::*;
use crate::error::Code::{self, Cancelled, InvalidModel, Unsupported};
use crate::error::{Error, Result};
use crate::quant::floats;

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// A file with this header and data.
fn raw(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

/// A file with F32 tensors, one after the other.
fn floats(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let end = data.len();
        entries.push(format!(
            r#""{name}": {{"dtype": "F32", "shape": {shape:?}, "data_offsets": [{begin}, {end}]}}"#
        ));
    }
    raw(&format!("{{{}}}", entries.join(", ")), &data)
}

fn folder(files: &[(&str, Vec<u8>)]) -> MemoryFolder {
    let mut folder = MemoryFolder::new();
    for (path, bytes) in files {
        folder.insert(*path, bytes.clone());
    }
    folder
}

/// Keeps what comes, and checks that slabs follow each other.
#[derive(Default)]
struct Keep {
    unwanted: &'static str,
    tensors: BTreeMap<String, Vec<f32>>,
    /// First row and rows of each slab.
    slabs: Vec<(usize, usize)>,
    order: Vec<String>,
}

impl Sink for Keep {
    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        match info.name.as_str() {
            "refused" => Err(Error::model("tensor 'refused' has a wrong shape")),
            name => Ok(name != self.unwanted),
        }
    }

    fn slab(&mut self, info: &TensorInfo, first_row: usize, rows: usize, data: &[f32]) -> Result<()> {
        assert_eq!(data.len(), rows * info.row_len());
        let tensor = self.tensors.entry(info.name.clone()).or_insert_with(|| {
            self.order.push(info.name.clone());
            Vec::new()
        });
        assert_eq!(tensor.len(), first_row * info.row_len());
        tensor.extend(data);
        self.slabs.push((first_row, rows));
        Ok(())
    }
}

fn unet(folder: &dyn Folder, sink: &mut Keep) -> Result<Streamed> {
    block_on(stream(folder, "unet", "diffusion_pytorch_model", sink, Hooks::NONE))
}

/// The error of reading a single file of these bytes, which must name the file and these words.
fn refused(bytes: Vec<u8>, code: Code, words: &[&str]) {
    let e = unet(&folder(&[(UNET, bytes)]), &mut Keep::default()).unwrap_err();
    assert_eq!(e.code, code, "{e}");
    for word in words.iter().chain(&[UNET]) {
        assert!(e.message.contains(word), "{word} is missing: {e}");
    }
}

/// Gives at most 3 bytes at a time, and no length.
struct Trickle(MemoryFolder);
struct Drops(OpenFile);

#[async_trait(?Send)]
impl Folder for Trickle {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        Ok(self.0.open(path).await?.map(|file| -> OpenFile { Box::new(Drops(file)) }))
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[async_trait(?Send)]
impl ByteStream for Drops {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let most = buf.len().min(3);
        self.0.read(&mut buf[..most]).await
    }
    fn len(&self) -> Option<u64> {
        None
    }
}

#[test]
fn header_is_in_file_order() {
    let json = r#"{"__metadata__": {"format": "pt"},
        "b": {"dtype": "F16", "shape": [2, 3], "data_offsets": [4, 16]},
        "empty": {"dtype": "F32", "shape": [0, 7], "data_offsets": [4, 4]},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "c": {"dtype": "F4", "shape": [5], "data_offsets": [16, 19]}}   "#;
    let header = Header::parse(json.as_bytes(), Some(19), "x").unwrap();
    let names: Vec<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "empty", "b", "c"]);
    assert_eq!((header.tensors[0].rows(), header.tensors[0].row_len()), (1, 1));
    assert_eq!((header.tensors[2].rows(), header.tensors[2].row_len()), (2, 3));
    assert_eq!(header.tensors[3].dtype, Dtype::Other("F4".into()));
    assert_eq!(header.metadata["format"], "pt");
    assert_eq!(header.data_len(), 19);
}

#[test]
fn damaged_headers_are_refused() {
    let entry = |name: &str, shape: &str, begin: u64, end: u64| {
        format!(r#""{name}": {{"dtype": "F32", "shape": {shape}, "data_offsets": [{begin}, {end}]}}"#)
    };
    let cases: [(String, &[&str]); 18] = [
        ("{".into(), &["JSON"]),
        ("[]".into(), &["JSON", "an entry for each tensor"]),
        (r#"{"a": 3}"#.into(), &["'a'", "dtype", "nothing"]),
        (r#"{"a": {"dtype": "F32", "shape": [1]}}"#.into(), &["'a'", "data_offsets", "nothing"]),
        (format!("{{{}}}", entry("a", "[-1]", 0, 4)), &["'a'", "shape", "-1"]),
        (format!("{{{}}}", entry("a", "[1]", 4, 0)), &["'a'", "[4,0]"]),
        (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}"#.into(), &["'a'", "[0]"]),
        (format!("{{{}}}", entry("a", "[3]", 0, 8)), &["'a'", "[3]", "12", "8"]),
        (
            r#"{"a": {"dtype": "F16", "shape": [3], "data_offsets": [0, 8]}}"#.into(),
            &["'a'", "F16", "6", "8"],
        ),
        (format!("{{{}}}", entry("a", "[4294967296, 4294967296]", 0, 0)), &["'a'", "4294967296"]),
        (format!("{{{}}}", entry("a", "[4611686018427387904]", 0, 0)), &["'a'", "46116860184"]),
        (format!("{{{}}}", entry("a", "[1]", 4, 8)), &["'a'", "hole", "the header"]),
        (format!("{{{}, {}}}", entry("a", "[1]", 0, 4), entry("b", "[1]", 5, 9)), &["'b'", "hole", "'a'"]),
        (format!("{{{}, {}}}", entry("a", "[1]", 0, 4), entry("b", "[1]", 3, 7)), &["'b'", "overlap", "'a'"]),
        (format!("{{{}, {}}}", entry("a", "[1]", 0, 4), entry("b", "[1]", 0, 4)), &["'b'", "overlap", "'a'"]),
        (format!("{{{}, {}}}", entry("a", "[1]", 0, 4), entry("a", "[1]", 4, 8)), &["'a' twice"]),
        (format!("{{{}}}", entry("a", "[3]", 0, 12)), &["'a'", "truncated", "0..12", "8"]),
        (format!("{{{}}}", entry("a", "[1]", 0, 4)), &["8 bytes of data", "4"]),
    ];
    for (json, words) in cases {
        refused(raw(&json, &[0; 8]), InvalidModel, words);
    }
}

#[test]
fn headers_of_a_wrong_length_are_refused() {
    refused(vec![1, 2, 3], InvalidModel, &["3 bytes"]);
    refused(raw("{}", &[])[..9].to_vec(), InvalidModel, &["truncated", "2", "9"]);
    refused(b"<!DOCTYPE html>".to_vec(), InvalidModel, &["hardly a safetensors file"]);
    let barely = [&(MAX_HEADER_BYTES + 1).to_le_bytes()[..], b"{}"].concat();
    refused(barely, InvalidModel, &["67108865", "67108864"]);
    let trickle = Trickle(folder(&[(UNET, raw("{}   ", &[])[..11].to_vec())]));
    let e = unet(&trickle, &mut Keep::default()).unwrap_err();
    assert_eq!(e.code, InvalidModel);
    assert!(e.message.contains("header has 5 bytes, the file only 11"), "{e}");
}

#[test]
fn early_end_without_a_length_names_the_tensor() {
    let mut bytes = floats(&[("a", &[2], &[1.0, 2.0]), ("b", &[2], &[3.0, 4.0])]);
    bytes.pop();
    for unwanted in ["", "b"] {
        let mut sink = Keep { unwanted, ..Keep::default() };
        let e = unet(&Trickle(folder(&[(UNET, bytes.clone())])), &mut sink).unwrap_err();
        assert_eq!(e.code, InvalidModel);
        assert!(e.message.contains(UNET) && e.message.contains("inside tensor 'b'"), "{e}");
        assert_eq!(sink.tensors.keys().collect::<Vec<_>>(), ["a"]);
    }
}

#[test]
fn element_types() {
    let json = r#"{"ids": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "new": {"dtype": "F8_E8M0", "shape": [3], "data_offsets": [16, 19]},
        "bf": {"dtype": "BF16", "shape": [2], "data_offsets": [19, 23]},
        "h": {"dtype": "F16", "shape": [2], "data_offsets": [23, 27]},
        "f": {"dtype": "F32", "shape": [1], "data_offsets": [27, 31]}}"#;
    // 1.5 and -infinity; 2^-24, the smallest half, and 1; a third.
    let mut data = vec![7; 19];
    data.extend([0xc0, 0x3f, 0x80, 0xff, 0x01, 0x00, 0x00, 0x3c]);
    data.extend((1.0f32 / 3.0).to_le_bytes());

    struct Floats(Keep, &'static str);
    impl Sink for Floats {
        fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
            Ok(["bf", "h", "f", self.1].contains(&info.name.as_str()))
        }
        fn slab(&mut self, info: &TensorInfo, first: usize, rows: usize, data: &[f32]) -> Result<()> {
            self.0.slab(info, first, rows, data)
        }
    }
    let files = folder(&[("lora.safetensors", raw(json, &data))]);
    let read = |sink: &mut Floats| block_on(stream_file(&files, "lora.safetensors", sink, Hooks::NONE));
    let mut sink = Floats(Keep::default(), "");
    let done = read(&mut sink).unwrap();
    assert_eq!(done, Streamed { files: vec!["lora.safetensors".into()], non_finite: 1 });
    assert_eq!(sink.0.tensors["bf"], [1.5, f32::NEG_INFINITY]);
    assert_eq!(sink.0.tensors["h"], [2f32.powi(-24), 1.0]);
    assert_eq!(sink.0.tensors["f"], [1.0 / 3.0]);
    for (name, dtype) in [("ids", "I64"), ("new", "F8_E8M0")] {
        let mut sink = Floats(Keep::default(), name);
        let e = read(&mut sink).unwrap_err();
        assert_eq!(e.code, Unsupported);
        assert!(["lora.safetensors", name, dtype, "BF16"].iter().all(|w| e.message.contains(w)), "{e}");
        assert!(sink.0.slabs.is_empty(), "refused before any data");
    }
}

#[test]
fn all_halves_convert() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let mut floats = vec![f32::NAN; halves.len()];
    floats::from_f16(bytemuck::cast_slice(&halves), &mut floats);
    for (&h, f) in halves.iter().zip(&floats) {
        let wanted = half::f16::from_bits(h).to_f32();
        assert!(f.to_bits() == wanted.to_bits() || f.is_nan() && wanted.is_nan(), "{h:#x}: {f} {wanted}");
    }
    floats::from_bf16(bytemuck::cast_slice(&halves), &mut floats);
    for (&h, f) in halves.iter().zip(&floats) {
        let wanted = half::bf16::from_bits(h).to_f32();
        assert!(f.to_bits() == wanted.to_bits() || f.is_nan() && wanted.is_nan(), "{h:#x}: {f} {wanted}");
    }
}

#[test]
fn slabs_cover_every_element_once() {
    // SLAB_BYTES hold 2^21 elements. Each case: shape, and the rows of its slabs.
    let cases: [(&[usize], &[usize]); 10] = [
        (&[], &[1]),
        (&[1], &[1]),
        (&[7], &[7]),
        (&[13, 5, 3], &[13]),
        (&[0], &[]),
        (&[3, 0, 2], &[]),
        (&[5000, 1001], &[2088, 2088, 824]),
        (&[(1 << 21) + 3], &[1 << 21, 3]),
        (&[19, 400_000], &[8, 8, 3]),
        (&[3, (1 << 21) + 1], &[1, 1, 1]),
    ];
    for (shape, wanted) in cases {
        let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        let after: (&str, &[usize], &[f32]) = ("after", &[1], &[-1.0]);
        let files = folder(&[(UNET, floats(&[("x", shape, &values), after]))]);
        let mut sink = Keep::default();
        unet(&files, &mut sink).unwrap();
        assert!(sink.tensors.remove("x").unwrap_or_default() == values, "{shape:?}");
        assert_eq!(sink.tensors["after"], [-1.0], "{shape:?}");
        let rows: Vec<usize> = sink.slabs.iter().map(|s| s.1).collect();
        assert_eq!(rows[..rows.len() - 1], *wanted, "{shape:?}");
    }
}

#[test]
fn short_reads_and_unwanted_tensors() {
    let bytes =
        floats(&[("a", &[2], &[1.0, 2.0]), ("skip", &[300_000], &[9.0; 300_000]), ("b", &[1, 1], &[3.0])]);
    let mut sink = Keep { unwanted: "skip", ..Keep::default() };
    // More is skipped than one piece, which is a MiB.
    unet(&Trickle(folder(&[(UNET, bytes)])), &mut sink).unwrap();
    assert_eq!(sink.tensors, BTreeMap::from([("a".into(), vec![1.0, 2.0]), ("b".into(), vec![3.0])]));
}

#[test]
fn a_refusal_of_the_sink_names_the_file_and_comes_before_data() {
    let mut sink = Keep::default();
    let bytes = floats(&[("a", &[1], &[1.0]), ("refused", &[1], &[1.0])]);
    let e = unet(&folder(&[(UNET, bytes)]), &mut sink).unwrap_err();
    assert_eq!(e.code, InvalidModel);
    assert_eq!(e.message, format!("{UNET}: tensor 'refused' has a wrong shape"));
    assert!(sink.slabs.is_empty());
}

#[test]
fn cancel_ends_the_reading_between_slabs() {
    let rows = vec![0.5; 20 * 400_000];
    let files = folder(&[(UNET, floats(&[("x", &[20, 400_000], &rows)]))]);
    let read = |polls: usize| {
        let (asked, seen) = (Cell::new(0), Cell::new(0));
        let cancelled = || asked.replace(asked.get() + 1) >= polls;
        let progress = |read, total| {
            assert_eq!(total, Some(20 * 400_000 * 4));
            seen.set(read);
        };
        let mut sink = Keep::default();
        let hooks = Hooks { progress: &progress, cancelled: &cancelled, ..Hooks::NONE };
        let done = block_on(stream_file(&files, UNET, &mut sink, hooks));
        (done.map_err(|e| e.code), seen.get(), sink.slabs.len(), asked.get())
    };
    // A slab of 8 rows is 12.8 MB: 13 pieces of a MiB.
    assert_eq!(read(0), (Err(Cancelled), 0, 0, 1));
    assert_eq!(read(3), (Err(Cancelled), 2 << 20, 0, 4));
    assert_eq!(read(20), (Err(Cancelled), 12_800_000 + (6 << 20), 1, 21));
    assert_eq!(read(1000).0.unwrap().files, [UNET]);
}
