//! JSON that may be what JSON must not be: keys twice, numbers of any length, nothing where something was.

use serde_json::Value;

use super::random::Random;

/// An object keeps its order and its doubles; what has no parts is kept as it is written.
#[derive(Clone)]
pub enum Json {
    Object(Vec<(String, Json)>),
    List(Vec<Json>),
    Written(String),
}

/// Longer texts and lists are not made many times as long: change after change would make gigabytes of them.
const LONG: usize = 1 << 12;

/// Values that somebody may have thought impossible.
const STRANGE: [&str; 44] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "7",
    "8",
    "64",
    "255",
    "512",
    "1023",
    "65535",
    "65536",
    "100000",
    "1048576",
    "1048577",
    "-1",
    "-0.0",
    "0.5",
    "1e-60",
    "1e30",
    "1e400",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "4611686018427387904",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "NaN",
    "-Infinity",
    "null",
    "true",
    "false",
    "\"\"",
    "\"x\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[]",
    "{}",
    "[[null, null]]",
];

impl Json {
    pub fn parse(bytes: &[u8]) -> Option<Json> {
        Some(Json::of(&serde_json::from_slice(bytes).ok()?))
    }

    fn of(value: &Value) -> Json {
        match value {
            Value::Object(map) => Json::Object(map.iter().map(|(k, v)| (k.clone(), Json::of(v))).collect()),
            Value::Array(list) => Json::List(list.iter().map(Json::of).collect()),
            other => Json::Written(other.to_string()),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = String::new();
        self.write(&mut out);
        out.into_bytes()
    }

    /// About how many bytes it is written in.
    fn length(&self) -> usize {
        match self {
            Json::Written(text) => text.len(),
            Json::List(list) => list.iter().map(|item| 1 + item.length()).sum(),
            Json::Object(entries) => entries.iter().map(|(key, value)| key.len() + 4 + value.length()).sum(),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Written(text) => out.push_str(text),
            Json::List(list) => {
                out.push('[');
                for (i, item) in list.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(entries) => {
                out.push('{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Every node, this one first.
    fn nodes<'a>(&'a self, all: &mut Vec<&'a Json>) {
        all.push(self);
        match self {
            Json::Object(entries) => entries.iter().for_each(|(_, value)| value.nodes(all)),
            Json::List(list) => list.iter().for_each(|item| item.nodes(all)),
            Json::Written(_) => {}
        }
    }

    fn node(&mut self, at: &mut usize) -> Option<&mut Json> {
        if *at == 0 {
            return Some(self);
        }
        *at -= 1;
        match self {
            Json::Object(entries) => entries.iter_mut().find_map(|(_, value)| value.node(at)),
            Json::List(list) => list.iter_mut().find_map(|item| item.node(at)),
            Json::Written(_) => None,
        }
    }

    /// One thing is no longer as it was.
    pub fn mutate(&mut self, random: &mut Random) {
        let mut all = vec![];
        self.nodes(&mut all);
        let mut at = random.below(all.len());
        let other = random.of(&all).clone();
        let node = self.node(&mut at).expect("a node that was counted");
        match random.below(10) {
            0 => *node = other,
            1..4 => *node = Json::Written(random.of(&STRANGE).to_owned()),
            4 if random.one_in(4) => *node = nested(random),
            _ => node.change(other, random),
        }
    }

    fn change(&mut self, other: Json, random: &mut Random) {
        match self {
            Json::Object(entries) if !entries.is_empty() => {
                let at = random.below(entries.len());
                match random.below(5) {
                    0 => drop(entries.remove(at)),
                    1 => entries.push(entries[at].clone()),
                    2 => entries[at].0 = random.of(entries).0,
                    3 => entries[at].0.push_str(random.of(&["x", " ", "\u{0}", ".weight", "é"])),
                    _ => entries[at].1 = other,
                }
            }
            Json::List(list) if !list.is_empty() => {
                let at = random.below(list.len());
                match random.below(5) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    2 => list.swap(at, 0),
                    3 if list[at].length() < LONG => {
                        list.extend(vec![list[at].clone(); 1 << random.below(10)])
                    }
                    _ => list[at] = other,
                }
            }
            Json::Object(entries) => entries.push(("x".to_owned(), other)),
            Json::List(list) => list.push(other),
            Json::Written(text) => *text = rewritten(text, random),
        }
    }
}

/// A number near it, or a text like it.
fn rewritten(text: &str, random: &mut Random) -> String {
    if let Ok(number) = text.parse::<i128>() {
        let by = [1, 2, 3, 4, 8, 1000, 1 << 16, 1 << 32, 1 << 62][random.below(9)];
        let near = [number + by, number - by, number * by, number / by, -number, i128::from(random.next())];
        return random.of(&near).to_string();
    }
    if let Ok(number) = text.parse::<f64>() {
        return format!("{:e}", number * [-1.0, 1e-3, 1e3, 1e30, 1e-30][random.below(5)]);
    }
    let inner = text.trim_matches('"');
    let times = if inner.len() < LONG { 64 } else { 1 };
    let longer = [format!("{inner}{inner}"), format!("../{inner}"), inner.repeat(times), String::new()];
    format!("\"{}\"", random.of(&longer))
}

/// More brackets than a parser should follow, closed or not.
fn nested(random: &mut Random) -> Json {
    let depth = 1 << random.below(17);
    let (open, close) = random.of(&[("[", "]"), ("{\"a\":", "}")]);
    let end = if random.one_in(2) { close.repeat(depth) } else { String::new() };
    Json::Written(format!("{}1{end}", open.repeat(depth)))
}
