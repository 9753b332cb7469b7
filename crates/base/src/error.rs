//! One error type: a stable code for programs, a sentence for people.

use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// The codes, each with its word.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $word:literal,)*) => {
        /// What went wrong, as a word that programs may rely on. `as_str` is the code that the browser sees.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            const ALL: &[Code] = &[$(Code::$code),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$code => $word,)*
                }
            }
        }
    };
}

codes! {
    /// An argument of the caller's is out of its range.
    InvalidOption = "invalid-option",
    /// What was given as an image cannot be decoded.
    InvalidImage = "invalid-image",
    /// A file of the model is damaged or contradicts its configuration.
    InvalidModel = "invalid-model",
    /// The model asks for something that is not built yet.
    Unsupported = "unsupported",
    /// A file that is needed does not exist.
    NotFound = "not-found",
    /// What was read is not what its hash says.
    Integrity = "integrity",
    /// A network computed values that are infinite or not a number, and no image can come of them.
    NotFinite = "not-finite",
    /// The server wants credentials, or a licence to be accepted.
    Access = "access",
    /// The network or the disk failed while reading.
    Network = "network",
    /// There is no WebGPU adapter, or none that matches.
    NoAdapter = "no-adapter",
    /// The request does not fit the limits of this GPU.
    LimitTooLow = "limit-too-low",
    /// The GPU ran out of memory.
    OutOfMemory = "out-of-memory",
    /// The GPU device was lost.
    DeviceLost = "device-lost",
    /// The caller cancelled.
    Cancelled = "cancelled",
    /// What goes on has lost its owner.
    Disposed = "disposed",
    /// A mistake of our own.
    Internal = "internal",
}

impl Code {
    /// The code of a word.
    pub fn parse(word: &str) -> Option<Code> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
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
        write!(f, "{} ({})", shown(&self.message), self.code.as_str())
    }
}

impl std::error::Error for Error {}

/// The most characters of a message that anybody is shown.
const LONGEST: usize = 500;

/// A message as people and programs see it: [`plain`], and of a long one the middle is left out, since its beginning tells
/// where something is wrong and its end what was found.
pub fn shown(message: &str) -> String {
    let message = plain(message);
    let length = message.chars().count();
    if length <= LONGEST {
        return message;
    }
    let (gap, end) = (" ... ", LONGEST / 3);
    let begin = LONGEST - end - gap.len();
    let head: String = message.chars().take(begin).collect();
    head + gap + &message.chars().skip(length - end).collect::<String>()
}

/// A text without the characters that a terminal obeys, which names in a file may hold: they are escaped, and ends of
/// lines are spaces.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => plain.push(' '),
            // The latter end lines, or turn the direction of what follows.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                plain.extend(c.escape_unicode());
            }
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_in_the_middle() {
        let message = |name: usize| format!("file: {}: wanted 1, found 2", "\u{e9}".repeat(name));
        assert_eq!(shown(&message(475)), message(475));
        assert_eq!(message(475).chars().count(), 500);
        for name in [476, 100_000] {
            let cut = shown(&message(name));
            assert_eq!(cut.chars().count(), 500);
            assert!(cut.starts_with("file: \u{e9}") && cut.ends_with("\u{e9}: wanted 1, found 2"), "{cut}");
            assert!(cut.contains("\u{e9} ... \u{e9}"), "{cut}");
        }
    }

    #[test]
    fn no_terminal_obeys_a_message() {
        let name = "a\u{1b}[31mb\r\nc\u{7}\u{9b}2Jd\u{7f}\u{202e}e\u{2066}\u{2029}\0";
        let wanted = r"a\u{1b}[31mb  c\u{7}\u{9b}2Jd\u{7f}\u{202e}e\u{2066}\u{2029}\u{0}";
        assert_eq!(plain(name), wanted);
        assert_eq!(Error::model(name).to_string(), format!("{wanted} (invalid-model)"));
        let letters = "caf\u{e9} \u{732b} \u{1f431} \u{5d0}\u{200f} e\u{301}";
        assert_eq!(shown(letters), letters);
    }

    #[test]
    fn every_code_is_found_by_its_word() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
        assert_eq!(Code::parse("invalid-image"), Some(Code::InvalidImage));
        assert_eq!(Code::parse("network failure"), None);
    }
}
