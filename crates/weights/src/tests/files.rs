//! Which files are read, from which folders.

use std::cell::RefCell;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::*;
use crate::error::Code::NotFound;

#[test]
fn the_first_of_the_known_files_is_read() {
    let index = br#"{"weight_map": {"x": "s.safetensors"}}"#.to_vec();
    let one = |value: f32| floats(&[("x", &[1], &[value])]);
    let mut files = vec![
        ("model.fp16.safetensors", one(1.0)),
        ("model.safetensors", one(2.0)),
        ("model.safetensors.index.fp16.json", index.clone()),
        ("model.safetensors.index.json", index),
        ("s.safetensors", one(3.0)),
    ];
    let read = |files: &[(&str, Vec<u8>)]| {
        let mut sink = Keep::default();
        let done = block_on(stream(&folder(files), "", "model", &mut sink, Hooks::NONE)).unwrap();
        (done.files, sink.tensors["x"][0])
    };
    assert_eq!(read(&files), (vec!["model.fp16.safetensors".into()], 1.0));
    files.remove(0);
    assert_eq!(read(&files), (vec!["model.safetensors".into()], 2.0));
    files.remove(0);
    let fp16: Vec<String> = vec!["model.safetensors.index.fp16.json".into(), "s.safetensors".into()];
    assert_eq!(read(&files), (fp16, 3.0));
    files.remove(0);
    let full: Vec<String> = vec!["model.safetensors.index.json".into(), "s.safetensors".into()];
    assert_eq!(read(&files), (full, 3.0));
}

#[test]
fn no_weights_or_only_pickle() {
    let e = unet(&folder(&[("unet/config.json", b"{}".to_vec())]), &mut Keep::default()).unwrap_err();
    assert_eq!(e.code, NotFound);
    for end in ["fp16.safetensors", "safetensors", "safetensors.index.fp16.json", "safetensors.index.json"] {
        assert!(e.message.contains(&format!("unet/diffusion_pytorch_model.{end}")), "{e}");
    }
    for (stem, bin) in
        [("diffusion_pytorch_model", "diffusion_pytorch_model.bin"), ("model", "pytorch_model.bin")]
    {
        let files = folder(&[(bin, vec![])]);
        let e = block_on(stream(&files, "", stem, &mut Keep::default(), Hooks::NONE)).unwrap_err();
        assert_eq!(e.code, Unsupported);
        assert!(e.message.contains(bin) && e.message.contains("safetensors"), "{e}");
    }
    let (files, mut sink) = (folder(&[]), Keep::default());
    let e = block_on(stream_file(&files, "x.safetensors", &mut sink, Hooks::NONE)).unwrap_err();
    assert_eq!(e.code, NotFound);
}

const INDEX: &str = "unet/diffusion_pytorch_model.safetensors.index.json";

fn sharded(index: &str, shards: &[(&str, Vec<u8>)], sink: &mut Keep, hooks: Hooks<'_>) -> Result<Streamed> {
    let mut files = folder(shards);
    files.insert(INDEX, index.as_bytes().to_vec());
    block_on(stream(&files, "unet", "diffusion_pytorch_model", sink, hooks))
}

#[test]
fn shards_are_read_once_in_order() {
    let index = r#"{"metadata": {"total_size": 16.0}, "weight_map":
        {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors", "d": "m-1.safetensors"}}"#;
    let shards = [
        ("unet/m-1.safetensors", floats(&[("d", &[1], &[4.0]), ("b", &[1], &[2.0])])),
        ("unet/m-2.safetensors", floats(&[("c", &[1], &[3.0]), ("a", &[1], &[1.0])])),
    ];
    let seen = RefCell::new(Vec::new());
    let progress = |read, total| seen.borrow_mut().push((read, total));
    let mut sink = Keep::default();
    let hooks = Hooks { progress: &progress, ..Hooks::NONE };
    let done = sharded(index, &shards, &mut sink, hooks).unwrap();
    assert_eq!(done.files, [INDEX, "unet/m-1.safetensors", "unet/m-2.safetensors"]);
    assert_eq!(sink.order, ["d", "b", "c", "a"]);
    let total = Some(16);
    assert_eq!(*seen.borrow(), [(0, total), (4, total), (8, total), (12, total), (16, total)]);
}

#[test]
fn damaged_shards_are_refused() {
    let index = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    let (a, b) = (floats(&[("a", &[1], &[1.0])]), floats(&[("b", &[1], &[2.0])]));
    let both = floats(&[("a", &[1], &[1.0]), ("b", &[1], &[2.0])]);
    let (one, two) = ("unet/m-1.safetensors", "unet/m-2.safetensors");
    let elsewhere = |shard: &str| format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
    let paths = ["../vae/m.safetensors", "/m.safetensors", "https:m.safetensors", "m.bin"];
    let [up, absolute, url, pickle] = paths.map(elsewhere);
    type Case<'a> = (&'a str, Vec<(&'a str, Vec<u8>)>, Code, &'a [&'a str]);
    let cases: [Case<'_>; 11] = [
        (index, vec![(one, a.clone())], NotFound, &[two, INDEX, "'b'", "2 files"]),
        (index, vec![(one, a.clone()), (two, a.clone())], InvalidModel, &["'a'", one, two]),
        (index, vec![(one, a.clone()), (two, floats(&[]))], InvalidModel, &["'b'", two]),
        (index, vec![(one, both), (two, b)], InvalidModel, &["'b'", one, two]),
        ("{", vec![], InvalidModel, &[INDEX, "JSON"]),
        (r#"{"weight_map": []}"#, vec![], InvalidModel, &[INDEX, "weight_map"]),
        (&up, vec![], InvalidModel, &[INDEX, "'a'", "../vae/m.safetensors"]),
        (&absolute, vec![], InvalidModel, &[INDEX, "'a'"]),
        (&url, vec![], InvalidModel, &[INDEX, "'a'"]),
        (&pickle, vec![], InvalidModel, &[INDEX, "'a'", "m.bin"]),
        (r#"{"weight_map": {"a": 3}}"#, vec![], InvalidModel, &[INDEX, "'a'", "3"]),
    ];
    for (index, shards, code, words) in cases {
        let e = sharded(index, &shards, &mut Keep::default(), Hooks::NONE).unwrap_err();
        assert_eq!(e.code, code, "{e}");
        for word in words {
            assert!(e.message.contains(word), "{word} is missing: {e}");
        }
    }
}

#[test]
fn a_whole_file_of_unknown_length() {
    let bytes: Vec<u8> = (0..200_001u32).map(|i| (i % 251) as u8).collect();
    let files = folder(&[("big", bytes.clone()), ("none", vec![])]);
    assert_eq!(block_on(files.read("big")).unwrap().unwrap(), bytes);
    let files = Trickle(files);
    assert_eq!(block_on(files.read("big")).unwrap().unwrap(), bytes);
    assert_eq!(block_on(files.read("none")).unwrap(), Some(vec![]));
    assert_eq!(block_on(files.read("absent")).unwrap(), None);
}

#[test]
fn a_folder_on_disk() {
    let root = std::env::temp_dir().join(format!("tintype-weights-{}", std::process::id()));
    std::fs::create_dir_all(root.join("unet")).unwrap();
    std::fs::write(root.join(UNET), floats(&[("x", &[2], &[1.0, 2.0])])).unwrap();
    let files = DiskFolder::new(&root);
    let mut sink = Keep::default();
    let done = unet(&files, &mut sink);
    let absent = ["unet", "vae/config.json", &format!("{UNET}/x")].map(|path| block_on(files.read(path)));
    let len = block_on(files.open(UNET)).unwrap().unwrap().len();
    let written = std::fs::metadata(root.join(UNET)).unwrap().len();
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(done.unwrap().files, [UNET]);
    assert_eq!(sink.tensors["x"], [1.0, 2.0]);
    assert!(absent.into_iter().all(|read| matches!(read, Ok(None))));
    assert_eq!(len, Some(written));
    assert_eq!(files.describe(), root.display().to_string());
}

/// Spaces without an end, and how many were asked for.
struct Endless(Rc<Cell<u64>>);
struct Spaces(Rc<Cell<u64>>);

#[async_trait(?Send)]
impl Folder for Endless {
    async fn open(&self, _path: &str) -> Result<Option<OpenFile>> {
        Ok(Some(Box::new(Spaces(self.0.clone()))))
    }
    fn describe(&self) -> String {
        "a server".into()
    }
}

#[async_trait(?Send)]
impl ByteStream for Spaces {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        buf.fill(b' ');
        self.0.update(|sum| sum + buf.len() as u64);
        Ok(buf.len())
    }
    fn len(&self) -> Option<u64> {
        None
    }
}

#[test]
fn a_small_file_has_an_end() {
    for (path, most, what) in [
        ("unet/config.json", 1 << 20, "a configuration"),
        ("model_index.json", 1 << 20, "a configuration"),
        (MANIFEST, 1 << 20, "a configuration"),
        ("tokenizer/vocab.json", 64 << 20, "a vocabulary"),
        ("tokenizer_2/merges.txt", 64 << 20, "a vocabulary"),
        ("tokenizer/tokenizer.json", 64 << 20, "a vocabulary"),
        ("unet/diffusion_pytorch_model.safetensors.index.fp16.json", 64 << 20, "an index"),
        ("unet/diffusion_pytorch_model.safetensors.index.json", 64 << 20, "an index"),
    ] {
        let endless = Endless(Rc::default());
        let e = block_on(endless.read(path)).unwrap_err();
        assert_eq!(e.code, InvalidModel);
        let words = [path, "a server", what, &format!("at most {most} bytes")];
        assert!(words.iter().all(|word| e.message.contains(word)), "{e}");
        assert_eq!(endless.0.get(), most + 1, "{path}");
        // As large as it may be.
        let bytes = vec![b' '; most as usize];
        assert_eq!(block_on(folder(&[(path, bytes)]).read(path)).unwrap().unwrap().len() as u64, most);
    }
}

#[test]
fn a_hash_that_nobody_knows_is_told() {
    struct Asks(MemoryFolder, RefCell<Vec<String>>);
    #[async_trait(?Send)]
    impl Folder for Asks {
        async fn open(&self, path: &str) -> Result<Option<OpenFile>> {
            self.0.open(path).await
        }
        fn sha256(&self, _path: &str) -> Option<String> {
            Some(String::new())
        }
        fn hashed(&self, path: &str, sha256: &str) {
            self.1.borrow_mut().push(format!("{path} {sha256}"));
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
    }
    let bytes = floats(&[("a", &[2], &[1.0, 2.0]), ("b", &[1], &[3.0])]);
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let asks = Asks(folder(&[("x.safetensors", bytes)]), RefCell::default());
    // Of what nobody wants, too.
    let mut sink = Keep { unwanted: "b", ..Keep::default() };
    block_on(stream_file(&asks, "x.safetensors", &mut sink, Hooks::NONE)).unwrap();
    assert_eq!(*asks.1.borrow(), [format!("x.safetensors {sha256}")]);
}
