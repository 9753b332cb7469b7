//! Keys of peft's patterns: regular expressions of Python's for paths of modules.
//!
//! They come from strangers' files, so they are matched here, in time that grows with the length of the path times that of
//! the expression: an engine that tries one way after the other, as browsers have, can be kept busy for years.

use crate::error::{Error, Result};

/// An expression of more characters is refused: most are a path.
const LONGEST: usize = 1 << 10;

/// What repetitions may make of one, in steps.
const STEPS: usize = 1 << 12;

/// An expression for a path's whole, or for its end behind a dot.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// A path as it is, whose dots are any character.
    Path(String),
    Steps(Vec<Step>),
}

/// A step of the match; jumps are relative to it.
#[derive(Clone, Debug)]
pub enum Step {
    /// A character that is in one of these ranges, or in none of them.
    One {
        ranges: Vec<(char, char)>,
        inside: bool,
    },
    Begin,
    End,
    Jump(isize),
    /// Both the next step and this one.
    Fork(isize),
}

impl Pattern {
    /// Errors: `InvalidModel` for what is no expression, `Unsupported` for look-around, back references and other rare ones.
    pub fn new(text: &str) -> Result<Pattern> {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            return Ok(Pattern::Path(text.to_owned()));
        }
        let parsed = match text.chars().count() {
            length if length > LONGEST => {
                Err(Error::unsupported(format!("wanted at most {LONGEST} characters, found {length}")))
            }
            _ => Parser { rest: text }.whole(),
        };
        let why = |e: Error| {
            let short: String = text.chars().take(100).collect();
            Error::new(e.code, format!("the pattern {short:?} cannot be read: {}", e.message))
        };
        parsed.map(Pattern::Steps).map_err(why)
    }

    /// Whether it is for the module of this path.
    pub fn matches(&self, path: &str) -> bool {
        let behind_dots = path.match_indices('.').map(|(i, _)| i + 1);
        match self {
            Pattern::Path(end) => {
                let same = |(a, b): (u8, u8)| a == b || b == b'.';
                std::iter::once(0)
                    .chain(behind_dots)
                    .map(|begin| &path.as_bytes()[begin..])
                    .any(|rest| rest.len() == end.len() && rest.iter().copied().zip(end.bytes()).all(same))
            }
            Pattern::Steps(steps) => {
                let mut now = Reached::new(steps.len());
                now.add(steps, 0, 0, path.len());
                let mut begins = behind_dots.peekable();
                for (at, c) in path.char_indices() {
                    if begins.next_if_eq(&at).is_some() {
                        now.add(steps, 0, at, path.len());
                    }
                    let mut next = Reached::new(steps.len());
                    for step in now.list {
                        if matches!(&steps[step], Step::One { ranges, inside }
                            if ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) == *inside)
                        {
                            next.add(steps, step + 1, at + c.len_utf8(), path.len());
                        }
                    }
                    now = next;
                }
                if begins.next().is_some() {
                    now.add(steps, 0, path.len(), path.len());
                }
                now.done
            }
        }
    }
}

/// The steps that wait for one character of the path, each once.
struct Reached {
    seen: Vec<bool>,
    list: Vec<usize>,
    /// Whether the expression is at its end.
    done: bool,
}

impl Reached {
    fn new(steps: usize) -> Reached {
        Reached { seen: vec![false; steps], list: vec![], done: false }
    }

    /// A step, and those that it leads to without a character, at this place of a path of this length.
    fn add(&mut self, steps: &[Step], first: usize, at: usize, length: usize) {
        let mut open = vec![first];
        while let Some(step) = open.pop() {
            let Some(seen) = self.seen.get_mut(step) else {
                self.done = true;
                continue;
            };
            if std::mem::replace(seen, true) {
                continue;
            }
            let jump = |by: isize| step.wrapping_add_signed(by);
            match &steps[step] {
                Step::One { .. } => self.list.push(step),
                Step::Begin => open.extend((at == 0).then_some(step + 1)),
                Step::End => open.extend((at == length).then_some(step + 1)),
                Step::Jump(by) => open.push(jump(*by)),
                Step::Fork(by) => open.extend([step + 1, jump(*by)]),
            }
        }
    }
}

/// What of an expression is still to be read.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn whole(mut self) -> Result<Vec<Step>> {
        let steps = self.either()?;
        if self.rest.is_empty() { Ok(steps) } else { Err(Error::model("a ) has no (")) }
    }

    /// Sequences with bars between them.
    fn either(&mut self) -> Result<Vec<Step>> {
        let one = self.sequence()?;
        if !self.eat("|") {
            return Ok(one);
        }
        let other = self.either()?;
        let fork = Step::Fork(one.len() as isize + 2);
        let jump = Step::Jump(other.len() as isize + 1);
        Ok([vec![fork], one, vec![jump], other].concat())
    }

    fn sequence(&mut self) -> Result<Vec<Step>> {
        let mut steps = vec![];
        while self.peek().is_some_and(|c| !"|)".contains(c)) {
            let part = self.part()?;
            steps.extend(self.repeated(part)?);
        }
        Ok(steps)
    }

    fn part(&mut self) -> Result<Vec<Step>> {
        let one = |ranges| Step::One { ranges, inside: true };
        Ok(vec![match self.take().expect("a part") {
            '(' => {
                if self.rest.starts_with('?') && !self.eat("?:") {
                    let what: String = self.rest.chars().take(3).collect();
                    return Err(Error::unsupported(format!(
                        "wanted a group without look-around, names and flags, found ({what}"
                    )));
                }
                let steps = self.either()?;
                return if self.eat(")") { Ok(steps) } else { Err(Error::model("a ( has no )")) };
            }
            '[' => self.class()?,
            '.' => Step::One { ranges: vec![('\n', '\n')], inside: false },
            '^' => Step::Begin,
            '$' => Step::End,
            '\\' => {
                let (ranges, inside) = self.escaped()?;
                Step::One { ranges, inside }
            }
            c @ ('*' | '+' | '?' | '{') => return Err(Error::model(format!("nothing stands before {c}"))),
            c => one(vec![(c, c)]),
        }])
    }

    /// What stands behind a backslash: a kind of characters, or a sign itself.
    fn escaped(&mut self) -> Result<(Vec<(char, char)>, bool)> {
        let digits = vec![('0', '9')];
        let word = vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
        let space = vec![(' ', ' '), ('\t', '\r')];
        match self.take() {
            Some('d') => Ok((digits, true)),
            Some('D') => Ok((digits, false)),
            Some('w') => Ok((word, true)),
            Some('W') => Ok((word, false)),
            Some('s') => Ok((space, true)),
            Some('S') => Ok((space, false)),
            Some(c) if !c.is_alphanumeric() => Ok((vec![(c, c)], true)),
            Some(c) => Err(Error::unsupported(format!(
                "wanted a sign or one of d, D, w, W, s and S behind \\, found {c}: back references are not supported"
            ))),
            None => Err(Error::model("nothing stands behind \\")),
        }
    }

    fn class(&mut self) -> Result<Step> {
        let (inside, mut ranges) = (!self.eat("^"), vec![]);
        loop {
            let from = match self.take() {
                None => return Err(Error::model("a [ has no ]")),
                Some(']') if !ranges.is_empty() => return Ok(Step::One { ranges, inside }),
                Some('\\') => match self.escaped()? {
                    (_, false) => {
                        return Err(Error::unsupported("wanted no \\D, \\W and \\S between [ and ]"));
                    }
                    (kind, true) => match kind[..] {
                        [(from, to)] if from == to => from,
                        _ => {
                            ranges.extend(kind);
                            continue;
                        }
                    },
                },
                Some(c) => c,
            };
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let to = match is_range && self.eat("-") {
                false => from,
                true => self.take().filter(|to| *to >= from && *to != '\\').ok_or_else(|| {
                    Error::model(format!("wanted the end of a range that begins with {from}"))
                })?,
            };
            ranges.push((from, to));
        }
    }

    /// As often as the sign behind it says.
    fn repeated(&mut self, part: Vec<Step>) -> Result<Vec<Step>> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let wrong = || Error::model("wanted one or two counts between { and }");
                let (counts, _) = self.rest[1..].split_once('}').ok_or_else(wrong)?;
                let number =
                    |text: &str| text.parse::<usize>().ok().filter(|n| *n <= STEPS).ok_or_else(wrong);
                self.rest = &self.rest[counts.len() + 1..];
                match counts.split_once(',') {
                    None => (number(counts)?, Some(number(counts)?)),
                    Some((least, "")) => (number(least)?, None),
                    Some(("", most)) => (0, Some(number(most)?)),
                    Some((least, most)) => (number(least)?, Some(number(most)?)),
                }
            }
            _ => return Ok(part),
        };
        self.take();
        // How much is taken first does not change whether it matches.
        self.eat("?");
        if let Some(c) = self.peek().filter(|c| "*+?{".contains(*c)) {
            return Err(Error::model(format!("{c} stands behind another repetition")));
        }
        let optional = most.map_or(1, |most| most.saturating_sub(least));
        if least > most.unwrap_or(least) || (least + optional) * (part.len() + 2) > STEPS {
            return Err(Error::unsupported(format!("wanted repetitions of at most {STEPS} steps in all")));
        }
        let skip = Step::Fork(part.len() as isize + if most.is_none() { 2 } else { 1 });
        let again = most.is_none().then_some(Step::Jump(-(part.len() as isize) - 1));
        let maybe: Vec<Step> = [skip].into_iter().chain(part.iter().cloned()).chain(again).collect();
        Ok([vec![part; least], vec![maybe; optional]].concat().concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn what_python_matches() {
        let cases: [(&str, &[&str], &[&str]); 17] = [
            ("b.c", &["b.c", "a.b.c", "bxc", "a.bxc"], &["xb.c", "b.c.d", "bc"]),
            ("", &["", "a."], &["a"]),
            (r"b\.c", &["b.c", "a.b.c"], &["bxc"]),
            ("^a$", &["a"], &["x.a"]),
            ("a|b.c|", &["a", "x.a", "b.c", "x."], &["ab.c", "c"]),
            ("(a|bc)d", &["ad", "bcd", "x.bcd"], &["a", "bd", "abcd"]),
            ("(?:a|b)*c+", &["c", "abbacc", "x.c"], &["ab", "acb"]),
            ("a.*b", &["ab", "a.x.b", "x.acb"], &["a.bc", "xab"]),
            ("x.?y+?", &["xy", "xzyy"], &["xzzy", "x"]),
            (r"\d+\.\w", &["12.a", "x.3._"], &["a.b", "1.-", "1a"]),
            (r"\D\S\W\s", &["ab. "], &["1b. ", "a . ", "abc ", "ab.c"]),
            ("to_[qk]", &["to_q", "a.to_k"], &["to_v", "to_"]),
            (r"[^a-c\d.]", &["d", "a.d"], &["a", "c", "5"]),
            (r"[]x\]-]", &["]", "x", "-"], &["a", "\\"]),
            ("a{2}b{1,}c{,2}d{0,1}", &["aab", "aabbccd"], &["ab", "aa", "aabccc", "aabdd"]),
            ("(a*)*", &["", "aaa"], &["b"]),
            ("(^x|y$)z*", &["x", "xz", "y", "a.y"], &["yz", "a.x"]),
        ];
        for (pattern, are, are_not) in cases {
            let parsed = Pattern::new(pattern).unwrap();
            are.iter().for_each(|path| assert!(parsed.matches(path), "{pattern} is for {path}"));
            are_not.iter().for_each(|path| assert!(!parsed.matches(path), "{pattern} is not for {path}"));
        }
    }

    #[test]
    fn what_is_none_and_what_is_not_supported() {
        let long = "a*".repeat(LONGEST);
        let cases = [
            ("(", Code::InvalidModel, "a ( has no )"),
            ("a)", Code::InvalidModel, "a ) has no ("),
            ("[a", Code::InvalidModel, "a [ has no ]"),
            ("[b-a]", Code::InvalidModel, "range that begins with b"),
            ("*a", Code::InvalidModel, "nothing stands before *"),
            ("a**", Code::InvalidModel, "* stands behind another repetition"),
            ("a{x}", Code::InvalidModel, "counts between"),
            ("a\\", Code::InvalidModel, "nothing stands behind \\"),
            ("(?=a)", Code::Unsupported, "look-around, names and flags, found (?=a"),
            ("(?<!a)", Code::Unsupported, "found (?<!"),
            ("(?P<n>a)", Code::Unsupported, "found (?P<"),
            (r"(a)\1", Code::Unsupported, "found 1: back references"),
            (r"\bto", Code::Unsupported, "found b"),
            ("((a{60}){60}){60}", Code::Unsupported, "at most 4096 steps"),
            ("a{3,2}", Code::Unsupported, "repetitions"),
            (&long, Code::Unsupported, "at most 1024 characters, found 2048"),
        ];
        for (pattern, code, words) in cases {
            let e = Pattern::new(pattern).unwrap_err();
            assert_eq!(e.code, code, "{e}");
            let begin = format!("the pattern {:?} cannot be read: ", &pattern[..pattern.len().min(100)]);
            assert!(e.message.starts_with(&begin) && e.message.contains(words), "{e}");
        }
    }

    /// An engine that tries one way after the other needs more steps for each of these than there are atoms.
    #[test]
    fn no_pattern_takes_long() {
        let path = "a".repeat(300);
        for pattern in ["(a+)+b", "(a|a)*b", "((a*)*)*b", &"(a|a?)+".repeat(20), &".*".repeat(400)] {
            assert!(!Pattern::new(&format!("{pattern}!")).unwrap().matches(&path), "{pattern}");
        }
        let deep = "(".repeat(LONGEST / 2) + &")".repeat(LONGEST / 2);
        assert!(Pattern::new(&deep).unwrap().matches("a."));
    }
}
