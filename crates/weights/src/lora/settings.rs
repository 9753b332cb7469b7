//! peft's configuration of an adapter, which diffusers writes into a file's header.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::pattern::Pattern;
use crate::error::{Error, Result};
use crate::json;
use crate::safetensors::Entries;

/// Where a header has it.
const KEY: &str = "lora_adapter_metadata";

/// Components with a configuration of their own; one without a component's name is for all others.
const COMPONENTS: [&str; 3] = ["unet", "text_encoder", "text_encoder_2"];

#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<&'static str, Config>);

/// What peft's `LoraConfig` has of it.
#[derive(Clone, Debug)]
struct Config {
    alpha: f64,
    rank: Option<f64>,
    /// In the order of the file: the first that matches counts.
    alphas: Vec<(Pattern, f64)>,
    ranks: Vec<(Pattern, f64)>,
    /// Alpha is over the root of the rank.
    root: bool,
    /// Every matrix has a magnitude.
    dora: bool,
}

impl Default for Config {
    /// peft's own.
    fn default() -> Config {
        Config { alpha: 8.0, rank: None, alphas: vec![], ranks: vec![], root: false, dora: false }
    }
}

/// A value of the configuration: patterns keep their order.
enum Field {
    Pattern(Entries<Value>),
    Other(Value),
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Field, A::Error> {
                let mut entries = vec![];
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Field::Pattern(Entries(entries)))
            }

            /// No list is of interest.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Field, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other(Value::Array(vec![])))
            }

            fn visit_bool<E>(self, value: bool) -> std::result::Result<Field, E> {
                Ok(Field::Other(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> std::result::Result<Field, E> {
                Ok(Field::Other(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> std::result::Result<Field, E> {
                Ok(Field::Other(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> std::result::Result<Field, E> {
                Ok(Field::Other(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> std::result::Result<Field, E> {
                Ok(Field::Other(value.into()))
            }

            fn visit_unit<E>(self) -> std::result::Result<Field, E> {
                Ok(Field::Other(Value::Null))
            }
        }
        deserializer.deserialize_any(Each)
    }
}

impl Settings {
    pub fn parse(metadata: &BTreeMap<String, String>) -> Result<Settings> {
        let Some(json) = metadata.get(KEY) else { return Ok(Settings::default()) };
        let Entries(fields) = json::check(json.as_bytes())
            .and_then(|()| serde_json::from_str::<Entries<Field>>(json))
            .map_err(|e| Error::model(format!("{KEY} of the header is not valid JSON: {e}")))?;
        let mut settings = Settings::default();
        for (key, field) in &fields {
            let own = COMPONENTS.iter().find_map(|c| Some((*c, key.strip_prefix(c)?.strip_prefix('.')?)));
            let (component, name) = own.unwrap_or(("", key));
            settings.0.entry(component).or_default().set(name, key, field)?;
        }
        Ok(settings)
    }

    /// What alpha over the rank is for the module of this path, if the file says so.
    ///
    /// Errors: a rank that is not that of the tensors.
    pub fn factor(&self, component: &str, path: &str, rank: usize, tensor: &str) -> Result<Option<f32>> {
        let Some(config) = self.of(component) else { return Ok(None) };
        // transformers 5 has paths without the model inside the model.
        let paths = [Some(path), path.strip_prefix("text_model.")];
        let is_for = |pattern: &Pattern| paths.into_iter().flatten().any(|path| pattern.matches(path));
        let pick = |patterns: &[(Pattern, f64)]| {
            patterns.iter().find(|(pattern, _)| is_for(pattern)).map(|(_, value)| *value)
        };
        let wanted = pick(&config.ranks).or(config.rank);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != rank as f64) {
            return Err(Error::model(format!(
                "{tensor}: {KEY} of the header asks for the rank {wanted}, the file has {rank}"
            )));
        }
        let alpha = pick(&config.alphas).unwrap_or(config.alpha);
        let rank = rank as f64;
        Ok(Some((alpha / if config.root { rank.sqrt() } else { rank }) as f32))
    }

    /// Whether every matrix of a component must have a magnitude.
    pub fn is_dora(&self, component: &str) -> bool {
        self.of(component).is_some_and(|config| config.dora)
    }

    fn of(&self, component: &str) -> Option<&Config> {
        self.0.get(component).or(self.0.get(""))
    }
}

impl Config {
    fn set(&mut self, name: &str, key: &str, field: &Field) -> Result<()> {
        let wrong = |wanted: &str, found: &Value| {
            Error::model(format!("{KEY} of the header: {key} is {found}, wanted {wanted}"))
        };
        let number = |value: &Value| value.as_f64().ok_or_else(|| wrong("a number", value));
        match (name, field) {
            ("lora_alpha" | "r" | "use_rslora" | "use_dora", Field::Pattern(_)) => {
                return Err(Error::model(format!("{KEY} of the header: {key} is an object, wanted a value")));
            }
            ("alpha_pattern" | "rank_pattern", Field::Pattern(Entries(entries))) => {
                let in_header =
                    |e: Error| Error::new(e.code, format!("{KEY} of the header: {key}: {}", e.message));
                let each = entries
                    .iter()
                    .map(|(pattern, value)| Ok((Pattern::new(pattern).map_err(in_header)?, number(value)?)));
                let patterns = each.collect::<Result<Vec<_>>>()?;
                *(if name == "alpha_pattern" { &mut self.alphas } else { &mut self.ranks }) = patterns;
            }
            ("alpha_pattern" | "rank_pattern", Field::Other(value)) if !value.is_null() => {
                return Err(wrong("an object", value));
            }
            ("lora_alpha", Field::Other(value)) => self.alpha = number(value)?,
            ("r", Field::Other(value)) => self.rank = Some(number(value)?),
            ("use_rslora" | "use_dora", Field::Other(value)) if !value.is_null() => {
                let flag = value.as_bool().ok_or_else(|| wrong("true or false", value))?;
                *(if name == "use_dora" { &mut self.dora } else { &mut self.root }) = flag;
            }
            // These begin with other weights than the model has.
            ("init_lora_weights", Field::Other(Value::String(way)))
                if ["pissa", "olora", "corda", "loftq"].iter().any(|other| way.starts_with(other)) =>
            {
                return Err(Error::unsupported(format!(
                    "{KEY} of the header: {key} is {way}, which changes the model's own weights"
                )));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(json: &str, component: &str, path: &str, rank: usize) -> Result<Option<f32>> {
        let metadata = BTreeMap::from([(KEY.to_owned(), json.to_owned())]);
        Settings::parse(&metadata)?.factor(component, path, rank, "the tensor")
    }

    #[test]
    fn patterns_as_peft_matches_them() {
        let json = r#"{"unet.lora_alpha": 4, "unet.r": 4, "unet.alpha_pattern":
            {"b.c": 8, "c": 16, "^a\\.d": 2, "mid.*\\.to_[qk]": 1, "d": 12}}"#;
        // The first that matches the end behind a dot, or the whole, in the order of the file.
        let cases = [
            ("a.b.c", 2.0),
            ("b.c", 2.0),
            ("a.xb.c", 4.0),
            ("x.c", 4.0),
            ("xc", 1.0),
            ("a.d", 0.5),
            ("x.a.d", 3.0),
            ("mid_block.x.to_q", 0.25),
            ("mid_block.x.to_v", 1.0),
            ("c.x", 1.0),
            ("a.bxc", 2.0),
        ];
        for (path, wanted) in cases {
            assert_eq!(factor(json, "unet", path, 4).unwrap(), Some(wanted), "{path}");
        }
    }

    #[test]
    fn each_component_has_its_own() {
        let json =
            r#"{"unet.lora_alpha": 8, "unet.r": 2, "text_encoder_2.lora_alpha": 1.5, "text_encoder_2.r": 2}"#;
        let wanted = [("unet", Some(4.0)), ("text_encoder", None), ("text_encoder_2", Some(0.75))];
        for (component, wanted) in wanted {
            assert_eq!(factor(json, component, "a", 2).unwrap(), wanted, "{component}");
        }
        let anchored = r#"{"text_encoder.alpha_pattern": {"^encoder\\.a$": 2}, "text_encoder.r": 2}"#;
        for path in ["text_model.encoder.a", "encoder.a"] {
            assert_eq!(factor(anchored, "text_encoder", path, 2).unwrap(), Some(1.0), "{path}");
        }
        // One that names none is for the network that the file is for, and what it does not say is as peft has it.
        for (json, wanted) in [
            (r#"{"lora_alpha": 8, "r": 4, "alpha_pattern": {}, "use_rslora": true}"#, 4.0),
            (r#"{"target_modules": ["to_q"], "use_dora": null}"#, 2.0),
        ] {
            assert_eq!(factor(json, "unet", "a", 4).unwrap(), Some(wanted), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let too_much = format!(r#"{{"a": [{}0]}}"#, "[[]],".repeat(1 << 18));
        let cases = [
            ("{", "not valid JSON"),
            (r#"{"unet.lora_alpha": null}"#, "unet.lora_alpha is null, wanted a number"),
            (r#"{"unet.lora_alpha": {}}"#, "unet.lora_alpha is an object"),
            (r#"{"unet.alpha_pattern": 3}"#, "unet.alpha_pattern is 3, wanted an object"),
            (r#"{"unet.alpha_pattern": {"a": "b"}}"#, "wanted a number"),
            (r#"{"unet.use_rslora": 1}"#, "true or false"),
            (
                r#"{"unet.r": 8}"#,
                "the tensor: lora_adapter_metadata of the header asks for the rank 8, the file has 4",
            ),
            (r#"{"unet.r": 4, "unet.rank_pattern": {"a": 2}}"#, "the rank 2"),
            (r#"{"unet.alpha_pattern": {"(": 2}}"#, "unet.alpha_pattern: the pattern \"(\" cannot be read"),
            (
                r#"{"unet.rank_pattern": {"(?!a)": 2}}"#,
                "unet.rank_pattern: the pattern \"(?!a)\" cannot be read",
            ),
            (&too_much, "wanted values of at most"),
            (r#"{"unet.init_lora_weights": "pissa_niter_4"}"#, "pissa_niter_4"),
        ];
        for (json, words) in cases {
            let e = factor(json, "unet", "a", 4).unwrap_err();
            assert!(e.message.contains(words) && e.message.contains(KEY), "{json}: {e}");
        }
    }
}
