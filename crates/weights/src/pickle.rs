//! Files that Python's pickle writes can run code when they are opened: they are refused, by their names and by how they
//! begin.

use crate::error::{Error, Result};

const ENDINGS: [&str; 5] = [".ckpt", ".pt", ".pth", ".bin", ".pkl"];

/// Refuses a name.
pub fn refuse_pickle(path: &str) -> Result<()> {
    let lower = path.to_ascii_lowercase();
    match ENDINGS.iter().any(|ending| lower.ends_with(ending)) {
        true => Err(pickle(path)),
        false => Ok(()),
    }
}

/// Refuses the beginning of a file: of a zip archive, which torch puts a pickle in, or of a pickle by itself, whose
/// second byte is its protocol. As the length of a header neither is one that is read.
pub(super) fn refuse_bytes(begin: &[u8; 8], path: &str) -> Result<()> {
    let archive = begin.starts_with(b"PK\x03\x04");
    let bare = matches!(begin, [0x80, 2..=5, ..]) && begin[4..] != [0; 4];
    if archive || bare { Err(pickle(path)) } else { Ok(()) }
}

fn pickle(path: &str) -> Error {
    Error::unsupported(format!(
        "{path} is a pickle file, which can run code when it is opened, wanted a .safetensors file: convert it (in \
         Python: weights = torch.load(path, weights_only=True), then \
         safetensors.torch.save_file(weights.get('state_dict', weights), new_path))"
    ))
}
