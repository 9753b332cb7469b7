//! Single operations of diffusion transformers, and the tables that they are given.

mod rotary;

use std::path::Path;

use serde_json::Value;
use tintype::error::{Error, Result};
use tintype::model::config::T5Config;
use tintype::model::dit::{Positions, features, grid};
use tintype::nn::{GroupConv, RmsNorm};
use tintype::pipeline::packing::Packing;
use tintype::plan::ops::{self, Activation, Attention, LinearAttention, NormKind};
use tintype::plan::{Recorder, Tensor};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape, nhwc};
use tintype::weights::{Columns, Declarations, Rows, Table};

use super::ops::{activation, fill, outcome, shape};
use super::reference::Reference;
use super::{Bench, Check};

/// Pixels of a patch along a side.
const PATCH: u32 = 2;

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let stem = case["file"].as_str().and_then(|file| Path::new(file).file_stem()?.to_str());
    let suite = Suite { bench, reference: &reference, stem: stem.unwrap_or_default() };
    let mut checks = vec![];
    for name in reference.names().filter(|name| !is_input(name)) {
        let (got, want) = suite.one(name).await?;
        checks.push(Check::new(name, &got, &want));
    }
    Ok(checks)
}

/// Whether a tensor is a weight or what an operation begins with.
fn is_input(name: &str) -> bool {
    let inputs = ["in", "ids", "relative", "q", "k", "v", "weight", "gemma_weight", "bias"];
    name == "x"
        || name == "sd3_pos.full"
        || name.rsplit_once('.').is_some_and(|(_, last)| inputs.contains(&last))
}

/// What is computed, and what it is compared with.
type Pair = (Vec<f32>, Vec<f32>);

struct Suite<'a> {
    bench: &'a Bench,
    reference: &'a Reference,
    /// The file's name without its ending.
    stem: &'a str,
}

/// An operation that is being recorded.
struct Recording {
    d: Declarations,
    r: Recorder,
    inputs: Vec<(&'static str, Vec<f32>)>,
}

impl Recording {
    fn input(&mut self, name: &'static str, shape: Shape, elem: Elem, values: Vec<f32>) -> Tensor {
        self.inputs.push((name, values));
        self.r.input(name, shape, elem)
    }
}

impl Suite<'_> {
    async fn one(&self, name: &str) -> Result<Pair> {
        let reference = self.reference;
        let (op, last) = name.split_once('.').unwrap_or((name, ""));
        let got = match (op, last) {
            ("timestep", time) => features(number(name, time.strip_prefix('t'))?),
            ("t5_bucket", "bucket") => {
                let config = T5Config::from_json(br#"{"feed_forward_proj": "gated-gelu"}"#, name)?;
                let places = reference.f64("t5_bucket.relative")?;
                places.iter().map(|&place| config.bucket(place as i64) as f32).collect()
            }
            ("sd3_pos", "computed") => {
                let side = reference.shape(name)?[0].isqrt() as u32;
                self.grid(name, [side; 2])?
            }
            ("sd3_pos", _) => self.middle(name)?,
            ("pixart_pos", _) => self.grid(name, size(name)?)?,
            _ if op.starts_with("rms") => self.rms_norm(name, op).await?,
            ("depthwise" | "grouped1x1", "out") => return self.group_conv(name, op).await,
            ("pixel_shuffle" | "pixel_unshuffle" | "up_shortcut_repeat2" | "down_shortcut_mean4", "") => {
                return self.shortcut(name).await;
            }
            ("pack", order) => return self.pack(name, order).await,
            ("gqa", _) => return self.attention(name).await,
            ("linattn", "out") => return self.linear_attention(name).await,
            (_, "cos") => self.angles(op, 0)?,
            (_, "sin") => self.angles(op, 1)?,
            (_, "out") if op.starts_with("rope_") => return self.rotary(name, op).await,
            (_, "out") => self.layer_norm(name, op).await?,
            _ => self.activation(name).await?,
        };
        Ok((got, reference.f32(name)?))
    }

    fn recording(&self) -> Recording {
        let mut r = Recorder::new(&self.bench.target);
        r.section("op");
        Recording { d: Declarations::new(self.bench.load.weights), r, inputs: vec![] }
    }

    async fn run(&self, mut recording: Recording, y: Tensor) -> Result<Vec<f32>> {
        recording.r.output("out", y);
        let weights = fill(self.bench, &recording.d, self.stem).await?;
        outcome(recording.r, &weights, &recording.inputs).await
    }

    /// With a tensor of the reference as its input.
    fn begun(&self, input: &str) -> Result<(Recording, Tensor)> {
        let mut recording = self.recording();
        let (shape, values) = (shape(self.reference, input)?, self.reference.nhwc(input)?);
        let x = recording.input("in", shape, self.bench.target.elem, values);
        Ok((recording, x))
    }

    /// "softcap50" is 50 tanh(x / 50).
    async fn activation(&self, name: &str) -> Result<Vec<f32>> {
        let (cap, activation) = match name.strip_prefix("softcap") {
            Some(cap) => (number(name, Some(cap))?, Activation::Tanh),
            None => (1.0, activation(name).ok_or_else(|| unknown(name))?),
        };
        let mut recording = self.recording();
        let x = recording.input("in", shape(self.reference, "x")?, Elem::F32, self.reference.f32("x")?);
        let factor = vec![1.0 / cap, 0.0, 0.0, 0.0];
        let factor = recording.input("factor", Shape::new(1, 1, 1, 4), Elem::F32, factor);
        let y = ops::scale(&mut recording.r, x, factor, 1, activation);
        Ok(self.run(recording, y).await?.into_iter().map(|y| y * cap).collect())
    }

    /// "rms.out_gemma_1e-6": with an epsilon, and Gemma's weight, which is what it is more than one.
    async fn rms_norm(&self, name: &str, op: &str) -> Result<Vec<f32>> {
        let (mut recording, x) = self.begun(&format!("{op}.in"))?;
        let (d, epsilon) = (&mut recording.d, number(name, name.rsplit('_').next())?);
        let y = match name.strip_prefix(op).is_some_and(|last| last.starts_with(".out_gemma_")) {
            true => {
                let kind = NormKind::Rms(d.vector_from_one(format!("{op}.gemma_weight"), x.shape.c));
                ops::layer_norm(&mut recording.r, kind, epsilon, x, None)
            }
            false => RmsNorm::declare(d, op, x.shape.c, epsilon).record(&mut recording.r, x),
        };
        self.run(recording, y).await
    }

    /// "ln_noaffine_1e-6".
    async fn layer_norm(&self, name: &str, op: &str) -> Result<Vec<f32>> {
        let epsilon = number(name, op.strip_prefix("ln_noaffine_"))?;
        let (mut recording, x) = self.begun(&format!("{op}.in"))?;
        let y = ops::layer_norm(&mut recording.r, NormKind::Layer(None), epsilon, x, None);
        self.run(recording, y).await
    }

    async fn group_conv(&self, name: &str, op: &str) -> Result<Pair> {
        let (mut recording, x) = self.begun("pix.in")?;
        let [outputs, inputs, kernel, _] = self.sides(&format!("{op}.weight"))?;
        let bias = self.reference.has(&format!("{op}.bias"));
        let rows = (outputs, Rows::From(0), outputs);
        let conv = GroupConv::declare(&mut recording.d, op, rows, [inputs, kernel], bias);
        let y = conv.of(x).record(&mut recording.r);
        Ok((self.run(recording, y).await?, self.reference.nhwc(name)?))
    }

    /// Pixels to channels or back, with as many channels behind them as make whole vec4s.
    async fn shortcut(&self, name: &str) -> Result<Pair> {
        let (from, to) = (shape(self.reference, "pix.in")?, shape(self.reference, name)?);
        let whole = |n: &u32| [from.c, to.c].iter().all(|c| (n * c).is_multiple_of(4));
        let times = [1, 2, 4].into_iter().find(whole).expect("four of any");
        let mut recording = self.recording();
        let [inputs, outputs] = [from.c, to.c].map(|c| times * c);
        let values = resized(&self.reference.nhwc("pix.in")?, from.c, inputs);
        let x = recording.input("in", from.with_c(inputs), self.bench.target.elem, values);
        let y = match to.h > from.h {
            true => ops::grow(&mut recording.r, x, to.h / from.h, outputs),
            false => ops::shrink(&mut recording.r, x, from.h / to.h, outputs),
        };
        let got = self.run(recording, y).await?;
        Ok((resized(&got, outputs, to.c), self.reference.nhwc(name)?))
    }

    /// Patches as tokens: SD 3's are in our order, FLUX's in that of its weights, FLUX.2's are made of latents.
    async fn pack(&self, name: &str, order: &str) -> Result<Pair> {
        let want = self.reference.nhwc(name)?;
        let (mut recording, x) = self.begun("pack.in")?;
        let (channels, places) = (x.shape.c, PATCH * PATCH);
        let all = (places * channels) as usize;
        if order == "flux2_patchify" {
            let packing = Packing::new(&vec![0.0; all], &vec![1.0; all], 0.0);
            let latents = packing.latents(&self.reference.nhwc("pack.in")?, (x.shape.w / PATCH) as usize);
            return Ok((latents, want));
        }
        let columns = match order {
            "sd3" => Columns::Same,
            "flux" => Columns::Patches { channels, places },
            _ => return Err(unknown(name)),
        };
        let y = ops::patchify(&mut recording.r, x, PATCH);
        let got = self.run(recording, y).await?;
        let ordered =
            |token: &[f32]| (0..all).map(|c| token[columns.place(c as u32) as usize]).collect::<Vec<_>>();
        Ok((got.chunks_exact(all).flat_map(ordered).collect(), want))
    }

    /// "gqa.out_causal_scale28_softcap4": scores are divided by the square root of 28, and stay below 4.
    async fn attention(&self, name: &str) -> Result<Pair> {
        let mut recording = self.recording();
        let mut heads = |tensor: &'static str| -> Result<(Tensor, [u32; 2])> {
            let name = format!("gqa.{tensor}");
            let [_, heads, _, size] = self.sides(&name)?;
            let (shape, values) = self.tokens_first(&name)?;
            Ok((recording.input(tensor, shape, self.bench.target.elem, values), [heads, size]))
        };
        let ((q, [count, size]), (k, [keys, _]), (v, _)) = (heads("q")?, heads("k")?, heads("v")?);
        let mut attention = Attention::of((q, 0), (k, 0), (v, 0), count, size);
        attention.shared = count / keys;
        for word in name.trim_start_matches("gqa.out_").split('_') {
            if word == "causal" {
                attention.causal = true;
            } else if let Some(cap) = word.strip_prefix("softcap") {
                attention.cap = Some(number(name, Some(cap))?);
            } else {
                attention.scale = number(name, word.strip_prefix("scale"))?.sqrt().recip();
            }
        }
        let y = attention.record(&mut recording.r);
        Ok((self.run(recording, y).await?, self.tokens_first(name)?.1))
    }

    /// Of `[N, heads, size, T]`.
    async fn linear_attention(&self, name: &str) -> Result<Pair> {
        let [n, heads, size, tokens] = self.sides(name)?;
        let each = size.next_multiple_of(4);
        let values = |name: &str| -> Result<Vec<f32>> {
            let values = nhwc(&self.reference.f32(name)?, (heads * size) as usize, tokens as usize);
            Ok(resized(&values, size, each))
        };
        let (mut recording, elem) = (self.recording(), self.bench.target.elem);
        let mut input = |tensor: &'static str| -> Result<(Tensor, u32)> {
            let values = values(&format!("linattn.{tensor}"))?;
            Ok((recording.input(tensor, Shape::tokens(n, tokens, heads * each), elem, values), 0))
        };
        let (q, k, v) = (input("q")?, input("k")?, input("v")?);
        let y = LinearAttention { q, k, v, heads, size: each, each }.record(&mut recording.r);
        Ok((self.run(recording, y).await?, values(name)?))
    }

    /// Sinusoids of so many patches. The first step along a row, at a frequency of one, tells the places of a side.
    fn grid(&self, name: &str, patches: [u32; 2]) -> Result<Vec<f32>> {
        let width = self.reference.shape(name)?[1];
        let second = &self.reference.f64(name)?[width..];
        let side = second[0].atan2(second[width / 4]) * f64::from(patches[1]);
        Ok(grid(patches, side.round() as f32, width))
    }

    /// "sd3_pos.crop_6x10", of the stored table.
    fn middle(&self, name: &str) -> Result<Vec<f32>> {
        let stored = "sd3_pos.full";
        let &[rows, width] = self.reference.shape(stored)? else { return Err(unknown(stored)) };
        let mut d = Declarations::new(Format::F32);
        let positions = Positions::declare(&mut d, stored, rows.isqrt() as u32, width as u32);
        let bytes = self.reference.f32(stored)?.into_iter().flat_map(f32::to_le_bytes).collect();
        Ok(positions.middle(&Table::new(Format::F32, width, bytes), size(name)?))
    }

    /// The shape of a tensor of four dimensions.
    fn sides(&self, name: &str) -> Result<[u32; 4]> {
        let shape = self.reference.shape(name)?;
        let sides = <[usize; 4]>::try_from(shape);
        let sides =
            sides.map_err(|_| Error::model(format!("{name}: wanted four dimensions, found {shape:?}")))?;
        Ok(sides.map(|side| side as u32))
    }

    /// `[N, heads, T, size]` as `[N, T, heads * size]`, heads filled up to whole vec4s.
    fn tokens_first(&self, name: &str) -> Result<(Shape, Vec<f32>)> {
        let [n, heads, tokens, size] = self.sides(name)?;
        let (values, padded) = (self.reference.f32(name)?, size.next_multiple_of(4));
        let rows = (0..n * tokens * heads).map(|i| {
            let (image, token, head) = (i / (tokens * heads), i / heads % tokens, i % heads);
            &values[(((image * heads + head) * tokens + token) * size) as usize..][..size as usize]
        });
        let ordered: Vec<f32> = rows.flatten().copied().collect();
        Ok((Shape::tokens(n, tokens, heads * padded), resized(&ordered, size, padded)))
    }
}

/// Rows of so many channels with more, which are zero, or with fewer.
fn resized(values: &[f32], from: u32, to: u32) -> Vec<f32> {
    let row = |row: &[f32]| (0..to as usize).map(|c| row.get(c).copied().unwrap_or(0.0)).collect::<Vec<_>>();
    values.chunks_exact(from as usize).flat_map(row).collect()
}

/// Of a name: "1e-6" of "rms.out_1e-6".
fn number(name: &str, word: Option<&str>) -> Result<f32> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| unknown(name))
}

/// Height and width at the end of a name: "pixart_pos.5x7".
fn size(name: &str) -> Result<[u32; 2]> {
    let sides = name.rsplit(['.', '_']).next().and_then(|last| last.split_once('x'));
    let sides = sides.and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
    sides.ok_or_else(|| unknown(name))
}

/// An error, so that nothing of a set passes unseen.
fn unknown(name: &str) -> Error {
    Error::model(format!("the operation {name} is not known"))
}
