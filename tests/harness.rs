//! One GPU for all tests, and a bench that records operations, runs them and compares with a twin.
//!
//! Nothing may rest on luck: buffers hold NaN before the inputs are written, and NaN follows every buffer and
//! every blob, so that reading or writing past an end shows.

use std::collections::HashMap;
use std::ops::Index;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};

use half::f16;
use tintype::cpu;
use tintype::device::Device;
use tintype::gpu::{Gpu, GpuWeights, Program, Session, Tuning, lower};
use tintype::host::Cancel;
use tintype::plan::{Recorder, Target, Tensor};
use tintype::quant::{Format, Matrix};
use tintype::shape::{Elem, Shape};
use tintype::weights::{Declarations, Dtype, Filler, Handle, Layout, Pieces, Role, Sink, TensorInfo};

pub const ELEMS: [Elem; 3] = [Elem::F32, Elem::F16, Elem::Pack16];
pub const HALVES: [Elem; 2] = [Elem::F16, Elem::Pack16];
pub const FORMATS: [Format; 4] = Format::ALL;
pub const HALF_MAX: f64 = 65504.0;

// A sum of K f32 products rounds at most K times, each time by 2^-24 of a partial sum. The tests have
// K < 400 and signs at random: 20 roundings' worth, 1.2e-6; 2e-5 leaves room for exp and division, which
// Vulkan allows to be off by some units in the last place.
pub const F32_LIMIT: f64 = 2e-5;

/// Bytes of NaN behind each buffer and blob.
const GUARD: u64 = 64;

/// A plan in the making, with its inputs and weights.
pub struct Bench {
    pub d: Declarations,
    pub r: Recorder,
    pub random: Random,
    pub inputs: Vec<(String, Vec<f32>)>,
    pub blobs: Vec<(Handle, Vec<u8>)>,
    pub tuning: Tuning,
}

impl Bench {
    pub fn new(elem: Elem, format: Format) -> Bench {
        let mut r = Recorder::new(&Target::new(elem));
        r.section("test");
        let d = Declarations::new(format);
        Bench { d, r, random: Random(1), inputs: vec![], blobs: vec![], tuning: Tuning::BASE }
    }

    /// Between -1 and 1 at random. Returns also what the storage makes of the values, for the twin.
    pub fn input(&mut self, shape: Shape) -> (Tensor, Vec<f64>) {
        let values = self.random.values((shape.rows() * shape.c) as usize);
        self.input_of(shape, self.r.target.elem, values)
    }

    pub fn input_of(&mut self, shape: Shape, elem: Elem, values: Vec<f32>) -> (Tensor, Vec<f64>) {
        let name = format!("input{}", self.inputs.len());
        let tensor = self.r.input(&name, shape, elem);
        let stored = values.iter().map(|&v| stored(elem, v)).collect();
        self.inputs.push((name, values));
        (tensor, stored)
    }

    /// Fills everything declared from a checkpoint made up here. Returns the checkpoint as the kernels
    /// compute with it: dequantised, each value within the bound of its format.
    pub fn fill(&mut self) -> Checkpoint {
        let mut tensors = HashMap::new();
        let mut blobs = vec![];
        let mut pieces = Pieces::new(&self.d);
        let mut filler = Filler::new(&self.d, 0, |piece| {
            blobs.extend(pieces.add(piece));
            Ok(())
        });
        for part in self.d.specs.iter().flat_map(|s| &s.parts) {
            // Outputs differ in size, or one scale would do for all; some are zero, and so is their scale.
            let size = |o: usize| [0.3, 0.6, 0.9, 0.5, 0.7, 0.0, 0.4][o % 7];
            let end = 4 * part.values();
            let (name, shape) = (part.names[0].clone(), part.shape.clone());
            let info = TensorInfo { name, dtype: Dtype::F32, shape, begin: 0, end };
            let (rows, row) = (info.rows(), info.row_len());
            let values: Vec<f32> = (0..rows * row).map(|i| size(i / row) * self.random.value()).collect();
            assert!(filler.wants(&info).unwrap());
            filler.slab(&info, 0, rows, &values).unwrap();
            tensors.insert(info.name, values);
        }
        filler.finish("test").unwrap();
        for (handle, blob) in &blobs {
            let spec = &self.d.specs[handle.0 as usize];
            let Layout::Matrix(matrix) = spec.layout else { continue };
            for part in &spec.parts {
                let Role::Weight { rows, columns } = part.role else { continue };
                let place = |o, i| (rows.place(o), columns.place(i));
                dequantise(matrix, blob, part.shape[0], place, tensors.get_mut(&part.names[0]).unwrap());
            }
        }
        self.blobs = blobs;
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        Checkpoint(tensors.into_iter().map(|(name, values)| (name, wide(values))).collect())
    }

    /// Runs the plan and returns `y`.
    pub fn run(mut self, y: Tensor) -> Vec<f32> {
        self.r.output("y", y);
        on_gpu(move |gpu| {
            let ready = self.ready(gpu, |_| {});
            ready.run();
            ready.values("y")
        })
    }

    /// Runs the plan, which is for f32, on the CPU, and returns `y`.
    pub fn run_on_cpu(mut self, y: Tensor) -> Vec<f32> {
        self.r.output("y", y);
        let weights = cpu::Weights::from_blobs(&self.d, self.blobs);
        let session = cpu::Session::new(self.r.finish(), Rc::new(weights));
        self.inputs.iter().for_each(|(name, values)| session.write(name, values));
        pollster::block_on(session.run("test", &Cancel::default(), &|_| {})).unwrap();
        session.read("y")
    }

    /// Runs the plan and compares `y` with the twin's. `limit` is for f32; storing halves adds their rounding.
    pub fn check(self, what: &str, y: Tensor, want: &[f64], limit: f64) {
        let got = self.run(y);
        if let Err(e) = compare(y.elem, &got, want, limit) {
            panic!("{what}: {e}");
        }
    }

    /// A session with guarded buffers; `change` may bend the program first.
    pub fn ready(self, gpu: &Rc<Gpu>, change: impl FnOnce(&mut Program)) -> Ready {
        let mut program = lower(self.r.finish(), &self.tuning);
        change(&mut program);
        for size in &mut program.buffers.sizes {
            *size += GUARD;
        }
        for (b, size) in program.buffers.sizes.iter().enumerate() {
            let owner = program.buffers.assignment.iter().position(|&a| a == b).unwrap();
            let shape = Shape::new(1, 1, 1, (size / 2) as u32);
            let whole = Tensor { shape, elem: Elem::Pack16, ..program.tensors[owner] };
            program.plan.outputs.insert(format!("buffer{b}"), whole);
        }
        let guarded = |(h, mut blob): (Handle, Vec<u8>)| {
            blob.extend([0xff; GUARD as usize]);
            (h, blob)
        };
        let blobs = self.blobs.into_iter().map(guarded);
        let weights = GpuWeights::from_blobs(gpu, &self.d, blobs);
        let session = pollster::block_on(Session::of(program, &weights)).unwrap();
        Ready { session, inputs: self.inputs }
    }
}

pub struct Ready {
    pub session: Session,
    inputs: Vec<(String, Vec<f32>)>,
}

impl Ready {
    /// NaN everywhere, then the inputs.
    pub fn write(&self) {
        self.session.poison();
        for (name, values) in &self.inputs {
            self.session.write(name, values);
        }
    }

    /// From fresh inputs; the guards must be untouched afterwards.
    pub fn run(&self) {
        self.write();
        pollster::block_on(self.session.run("test", &Cancel::default(), &|_| {})).unwrap();
        for b in 0..self.session.program.buffers.sizes.len() {
            let bytes = pollster::block_on(self.session.read_bytes(&format!("buffer{b}"))).unwrap();
            let guard = &bytes[bytes.len() - GUARD as usize..];
            assert!(guard.iter().all(|&b| b == 0xff), "a kernel wrote behind the end of buffer {b}");
        }
    }

    /// An output's values; its padding must be finite, as a consumer multiplies it by zeros.
    pub fn values(&self, name: &str) -> Vec<f32> {
        let tensor = self.session.plan().outputs[name];
        let values = pollster::block_on(self.session.read(name)).unwrap();
        let lanes = lanes(tensor.elem, &self.bytes(name));
        let (c, padded) = (tensor.shape.c as usize, tensor.shape.c4() as usize * 4);
        for (row, lanes) in values.chunks(c).zip(lanes.chunks(padded)) {
            let same = row.iter().zip(lanes).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name} was not read as it is stored");
            assert!(lanes[c..].iter().all(|v| v.is_finite()), "{name} has padding {:?}", &lanes[c..]);
        }
        values
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        pollster::block_on(self.session.read_bytes(name)).unwrap()
    }
}

/// Whether `got` is `want` within the limit on |got - want| / |want|, both L2.
pub fn compare(elem: Elem, got: &[f32], want: &[f64], limit: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} values, wanted {}", got.len(), want.len()));
    }
    // Rounding to a half moves a value by at most 2^-11 of it.
    let limit = if elem == Elem::F32 { limit } else { limit + 2f64.powi(-11) };
    let held = |v: f64| if elem == Elem::F32 { v } else { v.clamp(-HALF_MAX, HALF_MAX) };
    let pairs = || got.iter().zip(want).map(|(&g, &w)| (f64::from(g), held(w)));
    let square = pairs().map(|(g, w)| (g - w) * (g - w)).sum::<f64>();
    let error = (square / pairs().map(|(_, w)| w * w).sum::<f64>().max(1e-30)).sqrt();
    if error <= limit {
        return Ok(());
    }
    // NaN counts as the worst.
    let worst = pairs().map(|(g, w)| (g - w).abs()).enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
    Err(format!(
        "{elem:?}: relative error {error:.2e}, limit {limit:.2e}; worst at {worst}: {} for {}",
        got[worst], want[worst]
    ))
}

/// The made-up checkpoint by name, each tensor in its order there.
pub struct Checkpoint(HashMap<String, Vec<f64>>);

impl Index<&str> for Checkpoint {
    type Output = [f64];

    fn index(&self, name: &str) -> &[f64] {
        self.0.get(name).unwrap_or_else(|| panic!("the checkpoint has no {name}"))
    }
}

/// Replaces a weight `[outputs, inputs, taps]` by what its blob holds.
fn dequantise(
    matrix: Matrix,
    blob: &[u8],
    outputs: usize,
    place: impl Fn(u32, u32) -> (u32, u32),
    weight: &mut [f32],
) {
    let held = matrix.dequantise(blob);
    let taps = matrix.taps as usize;
    for (o, row) in weight.chunks_exact_mut(weight.len() / outputs).enumerate() {
        let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (at, value) in row.iter_mut().enumerate() {
            let (output, input) = place(o as u32, (at / taps) as u32);
            let held = held[(output as usize * taps + at % taps) * matrix.inputs as usize + input as usize];
            let bound = match matrix.format {
                Format::F32 => 0.0,
                // Half a unit in the last of 11 bits.
                Format::F16 => value.abs() * 2f32.powi(-11) + 2f32.powi(-25),
                // Half a step, and the largest may be cut by a tenth: scales are chosen by the sum of the squares.
                Format::Q8 => (largest / 127.0 * 0.51).max(value.abs() - largest * 0.89),
                Format::Q4 => largest * 0.15,
            };
            assert!((held - *value).abs() <= bound, "weight {o}, {at}: {held} for {value}");
            *value = held;
        }
    }
}

/// What is left of a value once it is stored.
pub fn stored(elem: Elem, value: f32) -> f64 {
    f64::from(if elem == Elem::F32 { value } else { f16::from_f32(value).to_f32() })
}

/// All stored lanes of a tensor.
pub fn lanes(elem: Elem, bytes: &[u8]) -> Vec<f32> {
    if elem == Elem::F32 {
        return bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    }
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
}

/// Knuth's linear congruential generator.
pub struct Random(u64);

impl Random {
    /// At least -1, below 1.
    pub fn value(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }
}

type Job = Box<dyn FnOnce(&Device) + Send>;

/// Does some work on a thread that owns a GPU, so that few kernels are compiled more than once. There are two: a software
/// adapter compiles on one core.
pub fn on_gpu<T: Send + 'static>(work: impl FnOnce(&Rc<Gpu>) -> T + Send + 'static) -> T {
    on_device(|device| match device {
        Device::Gpu(gpu) => work(gpu),
        Device::Cpu => unreachable!("the worker opens a GPU"),
    })
}

/// The same, with the GPU as a device.
pub fn on_device<T: Send + 'static>(work: impl FnOnce(&Device) -> T + Send + 'static) -> T {
    static WORKERS: OnceLock<Sender<Job>> = OnceLock::new();
    let workers = WORKERS.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..2 {
            let queue = queue.clone();
            std::thread::spawn(move || serve(&queue));
        }
        jobs
    });
    let (sender, answer) = channel();
    let job = move |device: &Device| {
        let _ = sender.send(catch_unwind(AssertUnwindSafe(|| work(device))));
    };
    workers.send(Box::new(job)).expect("the GPU's threads have ended: see their message");
    match answer.recv().expect("the GPU's thread has ended: see its message") {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}

/// Opens a GPU, then does what is queued.
fn serve(queue: &Mutex<Receiver<Job>>) {
    let gpu = pollster::block_on(Gpu::new(None)).expect("the tests need a GPU adapter; lavapipe will do");
    // Tests of sessions run there too; those of single operations need f16 and fail.
    let swiftshader = gpu.info.name.contains("SwiftShader");
    assert!(
        gpu.info.f16 || swiftshader,
        "{} lacks shader-f16, without which half of the kernels go untested",
        gpu.info.name
    );
    let device = Device::Gpu(Rc::new(gpu));
    loop {
        let next = queue.lock().map(|queue| queue.recv());
        let Ok(Ok(job)) = next else { return };
        job(&device);
    }
}

/// The harness sees what it is there to see.
mod itself {
    use super::*;
    use tintype::plan::ops::{self, Activation};

    /// `y = x` for 3 channels of 2 pixels.
    fn copy() -> (Bench, Tensor) {
        let mut b = Bench::new(Elem::F32, Format::F32);
        let (x, _) = b.input_of(Shape::new(1, 1, 2, 3), Elem::F32, vec![1.0; 6]);
        let (one, _) = b.input_of(Shape::new(1, 1, 1, 4), Elem::F32, vec![1.0, 0.0, 0.0, 0.0]);
        let y = ops::scale(&mut b.r, x, one, 1, Activation::None);
        (b, y)
    }

    #[test]
    fn a_wrong_value_is_seen() {
        let (b, y) = copy();
        b.check("copy", y, &[1.0; 6], 1e-9);
        let (b, y) = copy();
        let wrong = catch_unwind(AssertUnwindSafe(|| {
            b.check("copy", y, &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0001], F32_LIMIT)
        }));
        assert!(wrong.is_err());
    }

    #[test]
    fn nan_is_seen() {
        assert!(compare(Elem::F32, &[1.0, f32::NAN], &[1.0, 1.0], 1.0).is_err());
        let (mut b, y) = copy();
        b.inputs[0].1[4] = f32::NAN;
        assert!(catch_unwind(AssertUnwindSafe(|| b.check("copy", y, &[1.0; 6], 1.0))).is_err());
    }

    #[test]
    fn an_input_that_was_not_written_is_seen() {
        let (mut b, y) = copy();
        b.inputs.remove(0);
        assert!(catch_unwind(AssertUnwindSafe(|| b.check("copy", y, &[1.0; 6], 1.0))).is_err());
    }

    #[test]
    fn writing_behind_the_end_is_seen() {
        let (mut b, y) = copy();
        b.r.output("y", y);
        // The third word of the parameters is the number of elements that are written.
        let longer =
            |program: &mut Program| program.dispatches[0].params[8..12].copy_from_slice(&3u32.to_le_bytes());
        let panic = catch_unwind(|| on_gpu(move |gpu| b.ready(gpu, longer).run())).unwrap_err();
        assert!(panic.downcast_ref::<String>().is_some_and(|m| m.contains("behind the end")));
    }
}
