//! What a file holds, from its header alone.

use super::limits::MAX_HEADER_BYTES;
use super::pickle::{refuse_bytes, refuse_pickle};
use super::safetensors::Header;
use super::source::{ByteStream, Folder};
use super::stream::{PIECE_BYTES, absent};
use crate::error::{Error, Result};

/// The header of a safetensors file: what it holds, without reading any of it.
pub async fn header(folder: &dyn Folder, path: &str) -> Result<Header> {
    Ok(header_and(folder, path, "").await?.0)
}

/// The header, and the bytes of one small tensor, if the file has it.
pub async fn header_and(folder: &dyn Folder, path: &str, tensor: &str) -> Result<(Header, Option<Vec<u8>>)> {
    refuse_pickle(path)?;
    let Some(mut file) = folder.open(path).await? else { return Err(absent(folder, path)) };
    let (header, _) = read_header(&mut *file, path).await?;
    let small = header.tensors.iter().find(|t| t.name == tensor && t.end - t.begin <= 16);
    let Some(info) = small else { return Ok((header, None)) };
    let mut bytes = vec![0; (info.end - info.begin) as usize];
    file.skip(info.begin).await?;
    let got = file.read_full(&mut bytes).await?;
    bytes.truncate(got);
    Ok((header, Some(bytes)))
}

/// The header, and where the data begins behind it.
pub(super) async fn read_header(file: &mut dyn ByteStream, path: &str) -> Result<(Header, u64)> {
    let mut length = [0; 8];
    let got = file.read_full(&mut length).await?;
    if got < length.len() {
        return Err(Error::model(format!("{path} has {got} bytes: too short for a safetensors file")));
    }
    refuse_bytes(&length, path)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(Error::model(format!(
            "{path} begins with a header of {length} bytes, at most {MAX_HEADER_BYTES} are read: \
             this is hardly a safetensors file (an error page, a Git LFS pointer?)"
        )));
    }
    let data_len = file.len().map(|len| len.saturating_sub(8 + length));
    let mut json = Vec::new();
    // In pieces, so that a length that lies does not make us ask for all that memory.
    while (json.len() as u64) < length {
        let start = json.len();
        json.resize(length.min((start + PIECE_BYTES) as u64) as usize, 0);
        let got = file.read_full(&mut json[start..]).await?;
        if start + got < json.len() {
            return Err(Error::model(format!(
                "{path} is truncated: its header has {length} bytes, the file only {} in all",
                8 + start + got
            )));
        }
    }
    Ok((Header::parse(&json, data_len, path)?, 8 + length))
}
