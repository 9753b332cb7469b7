//! One error type: a stable code for programs, a sentence for people.

use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a word that programs may rely on. `as_str` is the code that the browser sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// An argument of the caller's is out of its range.
    InvalidOption,
    /// A file of the model is damaged or contradicts its configuration.
    InvalidModel,
    /// The model asks for something that is not built yet.
    Unsupported,
    /// A file that is needed does not exist.
    NotFound,
    /// What was read is not what its hash says.
    Integrity,
    /// A network computed values that are infinite or not a number, and no image can come of them.
    NotFinite,
    /// The server wants credentials, or a licence to be accepted.
    Access,
    /// The network or the disk failed while reading.
    Network,
    /// There is no WebGPU adapter, or none that matches.
    NoAdapter,
    /// The request does not fit the limits of this GPU.
    LimitTooLow,
    /// The GPU ran out of memory.
    OutOfMemory,
    /// The GPU device was lost.
    DeviceLost,
    /// The caller cancelled.
    Cancelled,
    /// What goes on has lost its owner.
    Disposed,
    /// A mistake of our own.
    Internal,
}

impl Code {
    const ALL: [Code; 15] = [
        Code::InvalidOption,
        Code::InvalidModel,
        Code::Unsupported,
        Code::NotFound,
        Code::Integrity,
        Code::NotFinite,
        Code::Access,
        Code::Network,
        Code::NoAdapter,
        Code::LimitTooLow,
        Code::OutOfMemory,
        Code::DeviceLost,
        Code::Cancelled,
        Code::Disposed,
        Code::Internal,
    ];

    /// The code of a word.
    pub fn parse(word: &str) -> Option<Code> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidOption => "invalid-option",
            Code::InvalidModel => "invalid-model",
            Code::Unsupported => "unsupported",
            Code::NotFound => "not-found",
            Code::Integrity => "integrity",
            Code::NotFinite => "not-finite",
            Code::Access => "access",
            Code::Network => "network",
            Code::NoAdapter => "no-adapter",
            Code::LimitTooLow => "limit-too-low",
            Code::OutOfMemory => "out-of-memory",
            Code::DeviceLost => "device-lost",
            Code::Cancelled => "cancelled",
            Code::Disposed => "disposed",
            Code::Internal => "internal",
        }
    }
}

/// An error that a caller can act on. The message names the thing, what was wanted and what was found.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: Code,
    pub message: String,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into() }
    }
    pub fn option(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidOption, message)
    }
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidModel, message)
    }
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, message)
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }
    pub fn network(message: impl Into<String>) -> Self {
        Self::new(Code::Network, message)
    }
    pub fn cancelled() -> Self {
        Self::new(Code::Cancelled, "cancelled by the caller")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code.as_str())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_word() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        assert_eq!(Code::parse("network failure"), None);
    }
}
