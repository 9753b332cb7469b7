//! Group norm: its three kernels each against its own twin, every intermediate tensor read.

use super::ACTIVATIONS;
use crate::harness::{Bench, ELEMS, F32_LIMIT, compare, lanes, on_gpu};
use crate::twin;
use tintype::gpu::{Binding, Program};
use tintype::nn::GroupNorm;
use tintype::plan::ops::Activation;

use tintype::quant::Format;
use tintype::shape::{Elem, Shape};

const EPSILON: f32 = 1e-5;

#[derive(Clone, Debug)]
struct Case {
    elem: Elem,
    shape: Shape,
    channels2: u32,
    groups: u32,
    activation: Activation,
    /// Added to every value.
    offset: f32,
    limit: f64,
}

const CASE: Case = Case {
    elem: Elem::F32,
    shape: Shape { n: 2, h: 5, w: 7, c: 12 },
    channels2: 8,
    groups: 2,
    activation: Activation::None,
    offset: 0.0,
    limit: F32_LIMIT,
};

impl Case {
    fn check(self) {
        let mut b = Bench::new(self.elem, Format::F32);
        let (channels, channels2) = (self.shape.c + self.channels2, self.channels2 as usize);
        let norm = GroupNorm::declare(&mut b.d, "norm", channels, self.groups, EPSILON);
        let w = b.fill();
        let mut input = |c: u32| {
            let shape = self.shape.with_c(c);
            let values = b.random.values((shape.rows() * c) as usize);
            b.input_of(shape, self.elem, values.into_iter().map(|v| v + self.offset).collect())
        };
        let (x, mut seen) = input(self.shape.c);
        let x2 = (channels2 > 0).then(|| input(self.channels2));
        if let Some((_, seen2)) = &x2 {
            seen = twin::beside(&seen, self.shape.c as usize, seen2, channels2);
        }
        let y = norm.record(&mut b.r, x, x2.map(|(t, _)| t), self.activation);
        b.r.output("y", y);
        let [stats, affine, y] = on_gpu(move |gpu| {
            let ready = b.ready(gpu, keep_all);
            ready.run();
            let raw = |name| lanes(Elem::F32, &ready.bytes(name));
            [raw("stats"), raw("affine"), ready.values("y")]
        });

        let (images, channels, pixels) =
            (self.shape.n as usize, channels as usize, self.shape.pixels() as usize);
        // At least 64 pixels, at most 64 slabs.
        let slab = pixels.div_ceil(64).max(64);
        let slabs = images * pixels.div_ceil(slab);
        let (means, squares) = twin::norm_stats(&seen, images, channels, slab);
        self.compare("means", Elem::F32, &half(&stats, slabs, 0), &means);
        self.compare("squares", Elem::F32, &half(&stats, slabs, 1), &squares);
        let (weight, bias) = (&w["norm.weight"], &w["norm.bias"]);
        let groups = self.groups as usize;
        let (scale, shift) = twin::norm_scale(&seen, images, groups, weight, bias, f64::from(EPSILON));
        self.compare("scale", Elem::F32, &half(&affine, images, 0), &scale);
        self.compare("shift", Elem::F32, &half(&affine, images, 1), &shift);
        let want = twin::norm_apply(&seen, images, &scale, &shift, self.activation);
        self.compare("y", self.elem, &y, &want);
    }

    fn compare(&self, what: &str, elem: Elem, got: &[f32], want: &[f64]) {
        if let Err(e) = compare(elem, got, want, self.limit) {
            panic!("{what} of {self:?}: {e}");
        }
    }
}

/// Makes the tensors between the kernels readable; each has a buffer of its own, as their lives overlap.
fn keep_all(program: &mut Program) {
    for (at, name) in [(0, "stats"), (1, "affine")] {
        let Some(Binding::Tensor(id)) = program.dispatches[at].bindings.last() else {
            unreachable!("an output")
        };
        program.plan.outputs.insert(name.to_owned(), program.tensors[id.0 as usize]);
    }
}

/// Of `[rows, channels / 4, 2, 4]` values the first or the second, `[rows, channels]`.
fn half(values: &[f32], rows: usize, which: usize) -> Vec<f32> {
    let row = |row: &[f32]| row.chunks(8).flat_map(|c| c[4 * which..][..4].to_vec()).collect::<Vec<_>>();
    values.chunks(values.len() / rows).flat_map(row).collect()
}

#[test]
fn group_sizes_and_seams() {
    for elem in ELEMS {
        // Groups of 2, 10 (the second of them across the seam at 12), 3, 4 and 1; one input and two.
        for (channels, channels2, groups) in
            [(8, 0, 4), (12, 8, 2), (8, 4, 4), (16, 0, 4), (4, 4, 8), (40, 20, 6)]
        {
            let shape = Shape::new(2, 5, 7, channels);
            Case { elem, shape, channels2, groups, ..CASE }.check();
        }
    }
}

#[test]
fn pixels_and_slabs() {
    // One pixel; a whole slab; one pixel more; the last of 64 slabs partly filled.
    for (h, w) in [(1, 1), (8, 8), (5, 13), (73, 69)] {
        Case { shape: Shape::new(2, h, w, 12), ..CASE }.check();
    }
}

#[test]
fn every_activation() {
    for elem in ELEMS {
        for activation in ACTIVATIONS {
            Case { elem, activation, ..CASE }.check();
        }
    }
}

#[test]
fn mean_much_larger_than_deviation() {
    // The mean of 64 values near 1000 rounds by about 2^-24 * 1000 * 8 / sqrt(3) = 3e-4 in the worst slab, and
    // x * scale + shift by 2^-24 of 2000, where the deviation is 0.58; E[x^2] - E[x]^2 would round by 0.06 of
    // 1e6 and miss the variance by a tenth.
    Case { shape: Shape::new(1, 17, 19, 12), offset: 1000.0, limit: 1e-3, ..CASE }.check();
}
