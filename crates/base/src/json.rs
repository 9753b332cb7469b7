//! JSON as Python writes it: with NaN and infinities, which published scheduler configurations hold.

use serde_json::Value;

/// Parses JSON in which NaN, Infinity and -Infinity stand for null.
pub fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    check(bytes)?;
    serde_json::from_slice(&without_infinities(bytes))
}

/// That the values of JSON take at most [`SPARE`] and [`TIMES`] the memory of their text. `{"a":0}` takes eighty times as
/// much, and a file of such objects would take more than a browser has.
pub fn check(bytes: &[u8]) -> serde_json::Result<()> {
    // A browser's usize is too small for what 64 MiB of braces would take.
    let most = SPARE + TIMES * bytes.len() as u64;
    let (mut in_string, mut escaped, mut needed) = (false, false, 0u64);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => {
                in_string = !in_string;
                needed += STRING / 2;
            }
            b'{' if !in_string => needed += OBJECT,
            b'[' if !in_string => needed += ARRAY,
            b',' if !in_string => needed += ITEM,
            _ => {}
        }
    }
    if needed > most {
        let wanted = format!("wanted values of at most {most} bytes, its parts take about {needed}");
        return Err(serde::de::Error::custom(wanted));
    }
    Ok(())
}

/// What JSON may take however short it is.
const SPARE: u64 = 32 << 20;
/// Beside its text.
const TIMES: u64 = 12;
/// What a value takes at least, by its kind: an object has room for eleven members, a list for four, and either moves when
/// it grows.
const OBJECT: u64 = 640;
const ARRAY: u64 = 128;
const ITEM: u64 = 64;
const STRING: u64 = 32;

/// Python's extensions outside of strings replaced by null.
fn without_infinities(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut in_string, mut rest) = (false, bytes);
    while let Some(&byte) = rest.first() {
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|word| rest.starts_with(word));
        if let (false, Some(word)) = (in_string, word) {
            out.extend_from_slice(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        // A backslash takes the next byte along, so that an escaped quote does not end the string.
        let taken = if in_string && byte == b'\\' { 2.min(rest.len()) } else { 1 };
        in_string ^= byte == b'"';
        out.extend_from_slice(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_far_more_memory_than_its_text_is_refused() {
        let list = |item: &str, count: usize| {
            format!("[{}{item}]", format!("{item},").repeat(count - 1)).into_bytes()
        };
        for (item, count) in [(r#"{"":0}"#, 1 << 17), ("[[]]", 1 << 18), ("0", 1 << 20)] {
            let wide = list(item, count);
            let e = parse(&wide).map(drop).expect_err(item);
            assert!(e.to_string().contains("wanted values of at most"), "{e}");
            parse(&list(item, 1 << 10)).unwrap();
        }
        // In a text they are letters.
        parse(&list(&format!("\"{}\\\"{}\"", "{[,".repeat(20), "{[,".repeat(20)), 1 << 14)).unwrap();
        // As a configuration and a header have them.
        parse(&list(r#"{"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [0, 23040], "name": "down_blocks.0.weight"}"#, 1 << 14)).unwrap();
    }

    #[test]
    fn infinities_become_null_outside_strings() {
        let value = parse(br#"{"a": -Infinity, "b": "NaN \" NaN", "c": [NaN, 1]}"#).unwrap();
        assert_eq!(value, serde_json::json!({"a": null, "b": "NaN \" NaN", "c": [null, 1]}));
    }
}
