//! Seconds of the loops at shapes of networks, one thread: natively by `cargo run --release -p tintype-cpu --example
//! shapes`, in Node by `node crates/cpu/examples/shapes.mjs`.

use tintype_cpu::conv::{Conv, Shape, Way};
use tintype_cpu::matmul::Matmul;
use tintype_cpu::winograd::Kind;
use tintype_cpu::{Dense, Epilogue, Form, Scratch};
use tintype_quant::{Format, Matrix};

type Case = ([usize; 2], usize, usize, usize);

/// Height and width, channels in and out, and the kernel; a product of so many rows where it is 0.
const SHAPES: [Case; 24] = [
    ([32, 32], 160, 160, 3),
    ([32, 32], 320, 160, 3),
    ([16, 16], 320, 320, 3),
    ([16, 16], 640, 320, 3),
    ([8, 8], 640, 640, 3),
    ([8, 8], 1280, 640, 3),
    ([4, 4], 640, 640, 3),
    ([64, 64], 320, 320, 3),
    ([32, 32], 640, 640, 3),
    ([16, 16], 1280, 1280, 3),
    ([8, 8], 1280, 1280, 3),
    ([32, 32], 512, 512, 3),
    ([64, 64], 512, 512, 3),
    ([128, 128], 256, 256, 3),
    ([256, 256], 128, 128, 3),
    ([1, 1024], 160, 160, 0),
    ([1, 1024], 320, 2560, 0),
    ([1, 256], 320, 2560, 0),
    ([1, 64], 640, 5120, 0),
    ([1, 64], 2560, 640, 0),
    ([1, 16], 640, 5120, 0),
    ([1, 77], 768, 2304, 0),
    ([1, 77], 3072, 768, 0),
    ([1, 1], 1280, 1280, 0),
];

/// How weights are kept, and what is computed with them.
const WAYS: [(&str, Format, Form, Option<Way>); 9] = [
    ("gathered", Format::F32, Form::Plain, Some(Way::Direct)),
    ("F2 a call", Format::F32, Form::Plain, Some(Way::Winograd(Kind::F2))),
    ("F4 a call", Format::F32, Form::Plain, Some(Way::Winograd(Kind::F4))),
    ("F2 kept", Format::F32, Form::Winograd(Kind::F2), None),
    ("F4 kept", Format::F32, Form::Winograd(Kind::F4), None),
    ("chosen", Format::F32, Form::Plain, None),
    ("q8", Format::Q8, Form::Plain, None),
    ("q4", Format::Q4, Form::Plain, None),
    ("f16", Format::F16, Form::Plain, None),
];

/// Whether a way is one of this shape.
fn fits(kernel: usize, way: usize) -> bool {
    kernel == 3 || way >= 5
}

/// The best of some calls, in units of `now`.
fn best((size, inputs, outputs, kernel): Case, way: usize, calls: usize, now: &dyn Fn() -> f64) -> f64 {
    let (_, format, form, way) = WAYS[way];
    let taps = (kernel * kernel).max(1);
    let matrix = Matrix { format, outputs: outputs as u32, inputs: inputs as u32, taps: taps as u32 };
    let dense = Dense::new(&matrix, vec![0x11; matrix.bytes()], form);
    let rows = size[0] * size[1];
    let (x, bias) = (vec![0.01; rows * inputs], vec![0.0; outputs]);
    let mut y = vec![0.0; rows * outputs];
    let epilogue = Epilogue {
        bias: &bias,
        vectors: None,
        gates: false,
        rows_per_image: rows,
        residual: None,
        width: outputs,
        activation: 0,
    };
    let x: [&[f32]; 2] = [&x, &[]];
    let inputs = [inputs, 0];
    let shape =
        Shape { images: 1, inputs, outputs, stored: size, size, out: size, kernel, stride: 1, pad: 1 };
    let conv = Conv { shape, x, weight: &dense, epilogue, way };
    let matmul = Matmul { rows, x, inputs, weight: &dense, epilogue, gate: None };
    let mut scratch = Scratch::default();
    let mut call = || match kernel {
        0 => (0..matmul.pieces()).for_each(|piece| matmul.run(piece, &mut y, &mut scratch)),
        _ => (0..conv.pieces()).for_each(|piece| conv.run(piece, &mut y, &mut scratch)),
    };
    let mut best = f64::INFINITY;
    for _ in 0..calls {
        let begin = now();
        call();
        best = best.min(now() - begin);
    }
    best
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("no pool was made before");
    let clock = std::time::Instant::now();
    let now = || clock.elapsed().as_secs_f64();
    for shape in SHAPES {
        let (size, inputs, outputs, kernel) = shape;
        print!("{size:?} {inputs} -> {outputs}, {kernel}:");
        for (way, (name, ..)) in WAYS.iter().enumerate().filter(|(way, _)| fits(kernel, *way)) {
            print!("  {name} {:.2}", best(shape, way, 7, &now) * 1e3);
        }
        println!(" ms");
    }
}

#[cfg(target_arch = "wasm32")]
fn main() {}

/// Milliseconds, by numbers of a shape and a way; -1 where there is none, -2 behind the last.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub extern "C" fn measure(shape: usize, way: usize, calls: usize) -> f64 {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        safe fn now() -> f64;
    }
    match (SHAPES.get(shape), way < WAYS.len()) {
        (Some(&shape), true) if fits(shape.3, way) => best(shape, way, calls, &|| now()),
        (Some(_), true) => -1.0,
        _ => -2.0,
    }
}
