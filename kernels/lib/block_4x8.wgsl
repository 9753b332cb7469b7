// A thread's share of a product, for GPUs: 4 rows x 8 outputs.
const QUADS: u32 = 1u;
const FOURS: u32 = 2u;
// Threads of a workgroup.
const ACROSS: u32 = 8u;
const DOWN: u32 = 8u;

// Column i holds the four outputs of row i.
var<private> a00: mat4x4<f32>; var<private> a01: mat4x4<f32>;
var<private> p0: Place;

// From the weights of the first four outputs to those of the others; fours past the last one repeat it.
var<private> steps: vec2<u32>;

fn begin(o: u32, next: u32) {
    steps = min(vec2<u32>(0u, 1u), vec2<u32>(p.outputs - 1u - o)) * next;
}

// Where the rows of the quads from `first` on are, for one tap of a convolution.
fn locate(first: u32, u: u32, v: u32) {
    p0 = place(first, u, v);
}

// Adds the products of four inputs: `k` in the first input, `w` among the weights.
fn accumulate1(k: u32, w: u32) {
    let v0 = load1(p0, k);
    a00 += weight(w) * v0;
    a01 += weight(w + steps.y) * v0;
}

// Adds the products of four inputs of the second tensor.
fn accumulate2(k: u32, w: u32) {
    let v0 = load2(p0, k);
    a00 += weight(w) * v0;
    a01 += weight(w + steps.y) * v0;
}

fn finish(first: u32, o: u32) {
    store(first, o, a00, a01);
}
