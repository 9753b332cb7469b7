//! What kernels that read every value of a network anyway find wrong with its values (kernels/lib/watch.wgsl).

/// The input that counts it, two words: values that are not finite, and halves at the clamp.
pub const WATCH: &str = "watch";

/// Values that went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Infinite or not a number.
    pub not_finite: u32,
    /// Halves that are as large as halves can be: they stand for larger numbers.
    pub clamped: u32,
}

impl Faults {
    /// From the counters as they are stored.
    pub fn stored(words: [u32; 2]) -> Faults {
        Faults { not_finite: words[0], clamped: words[1] }
    }

    /// Of values that were read from a device, which stores them as `halves`.
    pub fn of(values: &[f32], halves: bool) -> Faults {
        const LARGEST: f32 = 65504.0;
        let count = |wrong: &dyn Fn(f32) -> bool| values.iter().filter(|v| wrong(**v)).count() as u32;
        Faults {
            not_finite: count(&|v| !v.is_finite()),
            clamped: if halves { count(&|v| v.is_finite() && v.abs() >= LARGEST) } else { 0 },
        }
    }

    pub fn and(self, other: Faults) -> Faults {
        Faults {
            not_finite: self.not_finite.saturating_add(other.not_finite),
            clamped: self.clamped.saturating_add(other.clamped),
        }
    }

    /// Whether a network's result is worth nothing: a value that is not finite, or more than one in a million of the
    /// `halves` that were looked at.
    pub fn spoil(self, halves: u64) -> bool {
        self.not_finite > 0 || u64::from(self.clamped) * 1_000_000 > halves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_million() {
        let clamped = |clamped| Faults { not_finite: 0, clamped };
        assert!(!clamped(0).spoil(0) && clamped(1).spoil(0) && clamped(1).spoil(999_999));
        assert!(!clamped(1).spoil(1_000_000) && !clamped(7).spoil(7_000_000) && clamped(8).spoil(7_999_999));
        assert!(Faults { not_finite: 1, clamped: 0 }.spoil(u64::MAX));
    }

    #[test]
    fn values_on_the_host() {
        let values =
            [0.0, 65503.0, -65504.0, f32::MAX, f32::INFINITY, f32::NAN, -f32::NAN, f32::NEG_INFINITY];
        assert_eq!(Faults::of(&values, true), Faults { not_finite: 4, clamped: 2 });
        assert_eq!(Faults::of(&values, false), Faults { not_finite: 4, clamped: 0 });
    }
}
