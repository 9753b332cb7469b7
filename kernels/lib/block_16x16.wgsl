// A thread's share of a product, for SwiftShader: 16 rows x 16 outputs. Its loads cost far more than its arithmetic,
// and registers that do not suffice only go to a cache.
const QUADS: u32 = 4u;
const FOURS: u32 = 4u;
// Threads of a workgroup: four across are what it computes at once, few keep all cores busy.
const ACROSS: u32 = 4u;
const DOWN: u32 = 4u;

// Column i holds the four outputs of row i.
var<private> a00: mat4x4<f32>; var<private> a01: mat4x4<f32>; var<private> a02: mat4x4<f32>; var<private> a03: mat4x4<f32>;
var<private> a10: mat4x4<f32>; var<private> a11: mat4x4<f32>; var<private> a12: mat4x4<f32>; var<private> a13: mat4x4<f32>;
var<private> a20: mat4x4<f32>; var<private> a21: mat4x4<f32>; var<private> a22: mat4x4<f32>; var<private> a23: mat4x4<f32>;
var<private> a30: mat4x4<f32>; var<private> a31: mat4x4<f32>; var<private> a32: mat4x4<f32>; var<private> a33: mat4x4<f32>;
var<private> p0: Place; var<private> p1: Place; var<private> p2: Place; var<private> p3: Place;

// From the weights of the first four outputs to those of the others; fours past the last one repeat it.
var<private> steps: vec4<u32>;

fn begin(o: u32, next: u32) {
    steps = min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.outputs - 1u - o)) * next;
}

// Where the rows of the quads from `first` on are, for one tap of a convolution.
fn locate(first: u32, u: u32, v: u32) {
    p0 = place(first, u, v);
    p1 = place(first + 1u, u, v);
    p2 = place(first + 2u, u, v);
    p3 = place(first + 3u, u, v);
}

// Adds the products of four inputs: `k` in the first input, `w` among the weights.
fn accumulate1(k: u32, w: u32) {
    multiply(load1(p0, k), load1(p1, k), load1(p2, k), load1(p3, k), w);
}

// Adds the products of four inputs of the second tensor.
fn accumulate2(k: u32, w: u32) {
    multiply(load2(p0, k), load2(p1, k), load2(p2, k), load2(p3, k), w);
}

fn multiply(v0: mat4x4<f32>, v1: mat4x4<f32>, v2: mat4x4<f32>, v3: mat4x4<f32>, w: u32) {
    let w0 = weight(w);
    a00 += w0 * v0; a10 += w0 * v1; a20 += w0 * v2; a30 += w0 * v3;
    let w1 = weight(w + steps.y);
    a01 += w1 * v0; a11 += w1 * v1; a21 += w1 * v2; a31 += w1 * v3;
    let w2 = weight(w + steps.z);
    a02 += w2 * v0; a12 += w2 * v1; a22 += w2 * v2; a32 += w2 * v3;
    let w3 = weight(w + steps.w);
    a03 += w3 * v0; a13 += w3 * v1; a23 += w3 * v2; a33 += w3 * v3;
}

// A loop, because the driver copies what a store does into every place that asks for one.
fn finish(first: u32, o: u32) {
    var block = array<mat4x4<f32>, 16>(
        a00, a01, a02, a03, a10, a11, a12, a13, a20, a21, a22, a23, a30, a31, a32, a33,
    );
    for (var i = 0u; i < 16u; i += 2u) {
        store(first + i / 4u, o + i % 4u, block[i], block[i + 1u]);
    }
}
