//! One thing in some files is no longer as it was.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::json::Json;
use super::random::Random;
use super::tensors;

/// A folder's files by path.
pub type Files = BTreeMap<String, Cow<'static, [u8]>>;

/// What is not text, or not the text that it was.
const BYTES: [&[u8]; 12] = [
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\"",
    b"\\",
    b"{",
    b"]",
    b"-",
    b"9999999999999999999999",
];

/// Changes one of the files that are open to it.
pub fn mutate(files: &mut Files, open: &[String], random: &mut Random) {
    let path = random.of(open);
    let other = files.get(&random.of(open)).cloned();
    let Some(bytes) = files.get(&path) else { return };
    let changed = match random.below(40) {
        0 => {
            files.remove(&path);
            return;
        }
        1 => other.map(Cow::into_owned),
        2..30 => structured(&path, bytes, random),
        _ => None,
    };
    let changed = changed.unwrap_or_else(|| unstructured(bytes, random));
    files.insert(path, changed.into());
}

fn structured(path: &str, bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    match path.rsplit('.').next()? {
        "json" => {
            let mut json = Json::parse(bytes)?;
            json.mutate(random);
            Some(json.bytes())
        }
        "safetensors" => tensors::mutate(bytes, random),
        _ => Some(lines(bytes, random)),
    }
}

fn lines(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let (at, other) = (random.below(lines.len()), random.below(lines.len()));
    match random.below(6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, lines[at]),
        2 => lines.swap(at, other),
        3 => {
            lines[at] =
                random.of(&[&b""[..], b" ", b"a", b"a b c", b"  a b", b"</w> </w>", b"#version", b"\r"])
        }
        4 => lines.truncate(at),
        _ if lines[at].len() < 1 << 12 => lines.extend(vec![lines[at]; 1 << random.below(12)]),
        _ => {}
    }
    lines.join(&b'\n')
}

fn unstructured(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = random.below(out.len() + 1);
    let end = at + random.below((out.len() - at).min(64) + 1);
    match random.below(9) {
        0 => out.truncate(at),
        1 => drop(out.drain(at..end)),
        2 => drop(out.splice(at..at, bytes[at..end].to_vec())),
        3 => drop(out.splice(at..at, random.of(&BYTES).to_vec())),
        4 => drop(out.splice(at..end, random.of(&BYTES).to_vec())),
        // What an editor may have put in front, and what it may have made of all.
        5 => drop(out.splice(..0, *b"\xef\xbb\xbf")),
        6 if out.len() < 1 << 16 => out = out.iter().flat_map(|byte| [*byte, 0]).collect(),
        _ => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
    out
}
