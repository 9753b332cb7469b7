//! The header of a safetensors file: which tensor lies where, checked before any data is read.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::json;

/// What a file holds. The ranges of the tensors follow each other without gaps from byte 0 of the
/// data section to its end.
#[derive(Clone, Debug)]
pub struct Header {
    /// In the order of the data, whatever the order of the JSON.
    pub tensors: Vec<TensorInfo>,
    /// The strings under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// One tensor of a file. Bytes `begin..end` count from the start of the data section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub begin: u64,
    pub end: u64,
}

/// The type of a tensor's elements. A type that is not listed is kept by name: it is an error only
/// for a tensor that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    /// Without infinities (torch's `float8_e4m3fn`).
    F8E4m3,
    F8E5m2,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    Other(String),
}

impl TensorInfo {
    /// Rows are the slices of dimension 0, or of a table `[1, rows, width]` of dimension 1; a scalar is one row.
    pub fn rows(&self) -> usize {
        self.without_one().first().copied().unwrap_or(1)
    }

    /// Elements of one row: the product of the other dimensions.
    pub fn row_len(&self) -> usize {
        self.without_one().iter().skip(1).fold(1, |n, &d| n.saturating_mul(d))
    }

    fn without_one(&self) -> &[usize] {
        match &self.shape[..] {
            [1, rest @ ..] if rest.len() == 2 => rest,
            all => all,
        }
    }
}

impl Dtype {
    /// Bytes of an element, where the type is known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Dtype::F64 | Dtype::I64 | Dtype::U64 => Some(8),
            Dtype::F32 | Dtype::I32 | Dtype::U32 => Some(4),
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 | Dtype::U16 => Some(2),
            Dtype::F8E4m3 | Dtype::F8E5m2 | Dtype::I8 | Dtype::U8 | Dtype::Bool => Some(1),
            Dtype::Other(_) => None,
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "F64" => Dtype::F64,
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            "F8_E4M3" => Dtype::F8E4m3,
            "F8_E5M2" => Dtype::F8E5m2,
            "I64" => Dtype::I64,
            "I32" => Dtype::I32,
            "I16" => Dtype::I16,
            "I8" => Dtype::I8,
            "U64" => Dtype::U64,
            "U32" => Dtype::U32,
            "U16" => Dtype::U16,
            "U8" => Dtype::U8,
            "BOOL" => Dtype::Bool,
            other => Dtype::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F64 => "F64",
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::F8E4m3 => "F8_E4M3",
            Dtype::F8E5m2 => "F8_E5M2",
            Dtype::I64 => "I64",
            Dtype::I32 => "I32",
            Dtype::I16 => "I16",
            Dtype::I8 => "I8",
            Dtype::U64 => "U64",
            Dtype::U32 => "U32",
            Dtype::U16 => "U16",
            Dtype::U8 => "U8",
            Dtype::Bool => "BOOL",
            Dtype::Other(name) => name,
        })
    }
}

impl Header {
    /// Parses the JSON of a header and checks it. `data_len` is the number of bytes that follow the
    /// header, if that is known; `file` is for the messages.
    ///
    /// Errors are `InvalidModel`: JSON that is damaged, a tensor named twice, ranges that overlap,
    /// leave a hole, contradict the shape, or do not end where the file does.
    pub fn parse(bytes: &[u8], data_len: Option<u64>, file: &str) -> Result<Header> {
        let Entries(entries) = json::check(bytes)
            .and_then(|()| serde_json::from_slice::<Entries<Value>>(bytes))
            .map_err(|e| Error::model(format!("{file}: the safetensors header is not valid JSON: {e}")))?;
        let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
        let mut seen = HashSet::new();
        for (name, entry) in &entries {
            if !seen.insert(name) {
                return Err(Error::model(format!("{file}: the header names '{name}' twice")));
            }
            if name == "__metadata__" {
                let strings = entry.as_object().into_iter().flatten();
                let strings = strings.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.into())));
                header.metadata.extend(strings);
            } else {
                header.tensors.push(TensorInfo::parse(name, entry, file)?);
            }
        }
        header.tensors.sort_by_key(|t| (t.begin, t.end));
        header.check_ranges(data_len, file)?;
        Ok(header)
    }

    /// Bytes of the data section.
    pub fn data_len(&self) -> u64 {
        self.tensors.last().map_or(0, |t| t.end)
    }

    fn check_ranges(&self, data_len: Option<u64>, file: &str) -> Result<()> {
        let (mut end, mut before) = (0, "the header");
        for t in &self.tensors {
            let (name, begin) = (&t.name, t.begin);
            if begin < end {
                return Err(Error::model(format!(
                    "{file}: tensor '{name}' begins at byte {begin}, inside '{before}', which ends \
                     at {end}: the ranges overlap"
                )));
            }
            if begin > end {
                return Err(Error::model(format!(
                    "{file}: tensor '{name}' begins at byte {begin}, but '{before}' ends at {end}: \
                     there is a hole between them"
                )));
            }
            if let Some(len) = data_len.filter(|&len| t.end > len) {
                return Err(Error::model(format!(
                    "{file} is truncated: tensor '{name}' needs bytes {begin}..{} of the data, but \
                     the file has only {len}",
                    t.end
                )));
            }
            (end, before) = (t.end, name);
        }
        if let Some(len) = data_len.filter(|&len| len > end) {
            return Err(Error::model(format!(
                "{file}: {len} bytes of data, but the tensors end at {end}: the header does not \
                 belong to this data"
            )));
        }
        Ok(())
    }
}

impl TensorInfo {
    fn parse(name: &str, entry: &Value, file: &str) -> Result<TensorInfo> {
        let wrong = |key: &str, wanted: &str| {
            let found = entry.get(key).map_or("nothing".to_string(), Value::to_string);
            Error::model(format!("{file}: tensor '{name}': {key} is {found}, wanted {wanted}"))
        };
        let list = |key: &str, wanted: &str| -> Result<Vec<u64>> {
            let list = entry.get(key).and_then(Value::as_array).ok_or_else(|| wrong(key, wanted))?;
            list.iter().map(|v| v.as_u64().ok_or_else(|| wrong(key, wanted))).collect()
        };
        let dtype = entry.get("dtype").and_then(Value::as_str);
        let dtype = Dtype::from_name(dtype.ok_or_else(|| wrong("dtype", "a name such as F16"))?);
        let dims = list("shape", "a list of whole numbers")?;
        let &[begin, end] = &list("data_offsets", "[begin, end]")?[..] else {
            return Err(wrong("data_offsets", "[begin, end]"));
        };
        let too_large = || wrong("shape", "fewer elements than this machine can count");
        let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let elements = elements.ok_or_else(too_large)?;
        let shape = dims.iter().map(|&d| usize::try_from(d).map_err(|_| too_large()));
        let shape = shape.collect::<Result<Vec<_>>>()?;
        // As f32 they must fit in one allocation, which has half of what a machine can address.
        elements.checked_mul(4).and_then(|bytes| isize::try_from(bytes).ok()).ok_or_else(too_large)?;
        if end < begin {
            return Err(wrong("data_offsets", "an end that is not before the begin"));
        }
        if let Some(size) = dtype.size() {
            let bytes = elements.checked_mul(size).ok_or_else(too_large)?;
            if end - begin != bytes {
                return Err(Error::model(format!(
                    "{file}: tensor '{name}': {dtype} {shape:?} takes {bytes} bytes, but \
                     data_offsets [{begin}, {end}] give {}",
                    end - begin
                )));
            }
        }
        Ok(TensorInfo { name: name.to_string(), dtype, shape, begin, end })
    }
}

/// An object as written: a JSON map would silently keep the last of two equal names, and lose the order.
pub(super) struct Entries<V>(pub Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Each<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Each<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Each(PhantomData))
    }
}
