//! What is tried in turn while a device turns out to have too little memory: smaller weights, where nobody said how they
//! are stored, and then to do with less of it. What fits a known budget is chosen beforehand
//! ([`super::Survey::fit`]); this is for devices that do not say what they have.

use std::collections::VecDeque;

use crate::quant::Format;

/// One way to load a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// None for the best that fits ("auto").
    pub weights: Option<Format>,
    /// Whether all of [`super::Savings::ALL`] is given up.
    pub lean: bool,
}

/// Why an attempt failed, where another one may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    OutOfMemory,
    /// The weights are not here, and may not be fetched.
    Absent,
}

/// The attempts that are left, the current one first.
#[derive(Debug)]
pub struct Ladder {
    attempts: VecDeque<Attempt>,
    /// Whether one had too little memory.
    was_full: bool,
}

impl Ladder {
    /// `asked` is None where any weights will do. Where a model is `offline`, only those that were kept can be had.
    pub fn new(asked: Option<Format>, offline: bool) -> Ladder {
        let smaller: &[_] = if asked.is_none() { &[Format::Q8, Format::Q4] } else { &[] };
        let formats = || std::iter::once(asked).chain(smaller.iter().copied().map(Some));
        let least = if offline { asked } else { formats().last().expect("the first") };
        let attempts = formats().map(|weights| Attempt { weights, lean: false });
        let attempts = attempts.chain([Attempt { weights: least, lean: true }]).collect();
        Ladder { attempts, was_full: false }
    }

    /// The current one; none after the last one has failed.
    pub fn attempt(&self) -> Option<Attempt> {
        self.attempts.front().copied()
    }

    /// After the current attempt failed, whose weights were `stored`: the next one, or none. With too little memory
    /// nothing as large is tried again; smaller weights that are absent are passed over.
    pub fn fall(&mut self, failure: Failure, stored: Option<Format>) -> Option<Attempt> {
        let full = failure == Failure::OutOfMemory;
        // What was absent from the beginning is no question of memory.
        if !full && !self.was_full {
            return None;
        }
        self.was_full |= full;
        self.attempts.pop_front();
        if full {
            self.attempts.retain(|next| next.lean || size(next.weights) < size(stored));
        }
        self.attempt()
    }
}

/// What is larger takes more memory.
fn size(weights: Option<Format>) -> usize {
    match weights {
        Some(Format::Q4) => 0,
        Some(Format::Q8) => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Failure = Failure::OutOfMemory;

    fn attempt(weights: Option<Format>, lean: bool) -> Option<Attempt> {
        Some(Attempt { weights, lean })
    }

    #[test]
    fn weights_become_smaller_and_then_less_is_kept() {
        let mut ladder = Ladder::new(None, false);
        assert_eq!(ladder.attempt(), attempt(None, false));
        assert_eq!(ladder.fall(FULL, Some(Format::F16)), attempt(Some(Format::Q8), false));
        assert_eq!(ladder.fall(FULL, Some(Format::Q8)), attempt(Some(Format::Q4), false));
        assert_eq!(ladder.fall(FULL, Some(Format::Q4)), attempt(Some(Format::Q4), true));
        assert_eq!(ladder.fall(FULL, Some(Format::Q4)), None);
    }

    #[test]
    fn nothing_as_large_is_tried_again() {
        let mut ladder = Ladder::new(None, false);
        assert_eq!(ladder.fall(FULL, Some(Format::Q8)), attempt(Some(Format::Q4), false));
        let mut ladder = Ladder::new(None, false);
        assert_eq!(ladder.fall(FULL, Some(Format::Q4)), attempt(Some(Format::Q4), true));
    }

    #[test]
    fn weights_that_were_asked_for_stay() {
        let mut ladder = Ladder::new(Some(Format::F16), false);
        assert_eq!(ladder.fall(FULL, Some(Format::F16)), attempt(Some(Format::F16), true));
        assert_eq!(ladder.fall(FULL, Some(Format::F16)), None);
    }

    #[test]
    fn offline_what_is_absent_is_passed_over() {
        let mut ladder = Ladder::new(None, true);
        // Absent from the beginning: there is no model.
        assert_eq!(ladder.fall(Failure::Absent, None), None);
        let mut ladder = Ladder::new(None, true);
        assert_eq!(ladder.fall(FULL, Some(Format::F16)), attempt(Some(Format::Q8), false));
        assert_eq!(ladder.fall(Failure::Absent, Some(Format::Q8)), attempt(Some(Format::Q4), false));
        assert_eq!(ladder.fall(Failure::Absent, Some(Format::Q4)), attempt(None, true));
        assert_eq!(ladder.fall(Failure::Absent, None), None);
    }
}
