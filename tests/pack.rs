//! A pack draws what its model draws, bit for bit, and nothing of it is used that is damaged.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pollster::block_on;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tintype::device::Device;
use tintype::error::{Code, Error, Result};
use tintype::host::Cancel;
use tintype::pipeline::{LoadOptions, Pipeline, Request, Watch};
use tintype::weights::{ByteStream, CHUNK_BYTES, DiskFolder, Folder, Hooks, MANIFEST, Manifest, OpenFile};

use crate::cli::{failure, tintype};
use crate::models::folder::{Temp, golden, here};

const UNET: &str = "unet/tintype.safetensors";

fn pack(model: &Path, weights: &str) -> (Temp, PathBuf) {
    let temp = Temp::new();
    let out = temp.path("pack");
    let done = tintype(&["pack", "--weights", weights, "--license", "mit", "--model"])
        .arg(model)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    (temp, out)
}

fn load(folder: &dyn Folder, weights: &str) -> Result<Pipeline> {
    let options = LoadOptions::parse(weights, "auto")?;
    block_on(Pipeline::load(&Device::Cpu, folder, &options, Hooks::NONE))
}

fn draw(pipeline: &Pipeline) -> Vec<u8> {
    let watch = Watch { cancel: Cancel::default(), progress: &|_, _| {}, preview: None, dump: None };
    let request = Request { steps: Some(1), ..Request::new("a red circle on blue", 5) };
    block_on(pipeline.generate(&request, &watch)).unwrap().images.remove(0).rgba
}

fn refused(folder: &dyn Folder) -> Error {
    load(folder, "q8").err().expect("a pack that is refused")
}

#[test]
fn the_same_picture_bit_for_bit() {
    let models = [here("models/builtin"), golden("sd-turbo-like"), golden("sdxs-like"), golden("sdxl-like")];
    for model in models {
        for weights in ["f32", "f16", "q8", "q4"] {
            let (_temp, out) = pack(&model, weights);
            let wanted = draw(&load(&DiskFolder::new(&model), weights).unwrap());
            // What is stored decides, whatever is asked for.
            let found = draw(&load(&DiskFolder::new(&out), "f32").unwrap());
            assert!(wanted == found, "{} as {weights}", model.display());
        }
    }
}

#[test]
fn the_manifest_tells_what_it_is() {
    let (_temp, out) = pack(&golden("sd-turbo-like"), "q4");
    let manifest = block_on(Manifest::of(&DiskFolder::new(&out))).unwrap().unwrap();
    assert_eq!(Manifest::parse(manifest.to_json().as_bytes()).unwrap(), manifest);
    assert_eq!(manifest.license.as_deref(), Some("mit"));
    assert_eq!((manifest.weights.as_str(), manifest.decoder.as_str()), ("q4", "q8"));
    for (path, listed) in &manifest.files {
        assert_eq!(fs::metadata(out.join(path)).unwrap().len(), listed.bytes, "{path}");
    }
    let weights = manifest.files.keys().filter(|path| path.ends_with(".safetensors")).count();
    assert!(
        weights == 3 && manifest.files.contains_key("tokenizer/vocab.json"),
        "{:?}",
        manifest.files.keys()
    );
}

/// A folder one of whose files has a wrong bit, in every answer or in all but fresh ones.
struct Flipped {
    folder: DiskFolder,
    path: &'static str,
    /// The byte that is wrong.
    byte: u64,
    always: bool,
    /// Bytes from which the file was opened freshly.
    fresh: Cell<Option<u64>>,
}

struct File {
    file: OpenFile,
    at: u64,
    wrong: Option<u64>,
}

#[async_trait(?Send)]
impl Folder for Flipped {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        self.open_at(path, 0, false).await
    }

    async fn open_at(&self, path: &str, begin: u64, fresh: bool) -> Result<Option<OpenFile>> {
        if fresh {
            self.fresh.set(Some(begin));
        }
        let wrong = (path == self.path && (self.always || !fresh)).then_some(self.byte);
        let file = self.folder.open_at(path, begin, fresh).await?;
        Ok(file.map(|file| -> OpenFile { Box::new(File { file, at: begin, wrong }) }))
    }

    fn describe(&self) -> String {
        self.folder.describe()
    }
}

#[async_trait(?Send)]
impl ByteStream for File {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let got = self.file.read(buf).await?;
        if let Some(wrong) = self.wrong.filter(|byte| (self.at..self.at + got as u64).contains(byte)) {
            buf[(wrong - self.at) as usize] ^= 4;
        }
        self.at += got as u64;
        Ok(got)
    }

    fn len(&self) -> Option<u64> {
        self.file.len()
    }
}

#[test]
fn a_damaged_chunk_is_fetched_once_more() {
    let (_temp, out) = pack(&here("models/builtin"), "f32");
    let wanted = draw(&load(&DiskFolder::new(&out), "f32").unwrap());
    let bytes = fs::metadata(out.join(UNET)).unwrap().len();
    let chunks = bytes.div_ceil(CHUNK_BYTES as u64);
    assert!(chunks > 2, "{chunks} chunks");
    for byte in [0, 9, CHUNK_BYTES as u64, 2 * CHUNK_BYTES as u64 + 12345, bytes - 1] {
        let chunk = byte / CHUNK_BYTES as u64;
        let flipped = |always| Flipped {
            folder: DiskFolder::new(&out),
            path: UNET,
            byte,
            always,
            fresh: Cell::new(None),
        };
        let once = flipped(false);
        assert!(draw(&load(&once, "f32").unwrap()) == wanted);
        assert_eq!(once.fresh.get(), Some(chunk * CHUNK_BYTES as u64));
        let e = refused(&flipped(true));
        let named = format!("{UNET}: chunk {chunk} of {chunks} is damaged");
        assert!(e.code == Code::Integrity && e.message.contains(&named), "{e}");
    }
}

#[test]
fn damaged_packs_are_refused() {
    let (_temp, whole) = pack(&golden("sdxs-like"), "q8");
    let damaged = |damage: &dyn Fn(&Path)| {
        let temp = Temp::copy_of(&whole);
        damage(&temp.0);
        refused(&DiskFolder::new(&temp.0))
    };
    let edit = |change: &dyn Fn(&mut Value)| {
        damaged(&|pack: &Path| {
            let mut json = serde_json::from_slice(&fs::read(pack.join(MANIFEST)).unwrap()).unwrap();
            change(&mut json);
            fs::write(pack.join(MANIFEST), json.to_string()).unwrap();
        })
    };
    let cut = |path: &'static str| {
        damaged(&|pack: &Path| {
            let bytes = fs::read(pack.join(path)).unwrap();
            fs::write(pack.join(path), &bytes[..bytes.len() / 2]).unwrap();
        })
    };
    let swap = |path: &'static str| {
        damaged(&|pack: &Path| {
            let mut bytes = fs::read(pack.join(path)).unwrap();
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
            fs::write(pack.join(path), bytes).unwrap();
        })
    };
    let listed = |path: &'static str| {
        edit(&move |json| json["files"][path] = json["files"]["unet/config.json"].clone())
    };
    let cases = [
        (cut(UNET), Code::Integrity, "chunk 0 of 1"),
        (cut("unet/config.json"), Code::Integrity, "unet/config.json is damaged"),
        // As long as before.
        (swap("unet/config.json"), Code::Integrity, "unet/config.json is damaged"),
        (swap("tokenizer/merges.txt"), Code::Integrity, "tokenizer/merges.txt is damaged"),
        (damaged(&|pack| fs::remove_file(pack.join(UNET)).unwrap()), Code::NotFound, UNET),
        (
            damaged(&|pack| fs::remove_file(pack.join("tokenizer/vocab.json")).unwrap()),
            Code::NotFound,
            "vocab.json",
        ),
        (cut(MANIFEST), Code::InvalidModel, "not valid JSON"),
        (edit(&|json| json["format"] = json!(2)), Code::Unsupported, "format 2, wanted 1"),
        (edit(&|json| json["recipe"]["weights"] = json!("q3")), Code::InvalidModel, "found \"q3\""),
        (edit(&|json| json["recipe"]["weights"] = json!("f16")), Code::InvalidModel, "wanted f16"),
        (edit(&|json| json["chunk"] = json!(1)), Code::InvalidModel, "chunk: wanted 8388608"),
        (edit(&|json| json["files"][UNET]["sha256"] = json!([])), Code::InvalidModel, UNET),
        (listed("../a"), Code::InvalidModel, "inside the pack"),
        (listed("unet/../../a"), Code::InvalidModel, "inside the pack"),
        (listed("/a"), Code::InvalidModel, "inside the pack"),
        // What another system takes for a separator or a drive.
        (listed("..\\a"), Code::InvalidModel, "inside the pack"),
        (listed("unet\\config.json"), Code::InvalidModel, "inside the pack"),
        (listed("c:a"), Code::InvalidModel, "inside the pack"),
        (edit(&|json| drop(json["files"].as_object_mut().unwrap().remove(UNET))), Code::InvalidModel, UNET),
    ];
    for (e, code, words) in cases {
        assert!(e.code == code && e.message.contains(words), "wanted {words}: {e}");
    }
    // What was interrupted has no manifest, and is no model either.
    let e = damaged(&|pack| fs::remove_file(pack.join(MANIFEST)).unwrap());
    assert!(e.code == Code::NotFound && e.message.contains(MANIFEST), "{e}");
}

#[test]
fn mistakes_of_the_command() {
    let (_temp, out) = pack(&golden("sdxs-like"), "q8");
    let (out, model) = (out.to_str().unwrap().to_owned(), golden("sdxs-like"));
    let said = failure(&["pack", "--model", model.to_str().unwrap(), "--weights", "q8", "--out", &out]);
    assert!(
        said.contains("--out: wanted a new or an empty folder") && said.contains("in which there is"),
        "{said}"
    );
    let temp = Temp::new();
    let new = temp.path("new");
    let said = failure(&["pack", "--model", &out, "--weights", "q8", "--out", new.to_str().unwrap()]);
    assert!(said.contains("--model") && said.contains("is a pack"), "{said}");
    let said = failure(&["pack", "--model", "nowhere", "--weights", "q8", "--out", new.to_str().unwrap()]);
    assert!(said.contains("model_index.json") && !new.join(MANIFEST).exists(), "{said}");
}

/// Everything below a folder, by name.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

fn packing(model: &Path, out: &Path) -> std::process::Command {
    let paths = [model, out].map(|path| path.to_str().unwrap());
    tintype(&["pack", "--weights", "q8", "--model", paths[0], "--out", paths[1]])
}

#[test]
fn a_pack_takes_a_new_or_an_empty_folder() {
    let (temp, model) = (Temp::new(), golden("sdxs-like"));
    temp.write("full/notes.txt", "mine");
    temp.write("file", "mine");
    for place in ["full", "file", "full/..", "file/new"] {
        let said = crate::cli::sentence(&packing(&model, &temp.path(place)).output().unwrap());
        assert!(said.starts_with("--out: ") && said.ends_with("(invalid-option)"), "{place}: {said}");
    }
    assert_eq!(below(&temp.path("full")), [temp.path("full/notes.txt")]);
    fs::create_dir(temp.path("empty")).unwrap();
    for place in ["empty", "new", "deep/er"] {
        let done = packing(&model, &temp.path(place)).output().unwrap();
        assert!(done.status.success(), "{place}: {}", String::from_utf8_lossy(&done.stderr));
        load(&DiskFolder::new(temp.path(place)), "q8").unwrap();
    }
    let left = ["deep", "empty", "file", "full", "new"].map(|name| temp.path(name));
    assert_eq!(below(&temp.0), left, "something stayed beside a pack");
    assert_eq!(below(&temp.path("deep")), [temp.path("deep/er")]);
}

/// An empty folder keeps its mode, and a link to it stays one.
#[test]
#[cfg(unix)]
fn a_pack_takes_the_place_of_its_folder() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (temp, model) = (Temp::new(), golden("sdxs-like"));
    fs::create_dir(temp.path("empty")).unwrap();
    fs::set_permissions(temp.path("empty"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("empty", temp.path("link")).unwrap();
    assert!(packing(&model, &temp.path("link")).status().unwrap().success());
    assert!(temp.path("empty").join(MANIFEST).exists() && temp.path("link").is_symlink());
    assert_eq!(fs::metadata(temp.path("empty")).unwrap().permissions().mode() & 0o777, 0o750);
    // The one that a shell is in would be gone under its feet.
    fs::create_dir(temp.path("here")).unwrap();
    let done = packing(&model, Path::new(".")).current_dir(temp.path("here")).output().unwrap();
    assert!(crate::cli::sentence(&done).contains("the current one"));
}

#[test]
fn a_pack_is_there_whole_or_not_at_all() {
    let (temp, model) = (Temp::new(), Temp::model("sdxs-like"));
    // The autoencoder comes last.
    let weights =
        below(&model.path("vae")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "safetensors"));
    weights.for_each(|path| fs::write(path, b"damaged").unwrap());
    let out = temp.path("out");
    crate::cli::sentence(&packing(&model.0, &out).output().unwrap());
    crate::cli::sentence(&packing(&model.0, &temp.path("new/deep/er")).output().unwrap());
    assert!(below(&temp.0).is_empty());
    // Of two at once one is told so, or comes too late.
    let model = golden("sdxs-like");
    let both = [(); 2].map(|()| packing(&model, &out).stderr(std::process::Stdio::piped()).spawn().unwrap());
    let done = both.map(|child| child.wait_with_output().unwrap());
    let (good, bad): (Vec<_>, Vec<_>) = done.iter().partition(|output| output.status.success());
    assert_eq!((good.len(), bad.len()), (1, 1));
    crate::cli::sentence(bad[0]);
    load(&DiskFolder::new(&out), "q8").unwrap();
    assert_eq!(below(&temp.0), [out]);
    // While it is locked nobody begins.
    let lock = fs::File::create(temp.path(".next.lock")).unwrap();
    lock.lock().unwrap();
    let said = crate::cli::sentence(&packing(&model, &temp.path("next")).output().unwrap());
    assert!(said.contains("another command is about to write it"), "{said}");
    assert_eq!(below(&temp.0).len(), 2);
}

/// A manifest that lists more bytes than there are, and the hash of those that there are.
#[test]
fn less_than_is_listed() {
    let (_temp, out) = pack(&golden("lcm-like"), "q8");
    let listed = fs::read(out.join(UNET)).unwrap();
    let short = &listed[..listed.len() - 4];
    fs::write(out.join(UNET), short).unwrap();
    let mut manifest: Value = serde_json::from_slice(&fs::read(out.join(MANIFEST)).unwrap()).unwrap();
    let hash: String = Sha256::digest(short).iter().map(|byte| format!("{byte:02x}")).collect();
    manifest["files"][UNET]["sha256"] = json!([hash]);
    fs::write(out.join(MANIFEST), manifest.to_string()).unwrap();
    let e = refused(&DiskFolder::new(&out));
    assert_eq!(e.code, Code::InvalidModel, "{e}");
    for words in [UNET, &format!("{} bytes", short.len()), &listed.len().to_string()] {
        assert!(e.message.contains(words), "{words} is missing: {e}");
    }
}

/// A pack one of whose files has no end.
struct Endless(DiskFolder);

struct Longer {
    file: OpenFile,
    endless: bool,
    read: usize,
}

#[async_trait(?Send)]
impl Folder for Endless {
    async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
        let file = self.0.open(path).await?;
        let endless = path == "unet/config.json";
        Ok(file.map(|file| -> OpenFile { Box::new(Longer { file, endless, read: 0 }) }))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[async_trait(?Send)]
impl ByteStream for Longer {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let got = self.file.read(buf).await?;
        if got > 0 || !self.endless {
            return Ok(got);
        }
        self.read += buf.len();
        assert!(self.read < 64 << 20, "it is read for ever");
        buf.fill(b' ');
        Ok(buf.len())
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

#[test]
fn more_than_is_listed() {
    let (_temp, out) = pack(&golden("sdxs-like"), "q8");
    let e = refused(&Endless(DiskFolder::new(&out)));
    assert!(e.code == Code::Integrity && e.message.contains("unet/config.json is damaged"), "{e}");
}
