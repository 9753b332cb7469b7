//! Safetensors files: their headers, shards, LoRAs, textual inversion.

use std::sync::OnceLock;

use async_trait::async_trait;
use pollster::block_on;
use tintype::error::{Error, Result};
use tintype::model::config::UnetConfig;
use tintype::model::unet::Unet;
use tintype::quant::Format;
use tintype::weights::{
    Adapter, ByteStream, Columns, Declarations, Embedding, Folder, Hooks, Lora, MemoryFolder, Merge,
    OpenFile, Rows, Sink, TensorInfo, header, places, stream, stream_file, weight_and_bias,
};

use super::{folder, one};
use crate::mutate::Files;
use crate::tensors::file;

const FILE: &str = "x.safetensors";

/// A file of every type, with a row longer than others.
pub fn tensors() -> Vec<Files> {
    let header = br#"{"__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "b.weight": {"dtype": "F16", "shape": [2, 2, 3, 3], "data_offsets": [48, 120]},
        "c": {"dtype": "BF16", "shape": [], "data_offsets": [120, 122]},
        "d": {"dtype": "I64", "shape": [2], "data_offsets": [122, 138]},
        "e.weight": {"dtype": "F8_E4M3", "shape": [5], "data_offsets": [138, 143]},
        "e.scale_weight": {"dtype": "F32", "shape": [5], "data_offsets": [143, 163]},
        "f": {"dtype": "F32", "shape": [0, 7], "data_offsets": [163, 163]},
        "g": {"dtype": "F16", "shape": [1, 5000], "data_offsets": [163, 10163]}}"#;
    vec![
        Files::from([(FILE.to_owned(), file(header, &vec![0x3c; 10163]).into())]),
        one("extras/ip-adapter/ip-adapter.safetensors", FILE),
    ]
}

/// Checks what a sink is promised.
#[derive(Default)]
struct Promised {
    rows: usize,
}

impl Sink for Promised {
    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        Ok(info.dtype.size().is_some_and(|size| size < 8))
    }

    fn slab(&mut self, info: &TensorInfo, first_row: usize, rows: usize, data: &[f32]) -> Result<()> {
        self.rows = if first_row == 0 { 0 } else { self.rows };
        assert!(first_row == self.rows && rows > 0, "{}: rows from {first_row}", info.name);
        self.rows += rows;
        assert!(self.rows <= info.rows() && data.len() == rows * info.row_len(), "{}", info.name);
        Ok(())
    }
}

/// A folder whose files do not say how long they are, as a server's compressed answers.
struct Unmeasured(MemoryFolder);
struct Stream(OpenFile);

#[async_trait(?Send)]
impl Folder for Unmeasured {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        Ok(self.0.open(path).await?.map(|file| -> OpenFile { Box::new(Stream(file)) }))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[async_trait(?Send)]
impl ByteStream for Stream {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.0.read(buf).await
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

/// With and without a length that is known; a good file is good either way.
pub fn stream_all(files: &Files) -> Result<()> {
    let files = folder(files);
    let known = block_on(stream_file(&files, FILE, &mut Promised::default(), Hooks::NONE)).map(drop);
    let files = Unmeasured(files);
    let unknown = block_on(stream_file(&files, FILE, &mut Promised::default(), Hooks::NONE)).map(drop);
    assert!(known.is_err() || unknown.is_ok(), "{unknown:?} where the length is not known");
    places(&block_on(header(&files, FILE))?);
    known
}

pub fn shards() -> Vec<Files> {
    let shard = |name: &str| {
        let header = format!(r#"{{"{name}": {{"dtype": "F16", "shape": [2, 4], "data_offsets": [0, 16]}}}}"#);
        file(header.as_bytes(), &[0x3c; 16])
    };
    let index = br#"{"metadata": {"total_size": 32}, "weight_map": {"a": "1-of-2.safetensors", "b": "2-of-2.safetensors"}}"#;
    vec![Files::from([
        ("unet/model.safetensors.index.json".to_owned(), index.as_slice().into()),
        ("unet/1-of-2.safetensors".to_owned(), shard("a").into()),
        ("unet/2-of-2.safetensors".to_owned(), shard("b").into()),
    ])]
}

pub fn stream_shards(files: &Files) -> Result<()> {
    let mut sink = Promised::default();
    let progress = |read: u64, total: Option<u64>| assert!(total.is_none_or(|total| read <= total));
    let hooks = Hooks { progress: &progress, ..Hooks::NONE };
    let known = block_on(stream(&folder(files), "unet", "model", &mut sink, hooks)).map(drop);
    let unknown = block_on(stream(&Unmeasured(folder(files)), "unet", "model", &mut sink, hooks));
    assert!(known.is_err() || unknown.is_ok(), "{unknown:?} where the length is not known");
    known
}

pub fn loras() -> Vec<Files> {
    let own = ["pytorch_lora_weights", "peft_names"].map(|name| format!("extras/lora/{name}.safetensors"));
    let kinds = ["locon_core", "loha_core", "lokr_both", "lokr_core", "dora_inputs", "norms", "peft_dora"];
    let kinds = kinds.map(|name| format!("../adapters/{name}.safetensors"));
    own.iter().chain(&kinds).map(|path| one(path, FILE)).collect()
}

/// The U-Net that the LoRAs are for, and the layers of those of other kinds.
fn declared() -> &'static Declarations {
    static DECLARED: OnceLock<Declarations> = OnceLock::new();
    DECLARED.get_or_init(|| {
        let json = one("sd15-like/unet/config.json", FILE);
        let config = UnetConfig::from_json(&json[FILE], "unet/config.json").unwrap();
        let mut declarations = Declarations::new(Format::F32);
        Unet::declare(&mut declarations, &config);
        for (name, shape) in [("proj", &[8, 12][..]), ("square", &[12, 12]), ("conv", &[12, 8, 3, 3])] {
            let parts = weight_and_bias(
                &format!("mid_block.{name}"),
                shape.to_vec(),
                true,
                Rows::From(0),
                Columns::Same,
            );
            declarations.matrix(
                shape[0] as u32,
                shape[1] as u32,
                shape[2..].iter().product::<usize>() as u32,
                parts,
            );
        }
        declarations.norm("mid_block.norm", 12);
        declarations
    })
}

pub fn merge_lora(files: &Files) -> Result<()> {
    let lora = block_on(Lora::read(&folder(files), FILE, Hooks::NONE))?;
    lora.check_components(&["unet", "text_encoder"])?;
    let mut merge = Merge::new(declared(), 0, "unet", &[Adapter { lora: &lora, scale: 0.5 }])?;
    let touched: Vec<_> = merge.handles().collect();
    for (handle, spec) in declared().handles().filter(|(handle, _)| touched.contains(handle)) {
        for (part, wanted) in spec.parts.iter().enumerate() {
            let row_len: usize = wanted.shape[1..].iter().product();
            let rows = vec![0.0; wanted.shape[0] * row_len];
            let mut left = rows.len();
            merge.slab((handle.0 as usize, part), 0, row_len, &rows, &mut |_, rows| {
                left -= rows.len();
                Ok(())
            })?;
            assert_eq!(left, 0, "rows of {}", wanted.names[0]);
        }
    }
    Ok(())
}

pub fn embeddings() -> Vec<Files> {
    let header = br#"{"<a>": {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}}"#;
    vec![Files::from([(FILE.to_owned(), file(header, &[0x3c; 64]).into())])]
}

/// For a model of one text encoder or of two.
pub fn read_embedding(files: &Files) -> Result<()> {
    let files = folder(files);
    let read = |widths: &[usize]| block_on(Embedding::read(&files, FILE, widths, Hooks::NONE));
    let check = |all: Vec<Embedding>, widths: &[usize]| {
        let even =
            |one: &Embedding| one.vectors.iter().zip(widths).all(|(v, width)| v.len() == one.count * width);
        let even = all.iter().all(even);
        if even { Ok(()) } else { Err(Error::new(tintype::error::Code::Internal, "uneven vectors")) }
    };
    let _ = read(&[8, 12]).and_then(|all| check(all, &[8, 12]));
    check(read(&[8])?, &[8])
}
