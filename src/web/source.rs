//! Where the files of a generator are: folders and files that www/source.ts reads.

use async_trait::async_trait;
use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use super::request::{Options, described};
use crate::error::{Code, Error, Result};
use crate::pipeline::{Additions, FileIn, ModelFiles};
use crate::weights::{ByteStream, Folder, Keep, OpenFile, Recorded};

/// What a generator was made of.
pub(super) struct Sources {
    pub model: Place,
    single_file: Vec<File>,
    loras: Vec<File>,
    embeddings: Vec<File>,
    controls: Vec<File>,
    adapters: Vec<File>,
    ip_adapter: Vec<File>,
    safety_checker: Vec<File>,
}

impl Sources {
    pub fn new(model: Place, options: &Options) -> Result<Sources> {
        let files = |key| files(options, key);
        Ok(Sources {
            model,
            single_file: files("singleFile")?,
            loras: files("loras")?,
            embeddings: files("embeddings")?,
            controls: files("controls")?,
            adapters: files("adapters")?,
            ip_adapter: files("ipAdapter")?,
            safety_checker: files("safetyChecker")?,
        })
    }

    pub fn additions(&self) -> Additions<'_> {
        Additions {
            single_file: self.single_file.first().map(File::place),
            loras: self.loras.iter().map(|file| (file.place(), file.scale)).collect(),
            embeddings: self.embeddings.iter().map(File::place).collect(),
            controls: self.controls.iter().map(File::place).collect(),
            adapters: self.adapters.iter().map(File::place).collect(),
            ip_adapter: self.ip_adapter.first().map(File::place),
            safety_checker: self.safety_checker.first().map(|file| -> &dyn Folder { &file.source }),
        }
    }
}

/// A file beside the model, or a folder and no path.
struct File {
    source: Place,
    path: String,
    scale: f32,
}

impl File {
    fn place(&self) -> FileIn<'_> {
        FileIn { folder: &self.source, path: &self.path }
    }
}

/// Files that the worker made of addresses: where they are, and how strongly each counts.
fn files(options: &Options, key: &str) -> Result<Vec<File>> {
    let file = |object: Options| {
        Ok(File {
            source: place(object.get("source").unwrap_or_default().unchecked_into()),
            path: object.text("path")?.unwrap_or_default(),
            scale: object.number("scale")?.unwrap_or(1.0) as f32,
        })
    };
    options.objects(key)?.into_iter().map(file).collect()
}

/// A folder, and what is kept of it; or a single file as one.
pub type Place = Recorded<ModelFiles<Source>>;

pub(super) fn place(folder: Source) -> Place {
    Recorded::new(ModelFiles::folder(folder), None)
}

/// The model's own files: those of the folder, or what the file `single` stands for and the components that are `given`.
pub(super) async fn model(folder: Source, options: &Options) -> Result<ModelFiles<Source>> {
    let Some(path) = options.text("single")? else { return Ok(ModelFiles::folder(folder)) };
    let given = options.get("given").map(|names| Array::from(&names).to_vec()).unwrap_or_default();
    let given = given.iter().filter_map(JsValue::as_string).collect();
    let vocabulary = options.get("vocabulary").map(|bytes| Uint8Array::new(&bytes).to_vec().into());
    ModelFiles::single(folder, &path, given, vocabulary).await
}

#[wasm_bindgen]
extern "C" {
    /// Where a pack is written: class `Keeper` of www/keeper.ts.
    pub type Keeper;
    #[wasm_bindgen(method, catch)]
    fn begin(this: &Keeper, path: &str, bytes: f64) -> std::result::Result<(), JsValue>;
    /// Memory of its own for the next bytes.
    #[wasm_bindgen(method)]
    fn slab(this: &Keeper, length: u32) -> Uint8Array;
    #[wasm_bindgen(method, catch)]
    fn write(this: &Keeper, path: &str, at: f64, bytes: &Uint8Array) -> std::result::Result<(), JsValue>;
    /// What was written so far.
    #[wasm_bindgen(method, getter)]
    pub fn folder(this: &Keeper) -> Source;
}

impl Keep for Keeper {
    fn begin(&self, path: &str, bytes: u64) -> Result<()> {
        self.begin(path, bytes as f64).map_err(failed)
    }

    fn write(&self, path: &str, at: u64, bytes: &[u8]) -> Result<()> {
        let slab = self.slab(bytes.len() as u32);
        slab.copy_from(bytes);
        self.write(path, at as f64, &slab).map_err(failed)
    }

    fn end(&self, _path: &str) -> Result<()> {
        Ok(())
    }
}

#[wasm_bindgen]
extern "C" {
    /// A model folder: class `Source` of www/source.ts.
    pub type Source;
    #[wasm_bindgen(method, js_name = describe)]
    fn name(this: &Source) -> String;
    #[wasm_bindgen(method, catch, js_name = open)]
    async fn open_file(
        this: &Source,
        path: &str,
        begin: f64,
        fresh: bool,
    ) -> std::result::Result<JsValue, JsValue>;
    #[wasm_bindgen(method, js_name = sha256)]
    fn hash(this: &Source, path: &str) -> Option<String>;
    #[wasm_bindgen(method, js_name = hashed)]
    fn was_hashed(this: &Source, path: &str, sha256: &str);

    type SourceFile;
    #[wasm_bindgen(method, getter)]
    fn length(this: &SourceFile) -> Option<f64>;
    #[wasm_bindgen(method, catch)]
    async fn read(this: &SourceFile, most: u32) -> std::result::Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch, js_name = skip)]
    async fn leave_out(this: &SourceFile, bytes: f64) -> std::result::Result<JsValue, JsValue>;
    #[wasm_bindgen(method)]
    fn close(this: &SourceFile);
}

/// What www/source.ts throws has a code and a message for people already. What a browser throws has neither, and comes
/// from where the bytes are.
pub(super) fn failed(error: JsValue) -> Error {
    let text = |key: &str| Reflect::get(&error, &key.into()).ok().and_then(|value| value.as_string());
    let code = text("code").and_then(|word| Code::parse(&word)).unwrap_or(Code::Network);
    Error::new(code, text("message").unwrap_or_else(|| described(&error)))
}

#[async_trait(?Send)]
impl Folder for Source {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        self.open_at(path, 0, false).await
    }

    async fn open_at(&self, path: &str, begin: u64, fresh: bool) -> Result<Option<OpenFile>> {
        let file = self.open_file(path, begin as f64, fresh).await.map_err(failed)?;
        if file.is_null() {
            return Ok(None);
        }
        Ok(Some(Box::new(Download(file.unchecked_into()))))
    }

    fn sha256(&self, path: &str) -> Option<String> {
        self.hash(path)
    }

    fn hashed(&self, path: &str, sha256: &str) {
        self.was_hashed(path, sha256);
    }

    fn describe(&self) -> String {
        self.name()
    }
}

/// A file while it is downloaded.
pub struct Download(SourceFile);

#[async_trait(?Send)]
impl ByteStream for Download {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let most = u32::try_from(buf.len()).unwrap_or(u32::MAX);
        let bytes: Uint8Array = self.0.read(most).await.map_err(failed)?.unchecked_into();
        let got = bytes.length() as usize;
        bytes.copy_to(&mut buf[..got]);
        Ok(got)
    }

    fn len(&self) -> Option<u64> {
        self.0.length().map(|bytes| bytes as u64)
    }

    async fn skip(&mut self, bytes: u64) -> Result<()> {
        self.0.leave_out(bytes as f64).await.map_err(failed)?;
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.0.close();
    }
}
