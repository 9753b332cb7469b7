//! A JSON object whose values are asked for by key, type and default.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// No width, count or size in a configuration is larger.
const MAX_NUMBER: u64 = 1 << 20;

/// No network has more layers.
const MAX_LAYERS: usize = 512;

/// The object, and the file's name for messages. `null` counts as a value, not as an absence: in
/// diffusers it overrides the default.
pub struct Fields<'a> {
    file: &'a str,
    map: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn parse(bytes: &[u8], file: &'a str) -> Result<Self> {
        match crate::json::parse(bytes) {
            Ok(Value::Object(map)) => {
                let fields = Fields { file, map };
                fields.not_quantised()?;
                Ok(fields)
            }
            Ok(_) => Err(Error::model(format!("{file} is not a JSON object"))),
            Err(e) => Err(Error::model(format!("{file} is not valid JSON: {e}"))),
        }
    }

    /// Refuses what quantising libraries write, by the kind that it is: their tensors have shapes of their own.
    fn not_quantised(&self) -> Result<()> {
        let Some(Value::Object(config)) = self.get("quantization_config") else { return Ok(()) };
        let word = |key: &str| config.get(key).and_then(Value::as_str);
        let on = |key: &str| config.get(key) == Some(&Value::Bool(true));
        let method = word("quant_method").unwrap_or("of an unknown kind");
        let bits = [("load_in_4bit", "4 bits"), ("_load_in_4bit", "4 bits"), ("load_in_8bit", "8 bits")];
        let bits = bits.into_iter().find(|(key, _)| on(key)).map(|(_, bits)| bits);
        let detail = ["quant_type", "weights_dtype", "weights"].into_iter().find_map(word).or(bits);
        let detail = detail.map_or(String::new(), |detail| format!(" ({detail})"));
        Err(Error::unsupported(format!(
            "{}: quantization_config says that the weights are {method}{detail}, supported are weights in f32, f16, bf16 \
             or fp8: take the model as it was before it was quantised",
            self.file
        )))
    }

    pub fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.map.iter()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// An `InvalidModel` error about the value of `key`.
    pub fn wrong(&self, key: &str, wanted: &str) -> Error {
        let file = self.file;
        match self.get(key) {
            Some(found) => Error::model(format!("{file}: {key} is {found}, wanted {wanted}")),
            None => Error::model(format!("{file}: there is no {key}, wanted {wanted}")),
        }
    }

    /// An `Unsupported` error about the value of `key`.
    pub fn unsupported(&self, key: &str, supported: &str) -> Error {
        let found = self.get(key).map_or("absent".to_string(), Value::to_string);
        Error::unsupported(format!("{}: {key} is {found}, supported is {supported}", self.file))
    }

    /// Refuses every value but `supported`, the default that is meant where the key is absent.
    /// Numbers are equal by value: 1 is 1.0.
    pub fn only(&self, key: &str, supported: Value) -> Result<()> {
        match self.get(key) {
            None => Ok(()),
            Some(v) if *v == supported => Ok(()),
            Some(v) if v.is_number() && v.as_f64() == supported.as_f64() => Ok(()),
            Some(_) => Err(self.unsupported(key, &supported.to_string())),
        }
    }

    /// As `only`, where several values are supported and one of them is the default.
    pub fn one_of(&self, key: &str, supported: &[&str]) -> Result<()> {
        match self.get(key) {
            None => Ok(()),
            Some(Value::String(s)) if supported.contains(&s.as_str()) => Ok(()),
            Some(_) => Err(self.unsupported(key, &supported.join(" or "))),
        }
    }

    /// Refuses another `_class_name`; none at all is fine.
    pub fn class(&self, supported: &str) -> Result<()> {
        self.only("_class_name", supported.into())
    }

    /// The object under `key`; `file` is what its messages call it.
    pub fn object<'b>(&self, key: &str, file: &'b str) -> Result<Fields<'b>> {
        match self.get(key) {
            Some(Value::Object(map)) => Ok(Fields { file, map: map.clone() }),
            _ => Err(self.wrong(key, "an object")),
        }
    }

    pub fn string(&self, key: &str, default: Option<&str>) -> Result<String> {
        match (self.get(key), default) {
            (Some(Value::String(s)), _) => Ok(s.clone()),
            (None, Some(default)) => Ok(default.to_string()),
            _ => Err(self.wrong(key, "a string")),
        }
    }

    /// `null` is false, as in Python.
    pub fn bool(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(Value::Null) => Ok(false),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A whole number from 1 to 2^20.
    pub fn count(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => as_count(v).ok_or_else(|| self.wrong(key, COUNT)),
        }
    }

    /// As `count`, where absent and `null` mean none.
    pub fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.count(key, 0).map(Some),
        }
    }

    /// One whole number for each of `len` levels: a list of as many, or one number for all.
    pub fn counts(&self, key: &str, len: usize, default: usize) -> Result<Vec<usize>> {
        self.each(key, len, default, as_count, COUNT)
    }

    /// One flag for each of `len` levels: a list of as many, or one for all.
    pub fn bools(&self, key: &str, len: usize, default: bool) -> Result<Vec<bool>> {
        self.each(key, len, default, Value::as_bool, "true or false")
    }

    /// As `counts`, where all levels must agree.
    pub fn same_count(&self, key: &str, len: usize, default: usize) -> Result<usize> {
        let counts = self.counts(key, len, default)?;
        if counts.iter().any(|&c| c != counts[0]) {
            return Err(self.unsupported(key, "the same number for all blocks"));
        }
        Ok(counts[0])
    }

    fn each<T: Copy>(
        &self,
        key: &str,
        len: usize,
        default: T,
        read: fn(&Value) -> Option<T>,
        wanted: &str,
    ) -> Result<Vec<T>> {
        let found = match self.get(key) {
            None => Some(vec![default; len]),
            Some(Value::Array(list)) => {
                if list.len() != len {
                    return Err(self.wrong(key, &format!("{len} entries, one for each block")));
                }
                list.iter().map(read).collect()
            }
            Some(one) => read(one).map(|one| vec![one; len]),
        };
        found.ok_or_else(|| self.wrong(key, &format!("{wanted}, or a list of {len}")))
    }

    /// A list of 1 to 8 whole numbers: one for each level of resolution.
    pub fn levels(&self, key: &str, default: &[usize]) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let list = value.as_array().filter(|list| (1..=8).contains(&list.len()));
        let counts = list.and_then(|list| list.iter().map(as_count).collect());
        counts.ok_or_else(|| self.wrong(key, "a list of 1 to 8 whole numbers"))
    }

    /// For each of `len` blocks what the name of its type stands for.
    pub fn block_types<T: Copy>(
        &self,
        key: &str,
        len: usize,
        default: &[T],
        known: &[(&str, T)],
    ) -> Result<Vec<T>> {
        let types = match self.get(key) {
            None => default.to_vec(),
            Some(value) => {
                let list = value.as_array().ok_or_else(|| self.wrong(key, "a list of names"))?;
                let read = |v: &Value| {
                    let found = known.iter().find(|(name, _)| v.as_str() == Some(name));
                    let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                    found.map(|(_, kind)| *kind).ok_or_else(|| self.unsupported(key, &names()))
                };
                list.iter().map(read).collect::<Result<Vec<_>>>()?
            }
        };
        if types.len() != len {
            return Err(self.wrong(key, &format!("{len} entries, one for each block")));
        }
        Ok(types)
    }

    /// A finite number.
    pub fn float(&self, key: &str, default: f32) -> Result<f32> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => {
                let number = v.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
                number.ok_or_else(|| self.wrong(key, "a finite number"))
            }
        }
    }

    /// As `float`, but larger than zero.
    pub fn positive(&self, key: &str, default: f32) -> Result<f32> {
        let number = self.float(key, default)?;
        if number > 0.0 { Ok(number) } else { Err(self.wrong(key, "a number larger than 0")) }
    }

    /// Refuses a network so deep that its list of layers alone would not fit in memory: `keys` make it `layers` deep.
    pub fn check_depth(&self, keys: &str, layers: usize) -> Result<()> {
        if layers > MAX_LAYERS {
            let file = self.file;
            return Err(Error::unsupported(format!(
                "{file}: {keys} make a network of {layers} layers, supported is one of at most {MAX_LAYERS}"
            )));
        }
        Ok(())
    }

    /// Refuses numbers under these keys that are no multiples of 4, which the layout of activations cannot have.
    pub fn check_fours(&self, numbers: &[(&str, usize)]) -> Result<()> {
        match numbers.iter().find(|(_, number)| !number.is_multiple_of(4)) {
            Some((key, _)) => Err(self.unsupported(key, "a multiple of 4")),
            None => Ok(()),
        }
    }

    /// Channels of a head of so many that each axis of rotary positions turns.
    pub fn axes<const N: usize>(&self, key: &str, default: [usize; N], head: usize) -> Result<[usize; N]> {
        if head > MAX_HEAD || !head.is_multiple_of(4) {
            let supported = format!("a multiple of 4, at most {MAX_HEAD}");
            return Err(self.unsupported("attention_head_dim", &supported));
        }
        let wanted = format!("{N} even numbers whose sum is the size of a head, {head}");
        let axes = <[usize; N]>::try_from(self.levels(key, &default)?);
        let axes =
            axes.ok().filter(|axes| axes.iter().all(|a| a % 2 == 0) && axes.iter().sum::<usize>() == head);
        axes.ok_or_else(|| self.wrong(key, &wanted))
    }

    /// Refuses widths that are not multiples of the number of groups (which the normalisation cannot
    /// have) or of 4 (which the layout of activations cannot).
    pub fn check_widths(&self, key: &str, widths: &[usize], groups: usize) -> Result<()> {
        if widths.iter().any(|w| w % groups != 0) {
            return Err(self.wrong(key, &format!("multiples of norm_num_groups, {groups}")));
        }
        if widths.iter().any(|w| w % 4 != 0) {
            return Err(self.unsupported(key, "multiples of 4"));
        }
        Ok(())
    }
}

/// The largest head of the attention kernels (`HEAD` of kernels/variants.txt, in single channels).
pub const MAX_HEAD: usize = 512;

const COUNT: &str = "a whole number from 1 to 1048576";

fn as_count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|n| (1..=MAX_NUMBER).contains(n)).map(|n| n as usize)
}
