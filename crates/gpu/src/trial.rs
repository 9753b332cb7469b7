//! Which table is the fastest on an adapter: a trial, on a layer of each kind that models spend their time in.

use std::rc::Rc;

use super::lower::lower;
use super::tuning::Tuning;
use super::{Choice, Gpu, GpuWeights, Session};
use crate::error::{Error, Result};
use crate::host::{Cancel, breathe};
use crate::plan::ops::{Attention, Conv, Epilogue, Matmul};
use crate::plan::{Plan, Recorder, Target};
use crate::shape::{Elem, Shape};
use tintype_quant::{Format, Matrix};
use tintype_weights::{Declarations, Weight};

/// Of latents of this height and width, or so many in software; as wide as most layers.
const SIDE: u32 = 32;
const SOFTWARE_SIDE: u32 = 8;
const CHANNELS: u32 = 256;
const HEAD: u32 = 64;
/// What a measurement takes at least, and how often the layers are repeated for that at most.
const SECONDS: f64 = 0.02;
const REPEATS: f64 = 200.0;
/// Of the measurements of a table the fastest counts.
const RUNS: usize = 3;
/// The time of the table at hand that a faster one may take: tables should not change from one visit to the next.
const GAIN: f64 = 0.8;
/// How far results may be apart, of their size: much more than rounding, much less than a mistake.
const APART: f64 = 0.02;
/// Of a model's image, from which on a trial is worth it: it takes as long as some of these.
const FLOPS: u64 = 200_000_000_000;

/// What came of the trial of a table.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub tuning: Tuning,
    /// None where a kernel did not compile, or computed something else than the table at hand.
    pub seconds: Option<f64>,
}

impl Gpu {
    /// Tries the table at hand and those that may fit this adapter, for activations that are stored so. Fails only with
    /// the device, or where `cancelled` says so between two of them.
    pub async fn trials(self: &Rc<Gpu>, elem: Elem, cancelled: &dyn Fn() -> bool) -> Result<Vec<Trial>> {
        let layers = Layers::new(self);
        let at_hand = self.tuning.get();
        let session = layers.session(elem, &at_hand).await?;
        let want = values(&session).await?;
        let steps = 0..session.plan().steps.len();
        let repeats = (SECONDS / session.time(steps.clone(), 1).await?).ceil().clamp(1.0, REPEATS) as usize;
        let mut sessions = vec![(at_hand, Some(session))];
        for tuning in candidates(&self.info.name) {
            // A driver may take seconds for a kernel.
            breathe().await;
            if cancelled() {
                return Err(Error::cancelled());
            }
            let tried = layers.tried(elem, tuning, &want).await;
            self.check()?;
            sessions.push((*tuning, tried));
        }
        let mut trials: Vec<Trial> =
            sessions.iter().map(|(tuning, _)| Trial { tuning: *tuning, seconds: None }).collect();
        // In turns, as clocks rise and fall.
        for _ in 0..RUNS {
            for ((_, session), trial) in sessions.iter().zip(&mut trials) {
                let Some(session) = session else { continue };
                let seconds = session.time(steps.clone(), repeats).await? / repeats as f64;
                trial.seconds = Some(trial.seconds.unwrap_or(f64::INFINITY).min(seconds));
            }
        }
        Ok(trials)
    }

    /// Takes the fastest table that computes what the one at hand does, where there is a choice. `flops`: those of an image.
    pub async fn try_tables(
        self: &Rc<Gpu>,
        elem: Elem,
        flops: impl FnOnce() -> Result<u64>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let worth = match self.choice.get() {
            Choice::Made => false,
            Choice::Auto => !self.info.software && flops()? >= FLOPS,
            Choice::Measured => true,
        };
        if worth {
            self.tuning.set(choose(&self.trials(elem, cancelled).await?));
            self.choice.set(Choice::Made);
        }
        Ok(())
    }
}

/// The tables of tiles, those first that compilers make the best code of for such a GPU. Vendors are told by words of the
/// adapter's name; one that is not known has all.
fn candidates(name: &str) -> &'static [Tuning] {
    const WORDS: [(&str, &[Tuning]); 11] = [
        ("apple", &[Tuning::THIN]),
        ("intel", &[Tuning::NARROW, Tuning::THIN]),
        ("nvidia", &[Tuning::WIDE]),
        ("geforce", &[Tuning::WIDE]),
        ("quadro", &[Tuning::WIDE]),
        ("amd", &[Tuning::WIDE]),
        ("radeon", &[Tuning::WIDE]),
        ("adreno", &[Tuning::WIDE]),
        ("qualcomm", &[Tuning::WIDE]),
        ("mali", &[Tuning::WIDE, Tuning::THIN]),
        ("arm", &[Tuning::WIDE, Tuning::THIN]),
    ];
    let name = name.to_lowercase();
    let is = |(word, _): &&(&str, _)| name.split(|c: char| !c.is_alphanumeric()).any(|part| part == *word);
    WORDS.iter().find(is).map_or(&[Tuning::WIDE, Tuning::THIN, Tuning::NARROW], |(_, tables)| *tables)
}

/// The first is the table at hand.
fn choose(tried: &[Trial]) -> Tuning {
    let limit = tried[0].seconds.unwrap_or(f64::INFINITY) * GAIN;
    let faster = tried[1..].iter().filter_map(|trial| Some((trial.seconds?, trial.tuning)));
    let best = faster.filter(|(seconds, _)| *seconds <= limit).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(tried[0].tuning, |(_, tuning)| tuning)
}

fn same(got: &[f32], want: &[f32]) -> bool {
    let square = |v: f64| v * v;
    let apart: f64 = got.iter().zip(want).map(|(g, w)| square(f64::from(g - w))).sum();
    let size: f64 = want.iter().map(|w| square(f64::from(*w))).sum();
    // Not a number is not less.
    got.len() == want.len() && apart <= size * APART * APART
}

/// What the layers compute: each of them, as a mistake in one would be lost among all.
async fn values(session: &Session) -> Result<[Vec<f32>; 3]> {
    session.write("x", &noise(session.plan().named("x").shape.vec4s() as usize * 4));
    session.run("trial", &Cancel::default(), &|_| {}).await?;
    let [conv, down, attention] = OUTPUTS.map(|name| session.read(name));
    Ok([conv.await?, down.await?, attention.await?])
}

const OUTPUTS: [&str; 3] = ["conv", "down", "attention"];

/// A 3x3 convolution, with a stride too, which Winograd has not, and a product that makes queries, keys and values, with
/// weights made up here.
struct Layers {
    weights: GpuWeights,
    conv: Weight,
    projection: Weight,
    /// Height and width of what they compute on.
    side: u32,
}

impl Layers {
    fn new(gpu: &Rc<Gpu>) -> Layers {
        let mut d = Declarations::new(Format::Q8);
        let conv = d.matrix(CHANNELS, CHANNELS, 9, vec![]);
        let projection = d.matrix(3 * CHANNELS, CHANNELS, 1, vec![]);
        // Scores of attention are to differ, or any weights of values would do.
        let blobs =
            [(conv, 1.0), (projection, 4.0)].map(|(weight, gain)| (weight.handle, blob(weight.matrix, gain)));
        let side = if gpu.info.software { SOFTWARE_SIDE } else { SIDE };
        Layers { weights: GpuWeights::from_blobs(gpu, &d, blobs), conv, projection, side }
    }

    async fn session(&self, elem: Elem, tuning: &Tuning) -> Result<Session> {
        Session::of(lower(self.plan(elem), tuning), &self.weights).await
    }

    /// A session of a table that computes what is wanted.
    async fn tried(&self, elem: Elem, tuning: &Tuning, want: &[Vec<f32>; 3]) -> Option<Session> {
        let session = self.session(elem, tuning).await.ok()?;
        let got = values(&session).await.ok()?;
        got.iter().zip(want).all(|(got, want)| same(got, want)).then_some(session)
    }

    fn plan(&self, elem: Elem) -> Plan {
        let mut r = Recorder::new(&Target::new(elem));
        r.section("trial");
        let x = r.input("x", Shape::new(1, self.side, self.side, CHANNELS), elem);
        let (x2, epilogue) = (None, Epilogue::default());
        let [conv, down] = [1, 2].map(|stride| Conv {
            weight: self.conv,
            x,
            x2,
            outputs: CHANNELS,
            inputs: CHANNELS,
            stride,
            pad: (1, 1),
            upsample: None,
            epilogue,
        });
        let made = [conv.record(&mut r), down.record(&mut r)];
        let (weight, outputs) = (self.projection, 3 * CHANNELS);
        let model_weights = u64::from(CHANNELS * outputs);
        let t = Matmul { weight, x, x2, epilogue, gate: None, outputs, model_weights }.record(&mut r);
        let [q, k, v] = [0, 1, 2].map(|i| (t, i * CHANNELS));
        let (heads, causal) = (CHANNELS / HEAD, false);
        let attention = Attention { causal, ..Attention::of(q, k, v, heads, HEAD) }.record(&mut r);
        for (name, t) in OUTPUTS.into_iter().zip([made[0], made[1], attention]) {
            r.output(name, t);
        }
        r.finish()
    }
}

/// Codes of q8, then a scale for each output, with which sums are about `gain` times as large as what is summed, and no bias.
fn blob(matrix: Matrix, gain: f32) -> Vec<u8> {
    let codes = noise(matrix.scale_at() as usize * 16);
    let mut blob: Vec<u8> = codes.iter().map(|v| (v * 127.0) as i8 as u8).collect();
    let scale = gain / (74.0 * (matrix.depth() as f32).sqrt());
    for value in [scale, 0.0] {
        blob.extend((0..matrix.outputs).flat_map(|_| value.to_le_bytes()));
    }
    blob
}

/// Values between -1 and 1: Knuth's linear congruential generator.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 0u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(tuning: Tuning, seconds: Option<f64>) -> Trial {
        Trial { tuning, seconds }
    }

    #[test]
    fn vendors_have_their_tables() {
        let names = |adapter| candidates(adapter).iter().map(|t| t.name).collect::<Vec<_>>();
        assert_eq!(names("NVIDIA GeForce RTX 3090"), ["wide"]);
        assert_eq!(names("apple metal-3"), ["thin"]);
        assert_eq!(names("Intel(R) Arc(tm) Graphics"), ["narrow", "thin"]);
        assert_eq!(names("amd rdna-3"), ["wide"]);
        // No word of ARM.
        assert_eq!(names("charm"), ["wide", "thin", "narrow"]);
        assert_eq!(names(""), ["wide", "thin", "narrow"]);
    }

    #[test]
    fn the_fastest_that_gains_is_taken() {
        let chosen = |wide, thin| {
            let tried =
                [trial(Tuning::BASE, Some(1.0)), trial(Tuning::WIDE, wide), trial(Tuning::THIN, thin)];
            choose(&tried).name
        };
        assert_eq!(chosen(Some(0.5), Some(0.4)), "thin");
        assert_eq!(chosen(Some(0.5), Some(0.6)), "wide");
        assert_eq!(chosen(Some(0.81), Some(0.9)), "base");
        assert_eq!(chosen(None, Some(0.79)), "thin");
        assert_eq!(chosen(None, None), "base");
    }

    #[test]
    fn results_are_the_same_but_for_rounding() {
        let want = noise(1000);
        let moved = |by: f32| want.iter().map(|v| v * (1.0 + by)).collect::<Vec<_>>();
        assert!(same(&moved(0.01), &want));
        assert!(!same(&moved(0.03), &want));
        assert!(!same(&moved(f32::NAN), &want));
        assert!(!same(&want[1..], &want));
        assert!(!same(&vec![0.0; 1000], &want));
    }
}
