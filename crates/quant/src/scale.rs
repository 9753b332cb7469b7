//! The scale of a run of weights: the one that loses least, or the plain one that makes the largest fit.

/// How scales are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// The largest magnitude is the largest code: what others do, for comparison.
    Plain,
    /// The least square error among some that clip the largest magnitudes a little.
    Chosen,
}

/// Sums are made in as many lanes, always in the same order: the same bits on every machine.
const LANES: usize = 8;

/// The scale for codes from `-most` to `most`, or from `-most - 1` if they have four bits (`most` is 7). It is
/// negative where the largest magnitude is positive and only the negative side has room for it.
pub fn best_scale(values: &[f32], most: u32, scales: Scales) -> f32 {
    // Without a code for it a NaN would be stored as 0, and nobody would see it again.
    if values.iter().any(|v| v.is_nan()) {
        return f32::NAN;
    }
    let largest = values.iter().fold(0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
    let top = most as f32;
    // Values that are not finite are stored as they come out, and those below 1e-36 as roughly as others do.
    if scales == Scales::Plain || !(1e-36..f32::INFINITY).contains(&largest.abs()) {
        return largest.abs() / top;
    }
    let (low, candidates): (f32, &[f32]) = match most {
        // Steps that the magnitude is divided by: of 8 and more on the side that has a code for -8, of 7 without.
        7 => (-8.0, &[-8.0, -7.0, -7.5, -8.5, -9.25, 7.0, 7.5]),
        _ => (-top, &[127.0, 129.0, 132.0, 136.0, 142.0]),
    };
    let mut best = (0.0, f32::NEG_INFINITY);
    for &steps in candidates {
        let [xq, qq] = sums(values, steps / largest, low, top);
        // With these codes the best scale is wq / qq, and the squares that it explains are wq^2 / qq; here the largest
        // weight is 1, so that nothing overflows.
        let explained = xq * (xq / qq) / (steps * steps);
        if qq > 0.0 && explained > best.1 {
            best = (largest / steps * (xq / qq), explained);
        }
    }
    // A row of bytes has a code for either sign.
    if most == 7 { best.0 } else { best.0.abs() }
}

/// The sums of `x q` and `q q`, for values of `x` steps and their codes `q`.
fn sums(values: &[f32], inverse: f32, low: f32, top: f32) -> [f32; 2] {
    // Added and taken away again it rounds to whole numbers, ties to even, without a call.
    const ROUND: f32 = 1.5 * (1 << 23) as f32;
    let (mut xq, mut qq) = ([0f32; LANES], [0f32; LANES]);
    let mut add = |i: usize, value: f32| {
        let x = value * inverse;
        let q = (x.clamp(low, top) + ROUND) - ROUND;
        xq[i] += x * q;
        qq[i] += q * q;
    };
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        (0..LANES).for_each(|i| add(i, chunk[i]));
    }
    rest.iter().enumerate().for_each(|(i, &value)| add(i, value));
    [xq.iter().sum(), qq.iter().sum()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(values: &[f32], scale: f32, low: f32, top: f32) -> f64 {
        let one = |&w: &f32| f64::from(w - (w / scale).round_ties_even().clamp(low, top) * scale);
        values.iter().map(one).map(|e| e * e).sum()
    }

    #[test]
    fn chosen_scales_lose_less() {
        // Near enough to a normal distribution: sums of four uniform numbers.
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let normal: Vec<f32> = (0..32 * 256).map(|_| (0..4).map(|_| uniform()).sum()).collect();
        for (most, low, wanted) in [(7, -8.0, 1.25), (127, -127.0, 1.0)] {
            let run = if most == 7 { 32 } else { 1024 };
            let (mut plain, mut chosen) = (0.0, 0.0);
            for values in normal.chunks_exact(run) {
                let both = [Scales::Plain, Scales::Chosen]
                    .map(|s| error(values, best_scale(values, most, s), low, most as f32));
                assert!(both[1] <= both[0] * 1.001, "{both:?}");
                plain += both[0];
                chosen += both[1];
            }
            assert!(plain / chosen > wanted, "{most}: {plain} to {chosen}");
        }
    }

    #[test]
    fn odd_values_are_borne() {
        for most in [7, 127] {
            assert_eq!(best_scale(&[0.0; 32], most, Scales::Chosen), 0.0);
            assert_eq!(best_scale(&[], most, Scales::Chosen), 0.0);
            let tiny = [f32::MIN_POSITIVE / 4.0; 32];
            assert!(best_scale(&tiny, most, Scales::Chosen).is_finite());
            let huge = [f32::MAX, 1.0, -1.0];
            assert!(best_scale(&huge, most, Scales::Chosen).is_finite());
        }
    }
}
