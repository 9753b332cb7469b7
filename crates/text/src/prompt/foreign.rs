//! Syntax of other tools that is not run here: whoever writes it into a prompt is told that it was read as words.
//!
//! ```text
//! <lora:name:0.8>  <hypernet:name:1>  embedding:name     additions to the model
//! [from:to:0.5]  [to:0.5]  [a|b]                         what changes from step to step
//! {a|b}  {{a}}  __colours__                              choices
//! a AND b  a ADDCOL b                                    several prompts, or regions
//! --ar 3:2  a::2 b  cat++  (a cat)++                     options and weights
//! (a:1.2)  ((a))  [[a]]  \(a\)  a BREAK b                run in weighted prompts
//! ```

/// A sentence for what is never run and one for what only a weighted prompt runs, if there is any.
pub fn foreign(prompt: &str, weighted: bool) -> Vec<String> {
    // In a prompt that is all in capitals, words in capitals are words like any other.
    let capitals = !prompt.bytes().any(|byte| byte.is_ascii_lowercase());
    let mut found = Found { text: prompt.as_bytes(), prompt, capitals, lists: Default::default() };
    found.look();
    let [never, plainly] = found.lists;
    let mut sentences = vec![];
    for (list, end, run) in [(never, "", false), (plainly, "; a weighted prompt has it run", weighted)] {
        if !list.is_empty() && !run {
            let list = list.join("\", \"");
            sentences.push(
                ["the prompt has \"", &list, "\", which other tools run: it was read as plain words", end]
                    .concat(),
            );
        }
    }
    sentences
}

struct Found<'a> {
    text: &'a [u8],
    prompt: &'a str,
    capitals: bool,
    /// What was found: what is never run, and what is run in weighted prompts.
    lists: [Vec<&'a str>; 2],
}

/// A bracket that is open.
#[derive(Clone, Copy)]
struct Open {
    /// What will close it.
    closing: u8,
    at: usize,
    /// The last colon directly in it, or its own place.
    colon: usize,
    bar: bool,
}

/// Words in capitals that combine prompts, by themselves or for regions of the image, and the one that is run.
const COMMANDS: [&[u8]; 8] =
    [b"AND", b"AND_PERP", b"AND_SALT", b"ADDBASE", b"ADDCOL", b"ADDCOMM", b"ADDROW", b"BREAK"];

/// How many brackets within one another are looked at.
const DEEPEST: usize = 64;

const NEVER: usize = 0;
const PLAINLY: usize = 1;

impl Found<'_> {
    #[inline(never)]
    fn note(&mut self, list: usize, begin: usize, end: usize) {
        let (list, text) = (&mut self.lists[list], &self.prompt[begin..end]);
        // More than a message can hold would only take time.
        if list.len() < 100 && !list.contains(&text) {
            list.push(text);
        }
    }

    #[inline(never)]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(b' ')
    }

    /// Where the first byte that is none of these stands.
    #[inline(never)]
    fn end_of(&self, mut at: usize, inside: fn(u8) -> bool) -> usize {
        while at < self.text.len() && inside(self.text[at]) {
            at += 1;
        }
        at
    }

    #[inline(never)]
    fn look(&mut self) {
        let mut open: Vec<Open> = vec![];
        let mut at = 0;
        while at < self.text.len() {
            let next = self.byte(at + 1);
            let mut end = at + 1;
            match self.byte(at) {
                b'\\' if matches!(next, b'(' | b')' | b'[' | b']') => {
                    end += 1;
                    self.note(PLAINLY, at, end);
                }
                // The code of what closes stands one or two behind that of what opens.
                byte @ (b'(' | b'[' | b'{') if open.len() < DEEPEST => {
                    let closing = byte + 1 + u8::from(byte != b'(');
                    open.push(Open { closing, at, colon: at, bar: false });
                }
                byte @ (b')' | b']' | b'}') => {
                    if let Some(i) = open.iter().rposition(|o| o.closing == byte) {
                        self.close(open[i], &open[..i], at);
                        open.truncate(i);
                    }
                }
                b':' if next == b':' && open.last().is_none_or(|o| o.closing != b']') => {
                    self.note(NEVER, at, at + 2);
                }
                b':' => open.iter_mut().last().into_iter().for_each(|o| o.colon = at),
                b'|' => open.iter_mut().last().into_iter().for_each(|o| o.bar = true),
                b'<' => {
                    let colon = self.end_of(end, letter);
                    let last = self.end_of(colon, |byte| byte != b'<' && byte != b'>');
                    if colon > end && self.byte(colon) == b':' && last > colon + 1 && self.byte(last) == b'>'
                    {
                        self.note(NEVER, at, last + 1);
                    }
                }
                b'-' if next == b'-' && letter(self.byte(at + 2)) && at > 0 && self.byte(at - 1) == b' ' => {
                    self.note(NEVER, at, self.end_of(at, in_token));
                }
                byte if letter(byte) => {
                    end = self.end_of(at, letter);
                    self.word(at, end);
                }
                _ => {}
            }
            at = end;
        }
    }

    /// Brackets that end here, within others.
    #[inline(never)]
    fn close(&mut self, open: Open, around: &[Open], at: usize) {
        let close = open.closing;
        let doubled = self.byte(at + 1) == close
            && around.last().is_some_and(|o| (o.closing, o.at + 1) == (close, open.at));
        let number = open.colon > open.at && self.is_number(open.colon, at);
        if close == b'}' && open.at + 1 < at || close == b']' && (open.bar || number) {
            self.note(NEVER, open.at, at + 1);
        } else if number || doubled {
            self.note(PLAINLY, open.at, at + 1);
        }
        let marks = [self.byte(at + 1), self.byte(at + 2)];
        if close == b')' && (marks == *b"++" || marks == *b"--") {
            self.note(NEVER, at + 1, at + 3);
        }
    }

    /// Whether a number that is no time of day stands between a colon and the end of its brackets.
    #[inline(never)]
    fn is_number(&self, colon: usize, end: usize) -> bool {
        let (mut digits, mut others) = (0, 0);
        for &byte in &self.text[colon + 1..end] {
            match byte {
                b'0'..=b'9' => digits += 1,
                b'.' | b'+' | b'-' | b' ' => others += 1,
                _ => return false,
            }
        }
        let mut begin = colon;
        while begin > 0 && self.byte(begin - 1).is_ascii_digit() {
            begin -= 1;
        }
        let time = begin < colon && !letter(self.byte(begin.wrapping_sub(1))) && others == 0;
        digits > 0 && !time
    }

    #[inline(never)]
    fn word(&mut self, at: usize, end: usize) {
        let token = self.end_of(at, in_token);
        let word = &self.text[at..end];
        let followed = [self.byte(end), self.byte(end + 1)];
        let wildcard = word.starts_with(b"__") && token > at + 4 && self.text[at..token].ends_with(b"__");
        let embedding = word == b"embedding" && followed[0] == b':' && letter(followed[1]);
        if COMMANDS.contains(&word) {
            if !self.capitals {
                self.note(usize::from(word == b"BREAK"), at, end);
            }
        } else if wildcard || embedding {
            self.note(NEVER, at, token);
        } else if word.len() > 2 && followed == *b"++" {
            self.note(NEVER, at, end + 2);
        }
    }
}

/// Of a word; letters beyond ASCII have such bytes alone.
fn letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 128
}

fn in_token(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b',' | b'(' | b')' | b'[' | b']')
}

#[cfg(test)]
mod tests;
