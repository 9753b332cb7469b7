// What all kernels of attention are given.
const CAUSAL: u32 = 1u;
const KEYS_BIAS: u32 = 2u;
const DISTANCES_BIAS: u32 = 4u;
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
    // Heads of queries that share a head of keys and values.
    shared_by: u32,
    // The bound of scores, if it is not zero.
    cap: f32,
    // Numbers of an image in the bias of keys, and of a head in that of distances.
    keys_row: u32,
    distances_row: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Elem>;               // [images, queries, q_stride]
@group(0) @binding(2) var<storage, read> k: array<Elem>;               // [images, keys, k_stride]
@group(0) @binding(3) var<storage, read> v: array<Elem>;               // [images, keys, v_stride]
@group(0) @binding(4) var<storage, read> keys_bias: array<f32>;        // [images, keys_row]
@group(0) @binding(5) var<storage, read> distances_bias: array<f32>;   // [heads, distances_row]
@group(0) @binding(6) var<storage, read_write> y: array<Elem>;         // [images, queries, heads * head]

// Where the bias of keys begins.
fn keys_from(image: u32) -> u32 {
    return image * p.keys_row;
}

// Where the bias of distances begins for the first query; for each other one a number earlier than for that before it.
fn distances_from(head: u32) -> u32 {
    return head * p.distances_row + p.queries - 1u;
}

// Four scores, capped, and with the biases at these places.
fn finished(score: vec4<f32>, key: vec4<u32>, distance: vec4<u32>) -> vec4<f32> {
    var v = score;
    if p.cap > 0.0 {
        let e = exp(max(-2.0 / p.cap * abs(v), vec4<f32>(-87.0)));
        v = p.cap * sign(v) * (1.0 - e) / (1.0 + e);
    }
    if (p.flags & KEYS_BIAS) != 0u {
        v += vec4<f32>(keys_bias[key.x], keys_bias[key.y], keys_bias[key.z], keys_bias[key.w]);
    }
    if (p.flags & DISTANCES_BIAS) != 0u {
        let at = distance;
        v += vec4<f32>(distances_bias[at.x], distances_bias[at.y], distances_bias[at.z], distances_bias[at.w]);
    }
    return v;
}

// The sum of a query's weights, but no number where the sum of its scores is not finite: the largest of scores and the
// bounds of the exponential would hide it.
fn unless_odd(sum: f32, scores: f32) -> f32 {
    let bits = bitcast<u32>(scores);
    return select(sum, bitcast<f32>(bits | 0x7fc00000u), (bits & 0x7f800000u) == 0x7f800000u);
}
