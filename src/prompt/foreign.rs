//! Syntax of other tools that is not run here: whoever writes it into a prompt is told that it was read as words.

use crate::tokenizer::is_word;

/// What other tools make of it. What is [`Kind::in_weighted`] is run in weighted prompts.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// `<lora:name:0.8>`, `<hypernet:name:1>`
    Addition,
    /// `embedding:name`
    Embedding,
    /// `[from:to:0.5]`, `[to:0.5]`
    Editing,
    /// `[a|b]`
    Alternation,
    /// `{a|b}`, `{{a}}`
    Braces,
    /// `__colours__`
    Wildcard,
    /// `a AND b`
    Command,
    /// `--ar 3:2`
    Parameter,
    /// `a::2 b`, `cat++`, `(a cat)++`
    Mark,
    /// `(a:1.2)`, `((a))`, `[[a]]`
    Weight,
    /// `\(a\)`
    Escape,
    /// `a BREAK b`
    Break,
}

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Kind::Addition => "which loads a LoRA or the like",
            Kind::Embedding => "which names an embedding, here known by its name alone",
            Kind::Editing => "which changes the prompt between steps",
            Kind::Alternation => "which takes turns from step to step",
            Kind::Braces => "which is a choice or a weight",
            Kind::Wildcard => "which stands for words of a list",
            Kind::Command => "which combines prompts",
            Kind::Parameter => "which is an option",
            Kind::Mark | Kind::Weight => "which is a weight",
            Kind::Escape => "which is a bracket",
            Kind::Break => "which begins a new chunk",
        }
    }

    fn in_weighted(self) -> bool {
        matches!(self, Kind::Weight | Kind::Escape | Kind::Break)
    }
}

/// Words in capitals that combine prompts, by themselves or for regions of the picture.
const COMMANDS: [&str; 7] = ["AND", "AND_PERP", "AND_SALT", "ADDBASE", "ADDCOL", "ADDCOMM", "ADDROW"];

/// How many brackets within one another are looked at.
const DEEPEST: usize = 64;

/// A sentence for each kind of syntax that is not run, with the first of it that was found.
pub fn foreign(prompt: &str, weighted: bool) -> Vec<String> {
    let mut found = Found { prompt, weighted, all: vec![] };
    found.brackets();
    found.words();
    let sentence = |(kind, text): &(Kind, &str)| {
        let advice = if kind.in_weighted() { "; in a weighted prompt it would count" } else { "" };
        format!("the prompt has {text:?}, {} in other tools: it was read as plain words{advice}", kind.what())
    };
    found.all.iter().map(sentence).collect()
}

/// What was found in a prompt.
struct Found<'a> {
    prompt: &'a str,
    weighted: bool,
    all: Vec<(Kind, &'a str)>,
}

/// A bracket that is open.
struct Open {
    /// What will close it.
    closing: u8,
    at: usize,
    /// The last colon directly in it.
    colon: Option<usize>,
    bar: bool,
}

impl<'a> Found<'a> {
    fn note(&mut self, kind: Kind, begin: usize, end: usize) {
        let known = self.all.iter().any(|(other, _)| *other == kind);
        let run = self.weighted && kind.in_weighted();
        if !known && !run {
            self.all.push((kind, &self.prompt[begin..end]));
        }
    }

    /// Everything that brackets are a part of, and colons.
    fn brackets(&mut self) {
        let bytes = self.prompt.as_bytes();
        let mut open: Vec<Open> = vec![];
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at..] {
                [b'\\', b'(' | b')' | b'[' | b']', ..] => {
                    self.note(Kind::Escape, at, at + 2);
                    at += 1;
                }
                [b'(' | b'[' | b'{', ..] if open.len() < DEEPEST => {
                    let closing = match bytes[at] {
                        b'(' => b')',
                        b'[' => b']',
                        _ => b'}',
                    };
                    open.push(Open { closing, at, colon: None, bar: false });
                }
                [closing @ (b')' | b']' | b'}'), ..] => {
                    if let Some(i) = open.iter().rposition(|o| o.closing == closing) {
                        let doubled = bytes.get(at + 1) == Some(&closing)
                            && i > 0
                            && (open[i - 1].closing, open[i - 1].at + 1) == (closing, open[i].at);
                        self.closed(&open[i], at, doubled);
                        open.truncate(i);
                    }
                }
                [b':', b':', ..] if open.last().is_none_or(|o| o.closing != b']') => {
                    self.note(Kind::Mark, at, at + 2);
                }
                [b':', ..] => open.iter_mut().last().into_iter().for_each(|o| o.colon = Some(at)),
                [b'|', ..] => open.iter_mut().last().into_iter().for_each(|o| o.bar = true),
                [b'<', ..] => {
                    let rest = &self.prompt[at + 1..];
                    let inner = rest.split(['<', '>']).next().unwrap_or_default();
                    let named = inner.split_once(':').is_some_and(|(name, argument)| {
                        let letter = |c: char| c.is_alphanumeric() || c == '_';
                        !argument.is_empty() && !name.is_empty() && name.chars().all(letter)
                    });
                    if named && rest[inner.len()..].starts_with('>') {
                        self.note(Kind::Addition, at, at + inner.len() + 2);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Brackets from `open` to `end`; `doubled` if others lie close around them.
    fn closed(&mut self, open: &Open, end: usize, doubled: bool) {
        let number = open.colon.is_some_and(|colon| self.is_number(colon, end));
        let kind = match open.closing {
            b'}' if open.at + 1 < end => Kind::Braces,
            b']' if open.bar => Kind::Alternation,
            b']' if number => Kind::Editing,
            b')' if number => Kind::Weight,
            b')' | b']' if doubled => Kind::Weight,
            _ => return,
        };
        self.note(kind, open.at, end + 1);
    }

    /// Whether a number that is no time of day stands between a colon and the end of its brackets.
    fn is_number(&self, colon: usize, end: usize) -> bool {
        let number = self.prompt[colon + 1..end].trim();
        let all = |text: &str, others: &str| {
            text.chars().all(|c| c.is_ascii_digit() || others.contains(c)) && !text.is_empty()
        };
        let before = self.prompt[..colon].rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let time = all(before, "") && all(number, "");
        !time && all(number, "+-.") && number.parse::<f32>().is_ok()
    }

    fn words(&mut self) {
        let prompt = self.prompt;
        // In a prompt that is all in capitals these are words like any other.
        if prompt.chars().any(char::is_lowercase) {
            let commands = COMMANDS.map(|word| (Kind::Command, word));
            for (kind, word) in commands.into_iter().chain([(Kind::Break, super::BREAK)]) {
                for (at, _) in prompt.match_indices(word) {
                    if is_word(prompt, at..at + word.len()) {
                        self.note(kind, at, at + word.len());
                    }
                }
            }
        }
        let mut at = 0;
        for word in prompt.split([' ', '\n', '\t', ',', '(', ')', '[', ']', '"']) {
            let (begin, end) = (at, at + word.len());
            // What it is split at has one byte.
            at = end + 1;
            let inner = |before: &str, after: &str| {
                let inner = word.strip_prefix(before)?.strip_suffix(after)?;
                inner.chars().next().filter(|c| c.is_alphanumeric())
            };
            let behind = prompt[..begin].chars().next_back();
            if inner("embedding:", "").is_some() {
                self.note(Kind::Embedding, begin, end);
            } else if inner("__", "__").is_some() {
                self.note(Kind::Wildcard, begin, end);
            } else if inner("--", "").is_some() && behind == Some(' ') {
                self.note(Kind::Parameter, begin, end);
            } else if ["++", "--"].iter().any(|mark| word.starts_with(mark))
                && matches!(behind, Some(')' | '"'))
            {
                self.note(Kind::Mark, begin, begin + 2);
            } else if word.len() > 4 && inner("", "++").is_some() {
                self.note(Kind::Mark, begin, end);
            }
        }
    }
}

#[cfg(test)]
mod tests;
