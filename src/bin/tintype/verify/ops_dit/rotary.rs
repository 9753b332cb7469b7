//! Rotary positions: tables, and what they turn.

use tintype::error::{Error, Result};
use tintype::model::dit::rotary;
use tintype::plan::ops::{HeadNorm, Rotary};
use tintype::shape::{Elem, Shape};

use super::{Pair, Suite, unknown};

/// Rotary positions of each kind of model: what frequencies go down to, and whether pairs are of neighbours.
const KINDS: [(&str, f64, bool); 4] = [
    ("rope_flux", 1e4, true),
    ("rope_flux2", 2e3, true),
    ("rope_z", 256.0, true),
    // Qwen3's.
    ("rope_half", 1e6, false),
];

impl Suite<'_> {
    /// Heads turned by the table of their places.
    pub(super) async fn rotary(&self, name: &str, op: &str) -> Result<Pair> {
        let (_, neighbours) = kind(op)?;
        let input = self.rotary_input(op);
        let read = |name: &str| match neighbours {
            true => self.reference.f32(name),
            false => Ok(self.tokens_first(name)?.1),
        };
        let [n, mut tokens, mut heads, size] = self.sides(&input)?;
        if !neighbours {
            (tokens, heads) = (heads, tokens);
        }
        let (mut recording, elem) = (self.recording(), self.bench.target.elem);
        let x = recording.input("in", Shape::tokens(n, tokens, heads * size), elem, read(&input)?);
        let table = recording.input("table", Shape::tokens(1, tokens, size), Elem::F32, self.table(op)?);
        let rotary = Some(Rotary { table, neighbours });
        let y = HeadNorm { x: (x, 0), sets: 1, heads, size, norm: None, rotary }.record(&mut recording.r);
        Ok((self.run(recording, y).await?, read(name)?))
    }

    /// What is turned: several kinds may turn one tensor.
    fn rotary_input(&self, op: &str) -> String {
        let own = format!("{op}.in");
        if self.reference.has(&own) { own } else { "rope_flux.in".to_owned() }
    }

    /// A cosine and a sine for each token and pair of channels.
    fn table(&self, op: &str) -> Result<Vec<f32>> {
        let (theta, _) = kind(op)?;
        let [.., size] = self.sides(&self.rotary_input(op))?;
        let ids = format!("{op}.ids");
        if !self.reference.has(&ids) {
            let tokens = self.reference.f64(&format!("{op}.cos"))?.len() as u32 / size;
            return Ok(rotary::table([size as usize], theta, (0..tokens).map(|place| [place])));
        }
        match self.reference.shape(&ids)?[1] {
            3 => self.table_of::<3>(op, &ids, theta, size as usize),
            4 => self.table_of::<4>(op, &ids, theta, size as usize),
            _ => Err(unknown(&ids)),
        }
    }

    /// With places along several axes. The file does not say which channels an axis turns, but its sines do: those that differ
    /// between two tokens whose places differ in this axis alone. An axis along which no two tokens differ has the rest.
    fn table_of<const N: usize>(&self, op: &str, ids: &str, theta: f64, size: usize) -> Result<Vec<f32>> {
        let ids = self.reference.f64(ids)?;
        let places: Vec<[u32; N]> =
            ids.chunks_exact(N).map(|id| std::array::from_fn(|axis| id[axis] as u32)).collect();
        let sines = self.reference.f64(&format!("{op}.sin"))?;
        let width = sines.len() / places.len();
        let tokens: Vec<_> = places.iter().zip(sines.chunks_exact(width)).collect();
        let mut axes: [usize; N] = std::array::from_fn(|axis| {
            let alone = |a: &[u32; N], b: &[u32; N]| (0..N).all(|i| (a[i] != b[i]) == (i == axis));
            let turned = |c: &usize| {
                tokens.iter().any(|(a, x)| tokens.iter().any(|(b, y)| alone(a, b) && x[*c] != y[*c]))
            };
            (0..width).filter(turned).count() * size / width
        });
        if let Some(still) = axes.iter().position(|&channels| channels == 0) {
            axes[still] = size.saturating_sub(axes.iter().sum());
        }
        if axes.iter().sum::<usize>() != size || axes.iter().any(|channels| channels % 2 != 0) {
            return Err(Error::model(format!("{op}.sin: wanted axes of {size} channels, found {axes:?}")));
        }
        Ok(rotary::table(axes, theta, places))
    }

    /// The cosines (0) or sines (1) of the table as the reference has them: one for each pair, or one for each channel.
    pub(super) fn angles(&self, op: &str, which: usize) -> Result<Vec<f32>> {
        let (_, neighbours) = kind(op)?;
        let [.., size] = self.sides(&self.rotary_input(op))?;
        let pairs: Vec<f32> = self.table(op)?.into_iter().skip(which).step_by(2).collect();
        let times = self.reference.f64(&format!("{op}.cos"))?.len() / pairs.len();
        Ok(match neighbours {
            true => pairs.into_iter().flat_map(|value| vec![value; times]).collect(),
            false => pairs.chunks_exact(size as usize / 2).flat_map(|row| row.repeat(times)).collect(),
        })
    }
}

fn kind(op: &str) -> Result<(f64, bool)> {
    let found = KINDS.into_iter().find(|(name, ..)| *name == op);
    found.map(|(_, theta, neighbours)| (theta, neighbours)).ok_or_else(|| unknown(op))
}
