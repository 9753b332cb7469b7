//! Running plans: bands, shared buffers, repetition and cancelling leave every bit as it is.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::harness::{Bench, Ready, on_gpu};
use tintype::error::Code;
use tintype::gpu::{Choice, Gpu, Program, Tuning, lower};
use tintype::host::Cancel;
use tintype::kernels::VARIANTS;
use tintype::nn::{Attention, Conv, GroupConv, GroupNorm, Heads, LayerNorm, Linear, Projections};
use tintype::plan::ops::{self, Activation, Epilogue, HeadNorm, HeadWeight, LinearAttention};
use tintype::quant::Format;
use tintype::shape::{Elem, Shape};
use tintype::weights::Rows;

const OUTPUTS: [&str; 3] = ["sample", "predictions", "picture"];

/// At such rates a step is one band, and all steps are one submit; or every row of workgroups is a band, and
/// nearly every band a submit.
const FAST: f64 = 1e15;
const SLOW: f64 = 1.0;

type Kind = (Elem, Tuning);

/// What is run: two storages, since a few kernels have no halves, tiles, and Winograd. Large blocks run on SwiftShader alone, which
/// they are for: others take long to compile them.
fn kinds(gpu: &Gpu) -> [Kind; 4] {
    kinds_with(gpu.tuning.get())
}

fn kinds_with(own: Tuning) -> [Kind; 4] {
    [
        (Elem::Pack16, Tuning::BASE),
        (Elem::F32, own),
        (Elem::Pack16, Tuning::WIDE),
        (Elem::Pack16, Tuning::WINOGRAD),
    ]
}

/// Every kernel of the target once at least, with more rows than one workgroup has.
fn chain(taps: bool, (elem, tuning): Kind) -> Bench {
    let mut b = Bench::new(elem, Format::Q8);
    b.r.target.taps = taps;
    b.tuning = tuning;
    let d = &mut b.d;
    let conv_in = Conv::declare(d, "conv_in", 4, 20, 3, true);
    let norm = GroupNorm::declare(d, "norm", 20, 2, 1e-5);
    let layer_norm = LayerNorm::declare(d, "layer_norm", 20, 1e-5);
    let head_norm = d.vectors(["first".to_owned(), "second".to_owned()], 4);
    let attention = Attention::declare(d, "attention", 20, Heads { count: 2, size: 10 }, Projections::CLIP);
    let geglu = Linear::geglu(d, "geglu", 20, 40);
    let depth = GroupConv::declare(d, "depth", (20, Rows::From(0), 20), [1, 3], true);
    let conv_out = Conv::declare(d, "conv_out", 40, 4, 3, true);
    let to_rgb = Conv::declare(d, "to_rgb", 20, 3, 1, true);
    b.fill();

    let shape = Shape::new(2, 41, 19, 4);
    let values = b.random.values((shape.rows() * 4) as usize);
    let mut f32_input = |shape, values: &[f32]| b.input_of(shape, Elem::F32, values.to_vec()).0;
    let [sample, noise] = [1.0, 0.5].map(|size| {
        let values: Vec<f32> = values.iter().map(|v| v * size).collect();
        f32_input(shape, &values)
    });
    let values: Vec<f32> = values.repeat(4).iter().map(|v| v * 0.25).collect();
    let predictions = f32_input(Shape { n: 4 * shape.n, ..shape }, &values);
    let one = f32_input(Shape::new(1, 1, 1, 4), &[1.0, 0.0, 0.0, 0.0]);
    let scales = f32_input(Shape::new(2, 1, 2, 4), &[0.5; 16]);
    let coefficients = f32_input(
        Shape::new(1, 1, 3, 4),
        &[1.0, -0.5, 2.0, 0.0, 0.5, 0.25, 0.125, 1.0, 0.5, -0.25, 0.125, 1.0],
    );

    let r = &mut b.r;
    let x = ops::scale(r, sample, one, 2, Activation::None);
    let x = r.tap("scale", x);
    let x = conv_in.record(r, x, None, Epilogue::default());
    let x = r.tap("conv_in", x);
    let h = norm.record(r, x, None, Activation::Silu);
    let h = r.tap("norm", h);
    let h = layer_norm.record(r, h);
    let h = r.tap("layer_norm", h);
    let norm = Some(HeadWeight { weight: head_norm, epsilon: 1e-5, split: Some(40) });
    let h = HeadNorm { x: (h, 0), sets: 1, heads: 5, size: 4, norm, rotary: None }.record(r);
    let h = r.tap("head_norm", h);
    let h = ops::patchify(r, h, 1);
    let h = r.tap("patchify", h);
    let h = attention.record(r, h, None, x, false);
    let h = r.tap("attention", h);
    let h = ops::add(r, scales, 1, h, x);
    let h = r.tap("add", h);
    let (q, k, v) = ((h, 0), (h, 0), (h, 0));
    let h = LinearAttention { q, k, v, heads: 5, size: 4, each: 4 }.record(r);
    let h = r.tap("linear_attention", h);
    let h = depth.of(h).record(r);
    let h = r.tap("depth", h);
    let h = ops::shrink(r, h, 1, 20);
    let h = r.tap("shortcut", h);
    let rgb = to_rgb.record(r, h, None, Epilogue::default());
    let rgb = ops::mean(r, rgb);
    let h = geglu.of(h).record(r);
    let h = r.tap("geglu", h);
    let h = conv_out.record(r, h, None, Epilogue::default());
    let h = ops::copy(r, h);
    let h = if elem == Elem::F32 { ops::multiply_add(r, h) } else { h };
    ops::step(r, coefficients, h, noise, sample, predictions);
    let picture = ops::image(r, rgb);
    for (name, t) in OUTPUTS.into_iter().zip([sample, predictions, picture]) {
        r.output(name, t);
    }
    b
}

fn program(taps: bool, target: Kind) -> Program {
    lower(chain(taps, target).r.finish(), &target.1)
}

fn outputs(ready: &Ready) -> [Vec<u8>; 3] {
    let [sample, predictions] = ["sample", "predictions"].map(|name| ready.values(name));
    assert!(sample.iter().chain(&predictions).all(|v| v.is_finite()), "not a number");
    OUTPUTS.map(|name| ready.bytes(name))
}

/// Runs the chain in a new session at this rate. Returns the outputs and the progress.
fn run(gpu: &Rc<Gpu>, target: Kind, taps: bool, rate: f64) -> ([Vec<u8>; 3], Vec<f64>) {
    gpu.set_rate(rate);
    let ready = chain(taps, target).ready(gpu, |_| {});
    ready.write();
    let progress = RefCell::new(vec![]);
    let note = |done| progress.borrow_mut().push(done);
    pollster::block_on(ready.session.run("test", &Cancel::default(), &note)).unwrap();
    gpu.set_rate(FAST);
    (outputs(&ready), progress.into_inner())
}

#[test]
fn the_chains_have_every_kernel_and_enough_rows() {
    let programs = kinds_with(Tuning::LANES).map(|kind| program(false, kind));
    let dispatches = || programs.iter().flat_map(|program| &program.dispatches);
    let used: BTreeSet<&str> = dispatches().map(|d| d.variant.get().kernel).collect();
    assert_eq!(used, VARIANTS.iter().map(|v| v.kernel).collect());
    for dispatch in dispatches() {
        let (v, rows) = (dispatch.variant.get(), dispatch.threads[1]);
        assert!(rows > v.workgroup[1], "{} has {rows} rows of threads", v.kernel);
    }
}

#[test]
fn bands_give_the_same_bits() {
    on_gpu(|gpu| {
        for target in kinds(gpu) {
            let (whole, progress) = run(gpu, target, false, FAST);
            assert_eq!(progress, [1.0]);
            let (cut, progress) = run(gpu, target, false, SLOW);
            assert!(cut == whole, "bands change the result");
            assert!(progress.len() > 10, "{} submits", progress.len());
            assert!(progress.is_sorted() && progress[0] > 0.0, "{progress:?}");
            assert!((progress.last().unwrap() - 1.0).abs() < 1e-9, "{progress:?}");
        }
    });
}

#[test]
fn shared_buffers_give_the_same_bits() {
    on_gpu(|gpu| {
        for target in kinds(gpu) {
            let buffers = |taps| program(taps, target).buffers.sizes.len();
            assert!(buffers(false) < buffers(true), "nothing is shared");
            let (shared, _) = run(gpu, target, false, FAST);
            let (kept, _) = run(gpu, target, true, FAST);
            assert!(shared == kept, "sharing changes the result");
        }
    });
}

#[test]
fn twice_gives_the_same_bits() {
    on_gpu(|gpu| {
        for target in kinds(gpu) {
            let ready = chain(false, target).ready(gpu, |_| {});
            ready.run();
            let first = outputs(&ready);
            ready.run();
            assert!(outputs(&ready) == first, "the second run differs");
        }
    });
}

#[test]
fn a_cancelled_session_works_afterwards() {
    on_gpu(|gpu| {
        let (want, _) = run(gpu, kinds(gpu)[0], false, FAST);
        gpu.set_rate(SLOW);
        let ready = chain(false, kinds(gpu)[0]).ready(gpu, |_| {});
        ready.write();
        let (cancel, last) = (Cancel::default(), RefCell::new(0.0));
        let first_submit = |done| {
            cancel.cancel();
            last.replace(done);
        };
        let result = pollster::block_on(ready.session.run("test", &cancel, &first_submit));
        assert_eq!(result.unwrap_err().code, Code::Cancelled);
        assert!(last.into_inner() < 0.5, "it ran on after the cancel");
        gpu.set_rate(FAST);
        ready.run();
        assert!(outputs(&ready) == want, "the cancel left something behind");
    });
}

/// On every adapter all that may be chosen computes the same; a trial chooses, and only once.
#[test]
fn a_trial_runs_every_table_that_may_fit() {
    on_gpu(|gpu| {
        let (own, choice) = (gpu.tuning.get(), gpu.choice.get());
        let go_on = || false;
        let tried = pollster::block_on(gpu.trials(Elem::F32, &go_on)).unwrap();
        assert_eq!(tried[0].tuning.name, own.name);
        assert!(tried.len() > 1);
        for trial in &tried {
            assert!(trial.seconds.is_some_and(|s| s > 0.0), "{}: {:?}", trial.tuning.name, trial.seconds);
        }
        let cancelled = pollster::block_on(gpu.trials(Elem::F32, &|| true));
        assert_eq!(cancelled.unwrap_err().code, Code::Cancelled);
        if gpu.info.software {
            let large = || Ok(u64::MAX);
            pollster::block_on(gpu.try_tables(Elem::F32, large, &go_on)).unwrap();
            assert_eq!(gpu.choice.get(), Choice::Auto, "no trial in software");
        }
        gpu.choice.set(Choice::Measured);
        let of_any = || panic!("wherever it is, whatever the model");
        pollster::block_on(gpu.try_tables(Elem::F32, of_any, &go_on)).unwrap();
        assert_eq!(gpu.choice.get(), Choice::Made);
        gpu.tuning.set(own);
        gpu.choice.set(choice);
    });
}
