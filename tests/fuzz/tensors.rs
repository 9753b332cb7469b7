//! Safetensors files that contradict themselves, and such that agree with themselves and with nothing else.

use super::json::Json;
use super::random::Random;

/// Shapes that somebody may have thought impossible: most have more elements than can be counted.
const SHAPES: [&str; 14] = [
    "[]",
    "[0]",
    "[1]",
    "[4]",
    "[1, 1]",
    "[0, 18446744073709551615]",
    "[4294967296, 4294967296]",
    "[65536, 65536]",
    "[1, 1073741824]",
    "[1, 4611686018427387904]",
    "[2147483648, 2]",
    "[1, 1, 1, 1, 1, 1, 1, 1, 1]",
    "[-1]",
    "[2.5]",
];

const DTYPES: [&str; 9] = ["F64", "F32", "F16", "BF16", "I64", "I8", "BOOL", "F8_E4M3", ""];

/// What a file says and has. None if its beginning says nothing that can be read.
fn parts(bytes: &[u8]) -> Option<(Json, &[u8])> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(8)?;
    Some((Json::parse(bytes.get(8..end)?)?, &bytes[end..]))
}

pub fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// One thing is no longer as it was.
pub fn mutate(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let (mut header, data) = parts(bytes)?;
    Some(match random.below(8) {
        0 => {
            let lie = [0, 1, 8, header.bytes().len() as u64 + 1, 1 << 20, 100_000_000, 100_000_001, u64::MAX];
            let mut out = bytes.to_vec();
            out[..8].copy_from_slice(&random.of(&lie).to_le_bytes());
            out
        }
        1 => file(&header.bytes(), &data[..random.below(data.len() + 1)]),
        2 => file(&header.bytes(), &[data, &vec![0x3c; random.below(4096)]].concat()),
        3 | 4 => {
            header.mutate(random);
            file(&header.bytes(), data)
        }
        5 => {
            entry(&mut header, random, |key, value, random| match key {
                "shape" => *value = Json::Written(random.of(&SHAPES).to_owned()),
                "dtype" => *value = Json::Written(format!("\"{}\"", random.of(&DTYPES))),
                _ => value.mutate(random),
            });
            file(&header.bytes(), data)
        }
        _ => consistent(header, data, random),
    })
}

/// Changes the parts of some tensor's entry.
fn entry(header: &mut Json, random: &mut Random, change: impl Fn(&str, &mut Json, &mut Random)) {
    let Json::Object(entries) = header else { return };
    if entries.is_empty() {
        return;
    }
    let at = random.below(entries.len());
    let Json::Object(parts) = &mut entries[at].1 else { return };
    for (key, value) in parts {
        if random.one_in(2) {
            change(key, value, random);
        }
    }
}

/// Another name, shape or type for some tensor, and offsets that fit: what reads the header is content.
fn consistent(header: Json, data: &[u8], random: &mut Random) -> Vec<u8> {
    let Json::Object(mut entries) = header else { return file(b"{}", data) };
    if !entries.is_empty() {
        let (at, other) = (random.below(entries.len()), random.below(entries.len()));
        match random.below(6) {
            0 => drop(entries.remove(at)),
            1 => {
                let (mut twin, of) = (entries[at].clone(), entries[other].0.clone());
                twin.0.push_str(random.of(&[
                    "x",
                    ".alpha",
                    ".weight",
                    ".lora_up.weight",
                    "_lora.down.weight",
                    ".dora_scale",
                    ".lora_mid.weight",
                ]));
                if random.one_in(3) {
                    twin.0 = format!("{of}.{}", twin.0);
                }
                entries.push(twin);
            }
            2 => {
                let name = entries[other].0.clone();
                entries[other].0 = std::mem::replace(&mut entries[at].0, name);
            }
            3 => set(&mut entries[at].1, "dtype", format!("\"{}\"", random.of(&DTYPES))),
            _ => {
                let dims = [0, 1, 2, 3, 4, 8, 77, 1000];
                let shape: Vec<usize> = (0..random.below(5)).map(|_| random.of(&dims)).collect();
                set(&mut entries[at].1, "shape", format!("{:?}", shape));
            }
        }
    }
    let (mut end, mut out) = (0, vec![]);
    for (_, entry) in entries.iter_mut().filter(|(name, _)| name != "__metadata__") {
        let bytes = size(entry).filter(|bytes| *bytes < 1 << 20).unwrap_or(0);
        set(entry, "data_offsets", format!("[{end}, {}]", end + bytes));
        out.extend(data.iter().cycle().skip(end % data.len().max(1)).take(bytes));
        end += bytes;
    }
    file(&Json::Object(entries).bytes(), &out)
}

fn set(entry: &mut Json, key: &str, written: String) {
    let Json::Object(parts) = entry else { return };
    if let Some((_, value)) = parts.iter_mut().find(|(name, _)| name == key) {
        *value = Json::Written(written);
    }
}

/// Bytes that an entry's shape and type ask for.
fn size(entry: &Json) -> Option<usize> {
    let value: serde_json::Value = serde_json::from_slice(&entry.bytes()).ok()?;
    let dims = value["shape"].as_array()?;
    let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(d.as_u64()?).ok()?))?;
    let each = match value["dtype"].as_str()? {
        "F64" | "I64" => 8,
        "F32" => 4,
        "F16" | "BF16" => 2,
        _ => 1,
    };
    elements.checked_mul(each)
}
