//! JSON as Python writes it: with NaN and infinities, which published scheduler configurations hold.

use serde_json::Value;

/// Parses JSON in which NaN, Infinity and -Infinity stand for null.
pub fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(&without_infinities(bytes))
}

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
    fn infinities_become_null_outside_strings() {
        let value = parse(br#"{"a": -Infinity, "b": "NaN \" NaN", "c": [NaN, 1]}"#).unwrap();
        assert_eq!(value, serde_json::json!({"a": null, "b": "NaN \" NaN", "c": [null, 1]}));
    }
}
