//! How large the files may be that are read whole. What a server sends may have no end, and what it says of its length
//! may be wrong: the limits are held while the bytes come.

const MIB: u64 = 1 << 20;

/// The header of a safetensors file, which names every tensor. A published model's is some hundred KB.
pub const MAX_HEADER_BYTES: u64 = 64 * MIB;

/// What the end of a path says of a file, and how many bytes it may have. The first that fits counts.
const LIMITS: [(&str, &str, u64); 5] = [
    (".index.json", "an index of shards", 64 * MIB),
    (".index.fp16.json", "an index of shards", 64 * MIB),
    ("vocab.json", "a vocabulary", 64 * MIB),
    ("merges.txt", "a vocabulary", 64 * MIB),
    ("tokenizer.json", "a vocabulary", 64 * MIB),
];

/// Every other small file, such as a pack's manifest, which has a hash of every 8 MiB.
const CONFIGURATION: (&str, u64) = ("a configuration", MIB);

/// What a small file is, and how many bytes it may have.
pub fn limit(path: &str) -> (&'static str, u64) {
    let known = LIMITS.iter().find(|(end, ..)| path.ends_with(end));
    known.map_or(CONFIGURATION, |&(_, what, bytes)| (what, bytes))
}
