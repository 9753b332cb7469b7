//! JSON as Python writes it: with NaN and infinities, which published scheduler configurations hold.

use serde_json::Value;

/// Parses JSON in which NaN, Infinity and -Infinity stand for null.
pub fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(bytes).or_else(|error| {
        let text = std::str::from_utf8(bytes).map_err(|_| error)?;
        serde_json::from_str(&without_infinities(text))
    })
}

fn without_infinities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|w| !quoted && rest.starts_with(w));
        if let Some(word) = word {
            out += "null";
            rest = &rest[word.len()..];
            continue;
        }
        // An escaped character is copied with its backslash.
        let length = if c == '\\' { 1 + rest[1..].chars().next().map_or(0, char::len_utf8) } else { c.len_utf8() };
        quoted ^= c == '"';
        out += &rest[..length];
        rest = &rest[length..];
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
