//! Model folders of tests/golden, copied so that a test may damage them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::tensors::Tensors;

/// A folder of the repository.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A model of tests/golden as it is.
pub fn golden(model: &str) -> PathBuf {
    here("tests/golden/models").join(model)
}

/// An empty folder that is removed in the end.
pub struct Temp(pub PathBuf);

impl Temp {
    pub fn new() -> Temp {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tintype-test-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Temp(path)
    }

    /// A copy of a model of tests/golden.
    pub fn model(name: &str) -> Temp {
        Temp::copy_of(&golden(name))
    }

    pub fn copy_of(folder: &Path) -> Temp {
        let temp = Temp::new();
        copy(folder, &temp.0);
        temp
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        fs::write(self.path(file), bytes).unwrap();
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Changes the bytes of a file.
    pub fn edit(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        change(&mut bytes);
        self.write(file, bytes);
    }

    /// Sets keys of a JSON object; `None` removes one.
    pub fn set(&self, file: &str, keys: &[(&str, Option<Value>)]) {
        self.edit(file, |bytes| {
            let mut object: serde_json::Map<String, Value> = serde_json::from_slice(bytes).unwrap();
            for (key, value) in keys {
                match value {
                    Some(value) => object.insert((*key).to_owned(), value.clone()),
                    None => object.remove(*key),
                };
            }
            *bytes = serde_json::to_vec(&object).unwrap();
        });
    }

    /// Changes the tensors of a safetensors file.
    pub fn tensors(&self, file: &str, change: impl FnOnce(&mut Tensors)) {
        self.edit(file, |bytes| {
            let mut tensors = Tensors::parse(bytes);
            change(&mut tensors);
            *bytes = tensors.bytes();
        });
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // A folder that stays behind in the system's temporary place harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            // Not fs::copy, which would copy permissions too.
            fs::write(to, fs::read(from).unwrap()).unwrap();
        }
    }
}
