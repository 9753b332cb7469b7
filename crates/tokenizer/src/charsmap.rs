//! SentencePiece's map of letters to their normal forms: a trie in two arrays in one (a "double array"; the letters of a
//! path are bytes), and the normal forms, each ended by a zero. The `tokenizers` crate follows it without looking where it
//! leads, so every path is gone here first.

const BLOCK: usize = 256;

/// What is wrong with a map, in words.
pub fn check(map: &[u8]) -> Result<(), String> {
    let short = || format!("ends in its trie, of {} bytes", map.len());
    let (size, rest) = map.split_first_chunk().ok_or_else(short)?;
    let size = u32::from_le_bytes(*size) as usize / 4 * 4;
    let (units, forms) = rest.split_at_checked(size).ok_or_else(short)?;
    let units: Vec<usize> =
        units.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit) as usize).collect();
    let forms = std::str::from_utf8(forms).map_err(|e| format!("has normal forms that are no text: {e}"))?;
    // A place stands for a path; the units of the letters that may follow are in its block.
    let place = |from: usize, unit: usize| {
        let place = from ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6));
        let fits = place < units.len() / BLOCK * BLOCK;
        fits.then_some(place).ok_or_else(|| format!("leads to unit {place} of {}", units.len()))
    };
    let root = units.first().ok_or("has an empty trie")?;
    let mut open = vec![place(0, *root)?];
    let mut seen = vec![false; units.len()];
    while let Some(from) = open.pop() {
        if std::mem::replace(&mut seen[from], true) {
            continue;
        }
        for letter in 1..BLOCK {
            let at = from ^ letter;
            let unit = units[at];
            if unit & ((1 << 31) | 0xff) != letter {
                continue;
            }
            let next = place(at, unit)?;
            let form = units[next] & ((1 << 31) - 1);
            if unit & (1 << 8) != 0 && !forms.is_char_boundary(form) {
                return Err(format!("leads to byte {form} of {} bytes of normal forms", forms.len()));
            }
            open.push(next);
        }
    }
    Ok(())
}
