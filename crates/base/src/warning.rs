//! What a caller is told beside a result: a stable code for programs, a sentence for people.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::shown;

/// What a warning is about, as a word that programs may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A value of a file, or one that a network computed, is infinite or not a number.
    NotFinite,
    /// A network was computed in another precision than was asked for, or in one that costs quality.
    Precision,
    /// Something was given up because the device has too little memory.
    Memory,
    /// Part of a prompt was left out, or was read in another way than its syntax suggests.
    Prompt,
    /// Part of a file, or a whole file, was not used.
    Unused,
    /// Two sources of the model's configuration disagree, or one was replaced by a usual value.
    Configuration,
    /// A file could not be compared with a published hash.
    Unverified,
    /// The model is not kept on this device, or was fetched again.
    Cache,
}

impl Topic {
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::NotFinite => "not-finite",
            Topic::Precision => "precision",
            Topic::Memory => "memory",
            Topic::Prompt => "prompt",
            Topic::Unused => "unused",
            Topic::Configuration => "configuration",
            Topic::Unverified => "unverified",
            Topic::Cache => "cache",
        }
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A result that differs from what was asked for. The message names the thing, what was wanted and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub code: Topic,
    #[serde(serialize_with = "as_shown")]
    pub message: String,
}

fn as_shown<S: Serializer>(message: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(message))
}

impl Warning {
    pub fn new(code: Topic, message: impl Into<String>) -> Self {
        Warning { code, message: message.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", shown(&self.message), self.code.as_str())
    }
}
