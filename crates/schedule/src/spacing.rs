//! How timesteps and noise levels are spread over the training table: table 2 of Lin et al.,
//! arXiv:2305.08891, and Karras et al., arXiv:2206.00364, equation 5.

use super::config::Keys;
use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spacing {
    Linspace,
    Leading,
    Trailing,
}

impl Spacing {
    pub fn from_keys(keys: &Keys, default: &str) -> Result<Spacing> {
        let choices =
            [("linspace", Spacing::Linspace), ("leading", Spacing::Leading), ("trailing", Spacing::Trailing)];
        keys.choice("timestep_spacing", default, &choices)
    }

    /// Timesteps from the noisiest on, `[steps]`; with linspace they are fractional.
    pub fn timesteps(self, train: usize, steps: usize, offset: i64) -> Vec<f32> {
        match self {
            Spacing::Linspace => linspace(train, steps).iter().rev().map(|&t| t as f32).collect(),
            Spacing::Leading => {
                let stride = train / steps;
                (0..steps).rev().map(|i| (i * stride) as f32 + offset as f32).collect()
            }
            Spacing::Trailing => trailing(train, train, steps),
        }
    }

    /// Timesteps as indices, for schedulers that look them up in a table of `train` entries.
    pub fn whole_timesteps(self, keys: &Keys, train: usize, steps: usize) -> Result<Vec<usize>> {
        let offset = keys.integer("steps_offset", 0)?;
        let timesteps = self.timesteps(train, steps, offset);
        let whole: Vec<f32> = timesteps.iter().map(|t| t.round_ties_even()).collect();
        if let Some(t) = whole.iter().find(|&&t| t < 0.0 || t >= train as f32) {
            let message =
                format!("{offset} leads to timestep {t} with {steps} steps, wanted 0 to {}", train - 1);
            return Err(Error::model(keys.place("steps_offset", &message)));
        }
        Ok(whole.iter().map(|&t| t as usize).collect())
    }
}

/// `numpy.linspace(0, train - 1, count)`, ascending.
pub(super) fn linspace(train: usize, count: usize) -> Vec<f64> {
    let last = (train - 1) as f64;
    let stride = last / (count.max(2) - 1) as f64;
    (0..count).map(|i| if i > 0 && i == count - 1 { last } else { i as f64 * stride }).collect()
}

/// `numpy.arange(last, 0, -train / steps)`, rounded, less one. arange adds a difference that has been rounded:
/// it decides where halves are rounded to. For some numbers of steps (61 is the first) arange makes one
/// element too many and diffusers runs the model at timestep -1; not copied.
pub(super) fn trailing(last: usize, train: usize, steps: usize) -> Vec<f32> {
    let last = last as f64;
    let stride = (last - train as f64 / steps as f64) - last;
    (0..steps).map(|i| (last + i as f64 * stride).round_ties_even() as f32 - 1.0).collect()
}

/// Noise levels from `largest` to `smallest`, evenly spaced in their seventh roots.
pub(super) fn karras(smallest: f64, largest: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (low, high) = (smallest.powf(1.0 / RHO), largest.powf(1.0 / RHO));
    let ramp = |i: usize| i as f64 / (steps.max(2) - 1) as f64;
    (0..steps).map(|i| (high + ramp(i) * (low - high)).powf(RHO)).collect()
}

/// The fractional timestep at which the training table has this noise level, between logarithms.
pub(super) fn timestep_of(sigma: f64, table: &[f32]) -> f64 {
    let log = sigma.max(1e-10).ln();
    let logs = |i: usize| f64::from(table[i].ln());
    let above = table.iter().take_while(|s| f64::from(s.ln()) <= log).count();
    let low = above.saturating_sub(1).min(table.len().saturating_sub(2));
    let high = (low + 1).min(table.len() - 1);
    if low == high {
        return low as f64;
    }
    let share = ((logs(low) - log) / (logs(low) - logs(high))).clamp(0.0, 1.0);
    (1.0 - share) * low as f64 + share * high as f64
}
