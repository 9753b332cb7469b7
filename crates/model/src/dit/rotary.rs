//! Tables of rotary positions: tokens have a place along each of several axes, and each axis turns channels of its own.

/// A cosine and a sine for each pair of channels of a head, `[tokens, sum of axes]`: the channels of each axis at frequencies
/// from 1 down to `theta^-1` (Su et al., arXiv:2104.09864). In f64, rounded once.
pub fn table<const N: usize>(
    axes: [usize; N],
    theta: f64,
    tokens: impl IntoIterator<Item = [u32; N]>,
) -> Vec<f32> {
    let mut all = vec![];
    for places in tokens {
        for (channels, place) in axes.into_iter().zip(places) {
            for i in (0..channels).step_by(2) {
                let angle = f64::from(place) / theta.powf(i as f64 / channels as f64);
                all.extend([angle.cos() as f32, angle.sin() as f32]);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_by_hand() {
        let table = table([2, 4], 100.0, [[0, 0], [1, 2]]);
        assert_eq!(table[..6], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let wanted = [1f64, 2.0, 0.2].map(|angle| [angle.cos() as f32, angle.sin() as f32]);
        assert_eq!(table[6..], wanted.concat());
    }
}
