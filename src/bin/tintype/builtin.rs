//! The built-in model, carried inside the command.

use tintype::error::{Error, Result};
use tintype::weights::MemoryFolder;

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

pub fn folder() -> Result<MemoryFolder> {
    if FILES.is_empty() {
        return Err(Error::not_found("this build carries no built-in model; name one with --model DIR"));
    }
    let mut folder = MemoryFolder::new();
    for &(path, bytes) in FILES {
        folder.insert(path, bytes);
    }
    Ok(folder)
}
