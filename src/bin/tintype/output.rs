//! Files that the command writes: looked at before the work begins, and never left half-written.

use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tintype::error::{Error, Result};

/// Where something will be written.
pub struct Output {
    /// As it was given.
    path: PathBuf,
    place: Place,
}

#[derive(PartialEq)]
enum Place {
    /// A regular file or none yet, with no links on the way to it.
    File(PathBuf),
    /// A device, a pipe or what a process has open: it is written to as it is.
    Stream(PathBuf),
}

impl Output {
    /// What the option names, if it can be written. Nothing stays behind, and a pipe is not opened yet.
    pub fn new(option: &str, path: &Path) -> Result<Output> {
        let failed =
            |e: &dyn Display| Error::option(format!("{option}: cannot write {}: {e}", path.display()));
        let place = place(path).map_err(|e| failed(&e))?;
        Ok(Output { path: path.to_owned(), place })
    }

    /// Whether both are one file, whatever it is called.
    pub fn is(&self, other: &Output) -> bool {
        self.place == other.place || one_file(&self.path, &other.path)
    }

    /// Whether what is printed goes there too.
    pub fn is_stdout(&self) -> bool {
        matches!(&self.place, Place::Stream(path) if ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|p| path == Path::new(p)))
    }

    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let written = match &self.place {
            Place::File(path) => write_whole(path, bytes),
            Place::Stream(path) => {
                OpenOptions::new().append(true).open(path).and_then(|mut f| f.write_all(bytes))
            }
        };
        written.map_err(|e| Error::network(format!("cannot write {self}: {e}")))
    }
}

impl Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

fn place(path: &Path) -> io::Result<Place> {
    let no_file = || io::Error::new(io::ErrorKind::IsADirectory, "it is a folder");
    if path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return Err(no_file());
    }
    // What a process has open goes on where it is, and may have no name any more.
    let open_already = hops(path).any(|path| {
        let folder = folder_of(&path).canonicalize().unwrap_or_default();
        ["/proc", "/dev/fd"].iter().any(|open| folder.starts_with(open))
    });
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(no_file()),
        Ok(found) if !found.is_file() || open_already => Ok(Place::Stream(path.to_owned())),
        Ok(_) => {
            OpenOptions::new().append(true).open(path)?;
            Ok(Place::File(path.canonicalize()?))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let path = hops(path).last().ok_or_else(no_file)?;
            let name = path.file_name().ok_or_else(no_file)?;
            let folder = folder_of(&path).canonicalize()?;
            drop(Partial::beside(&folder)?);
            Ok(Place::File(folder.join(name)))
        }
        Err(e) => Err(e),
    }
}

/// A path and those that it is a link to, one after the other, the last of which need not be there.
fn hops(path: &Path) -> impl Iterator<Item = PathBuf> {
    let target = |path: &PathBuf| Some(folder_of(path).join(fs::read_link(path).ok()?));
    // More links than systems follow.
    std::iter::successors(Some(path.to_owned()), target).take(100)
}

/// A path's folder, which may be the current one.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes beside the target first. What has other names or another owner keeps them by being written in place, as
/// does what cannot be replaced.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let found = fs::metadata(path).ok();
    let in_place = |e| if found.is_some() { fs::write(path, bytes) } else { Err(e) };
    let mut partial = match Partial::beside(folder_of(path)) {
        Ok(partial) => partial,
        Err(e) => return in_place(e),
    };
    if let Some(found) = &found {
        if !keeps(found, &partial.file.metadata()?) {
            return fs::write(path, bytes);
        }
        partial.file.set_permissions(found.permissions())?;
    }
    partial.file.write_all(bytes)?;
    fs::rename(&partial.path, path).or_else(in_place)
}

/// A file of ours beside the target, which is gone in the end.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    /// Under a name that nothing has, and that is short whatever the target's is.
    fn beside(folder: &Path) -> io::Result<Partial> {
        for attempt in 0.. {
            let path = folder.join(format!(".tintype-{}-{attempt}.partial", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Partial { path, file }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {}
                Err(e) => return Err(e),
            }
        }
        unreachable!("the last attempt returns")
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing under the name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a new file in the place of an old one takes nothing from anybody.
#[cfg(unix)]
fn keeps(old: &fs::Metadata, new: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    old.nlink() == 1 && (old.uid(), old.gid()) == (new.uid(), new.gid())
}

#[cfg(not(unix))]
fn keeps(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

#[cfg(unix)]
fn one_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = |path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    number(a).is_some_and(|a| number(b) == Some(a))
}

#[cfg(not(unix))]
fn one_file(_: &Path, _: &Path) -> bool {
    false
}
