//! Files that are tried every time: `tests/fuzz/corpus/TARGET/CASE` has those that take the place of the target's first
//! seed's.

use std::fs;
use std::path::{Path, PathBuf};

use super::mutate::Files;

/// A folder of the repository.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The cases of a target, by name.
pub fn of(target: &str) -> Vec<(String, Files)> {
    let folder = here("tests/fuzz/corpus").join(target);
    let Ok(cases) = fs::read_dir(&folder) else { return vec![] };
    let cases = cases.map(|case| case.unwrap().path());
    let named = |case: PathBuf| (format!("{target}/{}", case.file_name().unwrap().display()), read(&case));
    let mut cases: Vec<_> = cases.map(named).collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

/// Every file of a folder, for as long as the program runs.
pub fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    walk(folder, "", &mut files);
    assert!(!files.is_empty(), "{} has no files", folder.display());
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let entry = entry.unwrap().path();
        let path = format!("{prefix}{}", entry.file_name().unwrap().to_str().unwrap());
        if entry.is_dir() {
            walk(&entry, &format!("{path}/"), files);
        } else {
            let bytes: &'static [u8] = fs::read(&entry).unwrap().leak();
            files.insert(path, bytes.into());
        }
    }
}

/// Writes what a case was made of, where a finding can be looked at and taken into the corpus from.
pub fn keep(name: &str, files: &Files) -> PathBuf {
    let folder = here("target/fuzz/findings").join(name.replace([' ', ':'], "-"));
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}
