//! Bytes as letters: the alphabet that byte-level vocabularies are written in (GPT-2's).
//!
//! A byte that prints is its own letter; the others get letters from U+0100 on, in order.

/// The letter of every byte.
pub fn letters() -> [char; 256] {
    let mut next = 0x100..;
    std::array::from_fn(|byte| {
        let code = if prints(byte) { byte as u32 } else { next.next().expect("no end") };
        char::from_u32(code).expect("below the surrogates")
    })
}

fn prints(byte: usize) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// What tokens spell. A token with a letter that is no byte is taken as it is written.
pub fn spelled<'a>(tokens: impl Iterator<Item = &'a str>) -> String {
    let letters = letters();
    let byte = |c: char| letters.iter().position(|letter| *letter == c).map(|byte| byte as u8);
    let mut bytes = vec![];
    for token in tokens {
        match token.chars().map(byte).collect::<Option<Vec<u8>>>() {
            Some(all) => bytes.extend(all),
            None => bytes.extend_from_slice(token.as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
