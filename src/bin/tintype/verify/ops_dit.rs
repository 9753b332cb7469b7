//! Single operations of diffusion transformers, in the form of verify/ops.rs: what kernels make, and tables of the CPU.

use tintype::device::{Session, Weights};
use tintype::error::Result;
use tintype::host::Cancel;
use tintype::model::dit::{self, features, rotary};
use tintype::model::t5;
use tintype::nn::{GroupConv, RmsNorm};
use tintype::plan::ops::{
    self, Activation, Attention, HeadNorm, LayerNorm, LinearAttention, NormKind, Rotary,
};
use tintype::plan::{Recorder, Tensor};
use tintype::shape::{Elem, Shape, nchw};
use tintype::weights::{Checkpoint, Declarations, DiskFolder, Hooks, Rows};

use super::ops::{shape, unknown};
use super::reference::Reference;
use super::{Bench, Check};

/// The file of references, which is a checkpoint itself.
const FILE: &str = "ops-dit";

pub async fn run(bench: &Bench, reference: &Reference) -> Result<Vec<Check>> {
    let mut checks = vec![];
    for name in reference.names() {
        let (op, last) = name.split_once('.').unwrap_or((name, ""));
        let given = ["in", "q", "k", "v", "ids", "relative", "weight", "bias", "gemma_weight", "full", "sin"];
        // Sines are compared with cosines.
        if given.contains(&last) || name == "x" {
            continue;
        }
        let wanted = reference.f32(name)?;
        let found = match tables(reference, op, last)? {
            Some(found) => found,
            None => made(bench, reference, name).await?,
        };
        checks.push(Check::new(name, &found, &wanted));
    }
    Ok(checks)
}

/// What the CPU makes of a name alone.
fn tables(reference: &Reference, op: &str, last: &str) -> Result<Option<Vec<f32>>> {
    let size = || last.rsplit('_').next().and_then(|size| size.split_once('x'));
    let sides = || size().and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
    let name = format!("{op}.{last}");
    Ok(Some(match (op, last) {
        ("timestep", _) => features(last.trim_start_matches('t').parse().map_err(|_| unknown(&name))?),
        ("t5_bucket", "bucket") => {
            let distances = reference.f32("t5_bucket.relative")?;
            distances.iter().map(|&distance| t5::bucket(distance as i64, 32, 128) as f32).collect()
        }
        ("sd3_pos", "computed") | ("pixart_pos", _) => {
            let (wanted, shape) = (reference.f32(&name)?, reference.shape(&name)?);
            let side = (shape[0] as f64).sqrt() as u32;
            let sides = sides().unwrap_or([side; 2]);
            // The first sine and cosine of the second column say how far apart columns are.
            let second = &wanted[shape[1]..];
            let step = second[0].atan2(second[shape[1] / 4]);
            dit::grid(sides, (step * sides[1] as f32).round(), shape[1])
        }
        ("sd3_pos", _) => {
            let (full, shape) = (reference.f32("sd3_pos.full")?, reference.shape("sd3_pos.full")?);
            let side = (shape[0] as f64).sqrt() as u32;
            let places = dit::middle(side, sides().ok_or_else(|| unknown(&name))?);
            places.flat_map(|at| &full[at * shape[1]..][..shape[1]]).copied().collect()
        }
        (_, "cos") => {
            let (pairs, _, neighbours) = turned(reference, op)?;
            let width = reference.shape(&name)?.last().copied().unwrap_or(0);
            let wanted = [reference.f32(&name)?, reference.f32(&format!("{op}.sin"))?];
            // Each pair once, or for both of its channels: neighbours, or half a head apart.
            let each = width / (pairs[0].len() / 2);
            let of = |row: usize, column: usize| {
                let pair = if neighbours { column / each } else { column % (width / each) };
                [pairs[row][2 * pair], pairs[row][2 * pair + 1]]
            };
            let found: Vec<[f32; 2]> = (0..wanted[0].len()).map(|i| of(i / width, i % width)).collect();
            // A sine that is wrong shows in its cosine's place.
            let pick = |(i, [cos, sin]): (usize, &[f32; 2])| {
                if (sin - wanted[1][i]).abs() < 1e-6 { *cos } else { f32::NAN }
            };
            found.iter().enumerate().map(pick).collect()
        }
        _ => return Ok(None),
    }))
}

/// The cosines and sines of each token of a rotary case, the channels of a head, and whether pairs are neighbours.
fn turned(reference: &Reference, op: &str) -> Result<(Vec<Vec<f32>>, usize, bool)> {
    fn places<const N: usize>(reference: &Reference, op: &str) -> Result<Vec<[u32; N]>> {
        let ids = reference.f32(&format!("{op}.ids"))?;
        Ok(ids.as_chunks::<N>().0.iter().map(|row| row.map(|id| id as u32)).collect())
    }
    // Heads and frequencies of the models that the set is made of.
    let (table, head) = match op {
        "rope_flux" => (rotary::table([4, 8, 12], 10_000.0, places(reference, op)?), 24),
        "rope_flux2" => (rotary::table([6; 4], 2000.0, places(reference, op)?), 24),
        "rope_z" => (rotary::table([8, 4, 12], 256.0, places(reference, op)?), 24),
        "rope_half" => {
            let tokens = reference.shape("rope_half.in")?[2] as u32;
            (rotary::table([16], 1e6, (0..tokens).map(|place| [place])), 16)
        }
        _ => return Err(unknown(op)),
    };
    Ok((table.chunks(head).map(<[f32]>::to_vec).collect(), head, op != "rope_half"))
}

/// What a device makes of it.
async fn made(bench: &Bench, reference: &Reference, name: &str) -> Result<Vec<f32>> {
    let (op, last) = name.split_once('.').unwrap_or((name, ""));
    let mut d = Declarations::new(bench.load.weights);
    let target = bench.target.clone();
    let mut r = Recorder::new(&target);
    r.section("op");
    let mut inputs: Vec<(&str, Vec<f32>)> = vec![];
    let values = |file: &str| reference.f32(file);
    let mut input =
        |r: &mut Recorder, name: &'static str, shape: Shape, elem: Elem, values: Vec<f32>| -> Tensor {
            inputs.push((name, values));
            r.input(name, shape, elem)
        };
    let out = reference.shape(name)?.to_vec();
    let channels = || out[1] as u32;
    let mut back = Back::Pixels;
    let y = match op {
        // Of fewer channels than a shortcut makes: others beside them are left out again.
        "pixel_shuffle" => {
            let shape = shape(reference, "pix.in")?;
            let all = 4 * channels().next_multiple_of(4);
            let wide = |row: &[f32]| row.iter().copied().cycle().take(all as usize).collect::<Vec<f32>>();
            let values = reference.nhwc("pix.in")?.chunks_exact(shape.c as usize).flat_map(wide).collect();
            let x = input(&mut r, "in", shape.with_c(all), target.elem, values);
            ops::grow(&mut r, x, 2, all / 4)
        }
        "depthwise" | "grouped1x1" | "pixel_unshuffle" | "up_shortcut_repeat2" | "down_shortcut_mean4" => {
            let x = input(&mut r, "in", shape(reference, "pix.in")?, target.elem, reference.nhwc("pix.in")?);
            match op {
                "up_shortcut_repeat2" => ops::grow(&mut r, x, 2, channels()),
                "pixel_unshuffle" | "down_shortcut_mean4" => ops::shrink(&mut r, x, 2, channels()),
                _ => {
                    let weight = reference.shape(&format!("{op}.weight"))?;
                    let outputs = (weight[0] as u32, Rows::From(0), weight[0] as u32);
                    let (inputs, bias) = ([weight[1], weight[2]].map(|n| n as u32), op == "depthwise");
                    GroupConv::declare(&mut d, op, outputs, inputs, bias).of(x).record(&mut r)
                }
            }
        }
        "pack" => {
            let shape = shape(reference, "pack.in")?;
            let x = input(&mut r, "in", shape, target.elem, reference.nhwc("pack.in")?);
            back = Back::Packed { channels: shape.c as usize, last: last.to_owned() };
            ops::patchify(&mut r, x, 2)
        }
        "rms" | "rms_small" | "ln_noaffine_1e-6" => {
            let of = |name: &str| name.rsplit('_').next().and_then(|e| e.parse().ok());
            let epsilon = of(if last == "out" { op } else { last }).ok_or_else(|| unknown(name))?;
            let shape = shape(reference, &format!("{op}.in"))?;
            let x = input(&mut r, "in", shape, target.elem, values(&format!("{op}.in"))?);
            back = Back::Same;
            match last.contains("gemma") {
                _ if op.starts_with("ln") => LayerNorm::of(NormKind::Layer(None), epsilon, x).record(&mut r),
                true => {
                    let weight = d.vector_from_one(format!("{op}.gemma_weight"), shape.c);
                    LayerNorm::of(NormKind::Rms(weight), epsilon, x).record(&mut r)
                }
                false => RmsNorm::declare(&mut d, op, shape.c, epsilon).record(&mut r, x),
            }
        }
        "gqa" | "linattn" => {
            let linear = op == "linattn";
            let mut of = |r: &mut Recorder, name: &'static str| -> Result<(Tensor, u32, u32)> {
                let file = format!("{op}.{name}");
                let &[n, heads, a, b] = reference.shape(&file)? else { return Err(unknown(&file)) };
                let (tokens, size) = if linear { (b, a) } else { (a, b) };
                let shape = Shape::tokens(n as u32, tokens as u32, (heads * size) as u32);
                let values = tokens_first(&values(&file)?, [n, heads, tokens, size], linear);
                Ok((input(r, name, shape, target.elem, values), heads as u32, size as u32))
            };
            let ((q, heads, size), (k, others, _), (v, ..)) =
                (of(&mut r, "q")?, of(&mut r, "k")?, of(&mut r, "v")?);
            back = Back::Heads { heads: heads as usize, last: linear };
            if linear {
                LinearAttention { q: (q, 0), k: (k, 0), v: (v, 0), heads, size, each: size }.record(&mut r)
            } else {
                let number = |word: &str| {
                    let found = last.split('_').find_map(|part| part.strip_prefix(word));
                    found.and_then(|number| number.parse::<f32>().ok())
                };
                let plain = Attention::of((q, 0), (k, 0), (v, 0), heads, size);
                let scale = number("scale").map_or(plain.scale, |of| of.powf(-0.5));
                Attention { causal: true, scale, cap: number("softcap"), shared: heads / others, ..plain }
                    .record(&mut r)
            }
        }
        _ if op.starts_with("rope_") => {
            let (pairs, size, neighbours) = turned(reference, op)?;
            // FLUX.2's and Z-Image's turn the heads of FLUX.1's.
            let file = if reference.has(&format!("{op}.in")) { op } else { "rope_flux" };
            let (x, shape) = (values(&format!("{file}.in"))?, reference.shape(&format!("{file}.in"))?);
            let &[n, a, b, _] = shape else { return Err(unknown(name)) };
            let (tokens, heads) = if neighbours { (a, b) } else { (b, a) };
            let x = if neighbours { x } else { tokens_first(&x, [n, heads, tokens, size], false) };
            let shape = Shape::tokens(n as u32, tokens as u32, (heads * size) as u32);
            let x = input(&mut r, "in", shape, target.elem, x);
            let table = Shape::tokens(1, tokens as u32, size as u32);
            let table = input(&mut r, "table", table, Elem::F32, pairs.concat());
            back = if neighbours { Back::Same } else { Back::Heads { heads, last: false } };
            let rotary = Some(Rotary { table, neighbours });
            HeadNorm { x: (x, 0), sets: 1, heads: heads as u32, size: size as u32, norm: None, rotary }
                .record(&mut r)
        }
        _ => {
            let cap = op.strip_prefix("softcap").and_then(|cap| cap.parse::<f32>().ok());
            let activation = match op {
                "relu" => Activation::Relu,
                "silu" => Activation::Silu,
                "gelu_tanh" => Activation::GeluTanh,
                _ if cap.is_some() || op == "tanh" => Activation::Tanh,
                _ => return Err(unknown(name)),
            };
            back = Back::Times(cap.unwrap_or(1.0));
            let x = input(&mut r, "in", shape(reference, "x")?, Elem::F32, values("x")?);
            let factor = vec![1.0 / cap.unwrap_or(1.0), 0.0, 0.0, 0.0];
            let factor = input(&mut r, "factor", Shape::new(1, 1, 1, 4), Elem::F32, factor);
            ops::scale(&mut r, x, factor, 1, activation)
        }
    };
    r.output("out", y);
    let weights = if d.specs.is_empty() {
        Weights::from_blobs(&bench.device, &d, vec![])
    } else {
        let folder = DiskFolder::new(bench.root.join("ref"));
        Weights::load(&bench.device, &d, &[Checkpoint::new(&folder, "", FILE)], Hooks::NONE).await?
    };
    let session = Session::new(r.finish(), &weights).await?;
    inputs.iter().for_each(|(name, values)| session.write(name, values));
    session.run("op", &Cancel::default(), &|_| {}).await?;
    let found = session.read("out").await?;
    Ok(back.ordered(found, &out))
}

/// How an output becomes what the reference has.
enum Back {
    /// `[N, h, w, ..]` to `[N, C, h, w]`, the first channels.
    Pixels,
    Same,
    Times(f32),
    /// `[N, T, heads * size]` to `[N, heads, T, size]`, or with tokens `last`.
    Heads {
        heads: usize,
        last: bool,
    },
    /// Squares of 2x2 in our order, to that of a file.
    Packed {
        channels: usize,
        last: String,
    },
}

impl Back {
    fn ordered(self, found: Vec<f32>, out: &[usize]) -> Vec<f32> {
        match self {
            Back::Same => found,
            Back::Times(factor) => found.iter().map(|v| v * factor).collect(),
            Back::Pixels => {
                let each = found.len() / (out[0] * out[2] * out[3]);
                let rows: Vec<f32> =
                    found.chunks_exact(each).flat_map(|row| &row[..out[1]]).copied().collect();
                nchw(&rows, out[1], out[2] * out[3])
            }
            Back::Heads { heads, last } => {
                let (tokens, size) = if last { (out[3], out[2]) } else { (out[2], out[3]) };
                let at =
                    |n: usize, h: usize, t: usize, c: usize| found[((n * tokens + t) * heads + h) * size + c];
                let (rows, columns) = if last { (size, tokens) } else { (tokens, size) };
                let places = (0..found.len()).map(|i| {
                    let (n, h) = (i / (heads * tokens * size), i / (tokens * size) % heads);
                    let (row, column) = (i / columns % rows, i % columns);
                    if last { at(n, h, column, row) } else { at(n, h, row, column) }
                });
                places.collect()
            }
            Back::Packed { channels, last } => {
                let places = 4;
                let of = |row: &[f32]| -> Vec<f32> {
                    if last == "sd3" {
                        return row.to_vec();
                    }
                    (0..row.len()).map(|i| row[i % places * channels + i / places]).collect()
                };
                let rows: Vec<f32> = found.chunks_exact(places * channels).flat_map(of).collect();
                if out.len() == 4 { nchw(&rows, out[1], out[2] * out[3]) } else { rows }
            }
        }
    }
}

/// `[N, heads, T, size]`, or with tokens `last`, to `[N, T, heads * size]`.
fn tokens_first(values: &[f32], [n, heads, tokens, size]: [usize; 4], last: bool) -> Vec<f32> {
    let places = (0..n * tokens * heads * size).map(|i| {
        let (image, token) = (i / (tokens * heads * size), i / (heads * size) % tokens);
        let (head, channel) = (i / size % heads, i % size);
        let row = image * heads + head;
        values[if last {
            (row * size + channel) * tokens + token
        } else {
            (row * tokens + token) * size + channel
        }]
    });
    places.collect()
}
