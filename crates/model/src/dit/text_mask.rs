//! Which tokens of a prompt the image sees.

use crate::plan::Recorder;
use crate::plan::ops::Bias;
use crate::shape::{Elem, Shape};

/// What scores of tokens that only fill up a prompt get.
const MASKED: f32 = -10000.0;

/// The bias of keys for so many prompts of so many tokens, from the input "text_mask".
pub fn text_mask(r: &mut Recorder, rows: u32, tokens: u32) -> Bias {
    Bias::Keys(r.input("text_mask", Shape::new(rows, 1, 1, tokens.next_multiple_of(4)), Elem::F32))
}

/// That input, of a mask `[rows, tokens]`: 1 for a token that counts. All do where it is empty.
pub fn text_mask_values(mask: &[f32], [rows, tokens]: [usize; 2]) -> Vec<f32> {
    let each = tokens.next_multiple_of(4);
    let mut values = vec![0.0; rows * each];
    for (to, of) in values.chunks_exact_mut(each).zip(mask.chunks_exact(tokens)) {
        to.iter_mut().zip(of).for_each(|(to, counts)| *to = (1.0 - counts) * MASKED);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_masked_in_rows_of_fours() {
        let values = text_mask_values(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], [2, 3]);
        assert_eq!(values, [0.0, MASKED, MASKED, 0.0, 0.0, 0.0, MASKED, 0.0]);
        assert_eq!(text_mask_values(&[], [1, 3]), [0.0; 4]);
    }
}
