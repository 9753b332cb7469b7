//! Single operations with awkward values. The file of references is itself a checkpoint: its weights are
//! declared and filled like any model's.

use serde_json::Value;
use tintype::device::{Session, Weights};
use tintype::error::{Error, Result};
use tintype::host::Cancel;
use tintype::nn::{Conv, GroupNorm, LayerNorm, Linear};
use tintype::plan::ops::{self, Activation, Attention, Epilogue};
use tintype::plan::{Recorder, Tensor};
use tintype::quant::{Format, Scales};
use tintype::shape::{Elem, Shape};
use tintype::weights::{Checkpoint, Columns, Declarations, DiskFolder, Handle, Hooks, Rows, weight_and_bias};

use super::reference::Reference;
use super::{Bench, Check};

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let mut checks = vec![];
    for name in reference.names() {
        let Some(output) = output(name) else { continue };
        let got = one(bench, &reference, name, output).await?;
        checks.push(Check::new(name, &got, &reference.nhwc(name)?));
    }
    Ok(checks)
}

/// Which operation made this tensor; `None` for inputs and weights.
fn output(name: &str) -> Option<&str> {
    match name.rsplit_once('.') {
        Some((op, "out")) => Some(op),
        Some((op, last)) if last.starts_with("out_") => Some(op),
        Some(_) => None,
        None => (name != "x" && name != "nearest_in").then_some(name),
    }
}

async fn one(bench: &Bench, reference: &Reference, name: &str, op: &str) -> Result<Vec<f32>> {
    let mut d = Declarations::new(bench.load.weights);
    let target = bench.target.clone();
    let mut r = Recorder::new(&target);
    r.section("op");
    let input = match op {
        "nearest2x" | "nearest_to_17x13" => "nearest_in".to_owned(),
        "attn" => "attn.q".to_owned(),
        _ if reference.has(&format!("{op}.in")) => format!("{op}.in"),
        _ => "x".to_owned(),
    };
    let shape = shape(reference, &input)?;
    let out = reference.shape(name)?.to_vec();
    let x = r.input("in", shape, target.elem);
    let mut blobs = None;
    let mut more = vec![];
    let y = match op {
        "conv1" | "conv3" | "conv3_s2" | "conv3_s2_asym" => {
            let weight = reference.shape(&format!("{op}.weight"))?;
            let conv = Conv::declare(&mut d, op, shape.c, weight[0] as u32, weight[2] as u32, true);
            match op {
                "conv3_s2" => conv.downsample(&mut r, x, (1, 1)),
                "conv3_s2_asym" => conv.downsample(&mut r, x, (0, 1)),
                _ => conv.record(&mut r, x, None, Epilogue::default()),
            }
        }
        "nearest2x" | "nearest_to_17x13" => {
            let (weight, identity) = identity(&mut d, op, shape.c);
            blobs = Some(vec![identity]);
            weight.upsample(&mut r, x, (out[2] as u32, out[3] as u32))
        }
        "geglu" => Linear::geglu(&mut d, op, shape.c, out[2] as u32).of(x).record(&mut r),
        "ln" | "ln_small" => LayerNorm::declare(&mut d, op, shape.c, 1e-5).record(&mut r, x),
        "attn" => {
            let heads = name.trim_start_matches("attn.out_heads").parse().map_err(|_| unknown(name))?;
            let keys = self::shape(reference, "attn.k")?;
            let [k, v] = ["k", "v"].map(|n| r.input(n, keys, target.elem));
            more = vec![("k", reference.f32("attn.k")?), ("v", reference.f32("attn.v")?)];
            return attention(bench, reference, heads, [x, k, v], more, r).await;
        }
        "softmax_large" => {
            // Attention over unit keys and values is a softmax of the queries.
            let n = shape.c;
            let [k, v] = ["k", "v"].map(|name| r.input(name, Shape::tokens(1, n, n), target.elem));
            let unit: Vec<f32> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
            more = vec![("k", unit.clone()), ("v", unit)];
            // A head size of one keeps the scores as they are.
            Attention { padded: n, ..Attention::of((x, 0), (k, 0), (v, 0), 1, 1) }.record(&mut r)
        }
        _ if op.starts_with("gn_") => {
            let epsilon = op.rsplit('_').next().and_then(|e| e.parse().ok()).ok_or_else(|| unknown(name))?;
            GroupNorm::declare(&mut d, op, shape.c, 4, epsilon).record(&mut r, x, None, Activation::None)
        }
        _ => {
            let activation = activation(op).ok_or_else(|| unknown(name))?;
            let x = r.input("values", shape, Elem::F32);
            let one = r.input("one", Shape::new(1, 1, 1, 4), Elem::F32);
            more = vec![("values", reference.f32("x")?), ("one", vec![1.0, 0.0, 0.0, 0.0])];
            ops::scale(&mut r, x, one, 1, activation)
        }
    };
    r.output("out", y);
    let weights = match blobs {
        Some(blobs) => Weights::from_blobs(&bench.device, &d, blobs),
        None => fill(bench, &d, "ops").await?,
    };
    more.push(("in", reference.nhwc(&input)?));
    outcome(r, &weights, &more).await
}

/// What a plan makes of its inputs.
pub(super) async fn outcome(r: Recorder, weights: &Weights, inputs: &[(&str, Vec<f32>)]) -> Result<Vec<f32>> {
    let session = Session::new(r.finish(), weights).await?;
    for (name, values) in inputs {
        session.write(name, values);
    }
    session.run("op", &Cancel::default(), &|_| {}).await?;
    session.read("out").await
}

pub(super) fn unknown(name: &str) -> Error {
    Error::unsupported(format!("the operation {name} is not known yet"))
}

pub(super) fn activation(op: &str) -> Option<Activation> {
    Some(match op {
        "relu" => Activation::Relu,
        "silu" => Activation::Silu,
        "gelu_erf" => Activation::Gelu,
        "gelu_tanh" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "tanh" => Activation::Tanh,
        "tanh3" => Activation::SoftClamp,
        _ => return None,
    })
}

/// [N, C, H, W] images, [N, T, C] sequences, [n] values.
pub(super) fn shape(reference: &Reference, name: &str) -> Result<Shape> {
    Ok(match *reference.shape(name)? {
        [n, c, h, w] => Shape::new(n as u32, h as u32, w as u32, c as u32),
        [n, t, c] => Shape::tokens(n as u32, t as u32, c as u32),
        [n] => Shape::new(1, 1, 1, n as u32),
        _ => return Err(unknown(name)),
    })
}

/// From the file of references of this name.
pub(super) async fn fill(bench: &Bench, d: &Declarations, stem: &str) -> Result<Weights> {
    if d.specs.is_empty() {
        return Ok(Weights::from_blobs(&bench.device, d, vec![]));
    }
    let folder = DiskFolder::new(bench.root.join("ref"));
    let checkpoint = Checkpoint::new(&folder, "", stem);
    Weights::load(&bench.device, d, &[checkpoint], Hooks::NONE).await
}

/// A 3x3 convolution that copies, to see the upsample in front of it.
fn identity(d: &mut Declarations, path: &str, channels: u32) -> (Conv, (Handle, Vec<u8>)) {
    d.format = Format::F32;
    let conv = Conv::declare(d, path, channels, channels, 3, true);
    let spec = d.specs.last().expect("just declared");
    let tintype::weights::Layout::Matrix(matrix) = spec.layout else { unreachable!("a convolution") };
    let mut blob = vec![0; matrix.bytes()];
    for o in 0..channels {
        let centre = |i: u32| if i == o * 9 + 4 { 1.0 } else { 0.0 };
        matrix.store_row(
            &mut blob,
            o,
            &(0..channels * 9).map(centre).collect::<Vec<f32>>(),
            |c| c,
            Scales::Chosen,
        );
    }
    (conv, (Handle(d.specs.len() as u32 - 1), blob))
}

/// Through projections that only spread the heads to their padded places, and back.
async fn attention(
    bench: &Bench,
    reference: &Reference,
    heads: u32,
    [q, k, v]: [Tensor; 3],
    mut more: Vec<(&str, Vec<f32>)>,
    mut r: Recorder,
) -> Result<Vec<f32>> {
    let size = q.shape.c / heads;
    let padded = size.next_multiple_of(4);
    let mut d = Declarations::new(Format::F32);
    let spread_rows = Rows::Heads { at: 0, size, padded };
    let spread_columns = Columns::Heads { size, padded };
    let width = q.shape.c as usize;
    let spread = Linear::fused(
        &mut d,
        q.shape.c,
        heads * padded,
        weight_and_bias("in", vec![width, width], false, spread_rows, Columns::Same),
    );
    let gather = Linear::fused(
        &mut d,
        heads * padded,
        q.shape.c,
        weight_and_bias("out", vec![width, width], false, Rows::From(0), spread_columns),
    );
    let [q, k, v] = [q, k, v].map(|t| spread.of(t).record(&mut r));
    let y = Attention::of((q, 0), (k, 0), (v, 0), heads, size).record(&mut r);
    let y = gather.of(y).record(&mut r);
    r.output("out", y);

    let mut blobs = vec![];
    for (i, spec) in d.specs.iter().enumerate() {
        let tintype::weights::Layout::Matrix(matrix) = spec.layout else { unreachable!("a linear layer") };
        let mut blob = vec![0; matrix.bytes()];
        for o in 0..q.shape.c.min(width as u32) {
            let unit: Vec<f32> = (0..width as u32).map(|c| if c == o { 1.0 } else { 0.0 }).collect();
            let (row, columns) =
                if i == 0 { (spread_rows.place(o), Columns::Same) } else { (o, spread_columns) };
            matrix.store_row(&mut blob, row, &unit, |c| columns.place(c), Scales::Chosen);
        }
        blobs.push((Handle(i as u32), blob));
    }
    let weights = Weights::from_blobs(&bench.device, &d, blobs);
    more.push(("in", reference.f32("attn.q")?));
    outcome(r, &weights, &more).await
}
