//! `scheduler_config.json`: explicit keys, read one by one with the defaults of the class that asks.

use super::alphas::ZERO_SNR;
use super::{Scheduler, find, supported};
use crate::error::{Error, Result};
use crate::warning::{Topic, Warning};
use serde_json::{Map, Value};

/// A scheduler's configuration: its class and the keys that the file has.
///
/// Nothing is judged before a schedule is made (see [`Config::check`]), because a file for a class that
/// is not supported may serve another class that is.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    keys: Map<String, Value>,
}

impl Config {
    /// Reads `scheduler_config.json`; `file` is its name in messages. Python's `Infinity` and `NaN`, which
    /// DPM-Solver's files contain, are taken as null.
    ///
    /// # Errors
    /// `invalid-model` if the bytes are not a JSON object.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Config> {
        let keys = crate::json::parse(bytes)
            .and_then(serde_json::from_value)
            .map_err(|e| Error::model(format!("{file} is not a JSON object of scheduler settings: {e}")))?;
        Ok(Config { file: file.to_string(), keys })
    }

    /// These settings for another scheduler class: `name` is a short name ("euler", "dpm++") or a class of
    /// diffusers. Keys that the file does not have, or that it lists as defaults of its own class
    /// (`_use_default_values`), take those of the new class, as `from_config` does in diffusers.
    ///
    /// # Errors
    /// `invalid-option` if there is no such scheduler here.
    pub fn with_class(&self, name: &str) -> Result<Config> {
        let scheduler = find(name).ok_or_else(|| {
            Error::option(format!("there is no scheduler {name:?}; there are {}", supported()))
        })?;
        let mut config = self.with_key("_class_name", scheduler.class);
        if let Some(Value::Array(defaults)) = config.keys.remove("_use_default_values") {
            config.keys.retain(|key, _| !defaults.iter().any(|default| default == key));
        }
        Ok(config)
    }

    /// These settings with one of them replaced, for example `original_inference_steps`. What diffusers
    /// takes as arguments of calls is set in this way too: `eta`, `strength`, `sigmas`, `mu`, `max_timesteps`,
    /// `intermediate_timesteps`.
    pub fn with_key(&self, key: &str, value: impl Into<Value>) -> Config {
        let mut config = self.clone();
        if let Some(Value::Array(defaults)) = config.keys.get_mut("_use_default_values") {
            defaults.retain(|default| default != key);
        }
        config.keys.insert(key.to_string(), value.into());
        config
    }

    /// What the model predicts, as the file says or by default.
    pub fn predicts(&self) -> &str {
        self.keys.get("prediction_type").and_then(Value::as_str).unwrap_or("epsilon")
    }

    /// The class of diffusers that the configuration is for.
    ///
    /// # Errors
    /// `invalid-model` if the file does not say.
    pub fn class(&self) -> Result<&str> {
        let class = self.keys.get("_class_name").and_then(Value::as_str);
        class
            .ok_or_else(|| Error::model(self.keys().place("_class_name", "the scheduler's class is missing")))
    }

    /// Denoising steps when nobody names a number: 4 for LCM and TCD, 2 for SCM; 1 for trailing timesteps, which the models
    /// have that were distilled to one step (SD-Turbo); 20 for others, also for flows, whose files do not say what suits the
    /// model.
    pub fn default_steps(&self) -> usize {
        match (self.consistency(), self.distilled()) {
            (Some(steps), _) => steps,
            (_, true) => 1,
            _ => 20,
        }
    }

    /// What the samples of diffusers' scheduler are multiples of: `sigma_data` of SCM, else 1.
    pub fn unit(&self) -> f32 {
        match self.class() {
            Ok("SCMScheduler") => self.keys().number("sigma_data", 0.5).unwrap_or(0.5) as f32,
            _ => 1.0,
        }
    }

    /// Whether the scheduler is that of a model distilled to few steps, which needs no guidance.
    pub fn distilled(&self) -> bool {
        let keys = self.keys();
        // Models that end in noise alone begin there, in many steps.
        let few =
            keys.word("timestep_spacing") == Some("trailing") && !keys.flag(ZERO_SNR, false).unwrap_or(false);
        self.consistency().is_some() || few
    }

    fn consistency(&self) -> Option<usize> {
        self.row()?.consistency
    }

    fn row(&self) -> Option<&'static Scheduler> {
        find(self.class().ok()?)
    }

    /// Whether a schedule can be made at all: to fail while loading and not later.
    ///
    /// # Errors
    /// The errors of [`super::Schedule::new`] that concern the configuration.
    pub fn check(&self) -> Result<()> {
        // What depends on the size of the image is not known yet.
        super::Schedule::new(&self.with_key("mu", 1.0), 1, 0).map(drop)
    }

    /// Whether the class has no zero terminal signal-to-noise ratio, whatever its file says.
    fn ignores_zero_snr(&self) -> bool {
        self.row().is_some_and(|scheduler| !scheduler.zero_snr)
    }

    /// These settings for a model trained with zero terminal SNR, and what had to change for it, in words: the class, where
    /// it knows no such step, or the key.
    pub fn with_zero_snr(&self) -> Result<(Config, Option<String>)> {
        let (config, changed) = match (self.ignores_zero_snr(), self.keys().flag(ZERO_SNR, false)?) {
            (true, _) => {
                let other = self.with_class("ddim")?;
                let changed = format!("{} has none: {} is taken", self.class()?, other.class()?);
                (other, changed)
            }
            (false, false) => (self.clone(), format!("{ZERO_SNR} is false: the file's is taken")),
            (false, true) => return Ok((self.clone(), None)),
        };
        Ok((config.with_key(ZERO_SNR, true), Some(changed)))
    }

    /// A key that asks for something which the class has not, as in diffusers, where it goes without saying.
    pub fn unused(&self) -> Option<Warning> {
        let (class, keys) = (self.class().ok()?, self.keys());
        (self.ignores_zero_snr() && keys.flag(ZERO_SNR, false).ok()?).then(|| {
            let message =
                format!("true is not used, since {class} has no zero terminal signal-to-noise ratio");
            Warning::new(Topic::Unused, keys.place(ZERO_SNR, &message))
        })
    }

    pub(super) fn keys(&self) -> Keys<'_> {
        Keys { file: &self.file, keys: &self.keys }
    }
}

/// Reads settings with the defaults of one class. Null is the same as absent.
pub(super) struct Keys<'a> {
    pub file: &'a str,
    keys: &'a Map<String, Value>,
}

impl Keys<'_> {
    /// A finite number.
    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        self.read(key, default, "a number", |v| v.as_f64().filter(|n| n.is_finite()))
    }

    /// A finite number, if there is one.
    pub fn given(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, None, "a number", |v| v.as_f64().filter(|n| n.is_finite()).map(Some))
    }

    /// A whole number, possibly negative.
    pub fn integer(&self, key: &str, default: i64) -> Result<i64> {
        self.read(key, default, "a whole number", Value::as_i64)
    }

    /// A whole number from 1 to 100,000.
    pub fn count(&self, key: &str, default: usize) -> Result<usize> {
        // The bound keeps a damaged file from asking for a table that does not fit in memory.
        let wanted = "a whole number between 1 and 100000";
        self.read(key, default, wanted, |v| {
            v.as_u64().filter(|n| (1..=100_000).contains(n)).map(|n| n as usize)
        })
    }

    /// A number from 0 to 1.
    pub fn fraction(&self, key: &str, default: f64) -> Result<f64> {
        let wanted = "a number from 0 to 1";
        self.read(key, default, wanted, |v| v.as_f64().filter(|n| (0.0..=1.0).contains(n)))
    }

    /// The order of a solver that has a first and a second one.
    pub fn order(&self, key: &str, default: usize) -> Result<usize> {
        match self.count(key, default)? {
            order @ (1 | 2) => Ok(order),
            order => {
                Err(Error::unsupported(self.place(key, &format!("{order} is not supported, only 1 and 2"))))
            }
        }
    }

    /// A list of this many numbers above 0, at most 1; none if the key is absent.
    pub fn numbers(&self, key: &str, count: usize) -> Result<Option<Vec<f64>>> {
        let number = |v: &Value| v.as_f64().filter(|&n| n > 0.0 && n <= 1.0);
        let wanted = format!("a list of {count} numbers above 0, at most 1");
        self.read(key, None, &wanted, |v| {
            let list: Option<Vec<f64>> = v.as_array()?.iter().map(number).collect();
            list.filter(|list| list.len() == count).map(Some)
        })
    }

    /// A word, if the key is one.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.keys.get(key)?.as_str()
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.read(key, default, "true or false", Value::as_bool)
    }

    /// One of the named choices.
    pub fn choice<T: Copy>(&self, key: &str, default: &str, choices: &[(&str, T)]) -> Result<T> {
        let name = self.read(key, default.to_string(), "a word", |v| v.as_str().map(str::to_string))?;
        let found = choices.iter().find(|(choice, _)| *choice == name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(choice, _)| format!("{choice:?}")).collect();
            Error::unsupported(
                self.place(key, &format!("{name:?} is not supported, only {}", names.join(", "))),
            )
        })
    }

    /// A setting that is supported in its resting state alone: absent, null or false.
    pub fn must_be_off(&self, key: &str) -> Result<()> {
        match self.keys.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => Ok(()),
            Some(value) => {
                let mut value = value.to_string();
                if value.chars().count() > 40 {
                    value = value.chars().take(40).chain("...".chars()).collect();
                }
                Err(Error::unsupported(
                    self.place(key, &format!("{value} is not supported, only false or null")),
                ))
            }
        }
    }

    /// A sentence about one key of the file.
    pub fn place(&self, key: &str, what: &str) -> String {
        format!("{}, {key}: {what}", self.file)
    }

    fn read<T>(&self, key: &str, default: T, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => read(value).ok_or_else(|| {
                Error::model(self.place(key, &format!("{value} found where {wanted} is wanted")))
            }),
        }
    }
}
