//! What a file holds, from its header alone.

use super::pickle::refuse_pickle;
use super::safetensors::Header;
use super::source::{ByteStream, Folder};
use super::stream::{absent, read_header};
use crate::error::Result;

/// The header of a safetensors file: what it holds, without reading any of it.
pub async fn header<F: Folder>(folder: &F, path: &str) -> Result<Header> {
    Ok(header_and(folder, path, "").await?.0)
}

/// The header, and the bytes of one small tensor, if the file has it.
pub async fn header_and<F: Folder>(
    folder: &F,
    path: &str,
    tensor: &str,
) -> Result<(Header, Option<Vec<u8>>)> {
    refuse_pickle(path)?;
    let Some(mut file) = folder.open(path).await? else { return Err(absent(folder, path)) };
    let (header, _) = read_header(&mut file, path).await?;
    let small = header.tensors.iter().find(|t| t.name == tensor && t.end - t.begin <= 16);
    let Some(info) = small else { return Ok((header, None)) };
    let mut bytes = vec![0; (info.end - info.begin) as usize];
    file.skip(info.begin).await?;
    let got = file.read_full(&mut bytes).await?;
    bytes.truncate(got);
    Ok((header, Some(bytes)))
}
