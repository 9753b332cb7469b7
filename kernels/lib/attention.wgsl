// What both kernels of attention are given.
const CAUSAL: u32 = 1u;
// Smaller than any score, but finite: WGSL promises nothing about infinities.
const NEVER: f32 = -1e30;

struct Params {
    first: u32,
    images: u32,
    heads: u32,
    head: u32,
    queries: u32,
    keys: u32,
    q_at: u32,
    q_stride: u32,
    k_at: u32,
    k_stride: u32,
    v_at: u32,
    v_stride: u32,
    scale: f32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Elem>;               // [images, queries, q_stride]
@group(0) @binding(2) var<storage, read> k: array<Elem>;               // [images, keys, k_stride]
@group(0) @binding(3) var<storage, read> v: array<Elem>;               // [images, keys, v_stride]
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;         // [images, queries, heads * head]

// The sum of a query's weights, but no number where the sum of its scores is not finite: the largest of scores and the
// bounds of the exponential would hide it.
fn unless_odd(sum: f32, scores: f32) -> f32 {
    let bits = bitcast<u32>(scores);
    return select(sum, bitcast<f32>(bits | 0x7fc00000u), (bits & 0x7f800000u) == 0x7f800000u);
}
