//! A folder that is built beside its place and put there whole.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tintype::error::{Error, Result};

/// A folder in the making, which is gone if it is not finished.
pub struct Building {
    /// Where it is built.
    pub folder: PathBuf,
    place: PathBuf,
    /// The lock's file, if it is ours, and the folders above the place that were not there before, the lowest first.
    lock: Option<PathBuf>,
    parents: Vec<PathBuf>,
    /// Held until the end, so that one alone builds for a place.
    _locked: File,
}

impl Building {
    /// For a place that has to be absent or an empty folder.
    pub fn new(option: &str, place: &Path) -> Result<Building> {
        let shown = place.display();
        let failed = |e: &dyn Display| Error::option(format!("{option}: cannot write {shown}: {e}"));
        let place = checked(option, place)?;
        let parent = place.parent().ok_or_else(|| failed(&"it is no new folder"))?;
        let name = place.file_name().ok_or_else(|| failed(&"it has no name"))?.to_string_lossy();
        let parents = parent.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(parent).map_err(|e| failed(&e))?;
        let lock = parent.join(format!(".{name}.lock"));
        let new = OpenOptions::new().append(true).create_new(true).open(&lock);
        let ours = new.is_ok();
        let locked = new.or_else(|_| OpenOptions::new().append(true).open(&lock)).map_err(|e| failed(&e))?;
        match locked.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(failed(&"another command is about to write it")),
            Err(TryLockError::Error(e)) => return Err(failed(&e)),
        }
        let lock = ours.then_some(lock);
        let mut building = Building { folder: PathBuf::new(), place, lock, parents, _locked: locked };
        building.check(option)?;
        building.folder = fresh(&building.place).map_err(|e| failed(&e))?;
        Ok(building)
    }

    /// Puts it into its place.
    pub fn finish(self, option: &str) -> Result<()> {
        self.check(option)?;
        let moved = || {
            if let Ok(found) = fs::metadata(&self.place) {
                fs::set_permissions(&self.folder, found.permissions())?;
                // Only an empty one can be removed so.
                fs::remove_dir(&self.place)?;
            }
            fs::rename(&self.folder, &self.place)
        };
        moved().map_err(|e| Error::network(format!("{option}: cannot write {}: {e}", self.place.display())))
    }

    fn check(&self, option: &str) -> Result<()> {
        checked(option, &self.place).map(drop)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // Where it was finished nothing of it is left but the lock, and the folders above it are not empty.
        if !self.folder.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
        if let Some(lock) = &self.lock {
            let _ = fs::remove_file(lock);
        }
        for folder in &self.parents {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The place without links, if nothing or an empty folder is there.
pub fn checked(option: &str, place: &Path) -> Result<PathBuf> {
    let shown = place.display();
    let wrong = |found: &str| {
        Error::option(format!("{option}: wanted a new or an empty folder, found {shown}, {found}"))
    };
    let failed = |e: io::Error| Error::option(format!("{option}: cannot write {shown}: {e}"));
    match fs::symlink_metadata(place) {
        Ok(_) => {
            let place = place.canonicalize().map_err(failed)?;
            if !place.is_dir() {
                return Err(wrong("which is none"));
            }
            if let Some(entry) = fs::read_dir(&place).map_err(failed)?.next() {
                let entry = entry.map_err(failed)?.file_name();
                return Err(wrong(&format!("in which there is {}", entry.display())));
            }
            // It is replaced, which would leave whoever is in it nowhere.
            if std::env::current_dir().is_ok_and(|current| current == place) {
                return Err(wrong("which is the current one"));
            }
            Ok(place)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Without a slash at its end.
            Ok(std::path::absolute(place).map_err(failed)?.components().collect())
        }
        Err(e) => Err(failed(e)),
    }
}

/// A new folder beside a place.
fn fresh(place: &Path) -> io::Result<PathBuf> {
    for attempt in 0.. {
        let mut name = place.as_os_str().to_owned();
        name.push(format!(".{}-{attempt}.partial", std::process::id()));
        match fs::create_dir(&name) {
            Ok(()) => return Ok(name.into()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {}
            Err(e) => return Err(e),
        }
    }
    unreachable!("the last attempt returns")
}
