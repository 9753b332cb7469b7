// What all kernels of attention are given.
const CAUSAL: u32 = 1u;
const BIAS: u32 = 2u;
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
    // Where the bias of an image, a head and a query begins; for each key it has a number.
    bias_at: u32,
    bias_image: u32,
    bias_head: u32,
    bias_query: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Elem>;               // [images, queries, q_stride]
@group(0) @binding(2) var<storage, read> k: array<Elem>;               // [images, keys, k_stride]
@group(0) @binding(3) var<storage, read> v: array<Elem>;               // [images, keys, v_stride]
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<Elem>;         // [images, queries, heads * head]

// Where the bias of a head's scores begins; a query's begins `bias_query` numbers earlier than that of the one before it.
fn bias_of(image: u32, head: u32) -> u32 {
    return p.bias_at + image * p.bias_image + head * p.bias_head;
}

// Four scores, capped, and with the bias at these places.
fn finished(score: vec4<f32>, at: vec4<u32>) -> vec4<f32> {
    var v = score;
    if p.cap > 0.0 {
        let e = exp(max(-2.0 / p.cap * abs(v), vec4<f32>(-87.0)));
        v = p.cap * sign(v) * (1.0 - e) / (1.0 + e);
    }
    if (p.flags & BIAS) != 0u {
        v += vec4<f32>(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
    }
    return v;
}

// The sum of a query's weights, but no number where the sum of its scores is not finite: the largest of scores and the
// bounds of the exponential would hide it.
fn unless_odd(sum: f32, scores: f32) -> f32 {
    let bits = bitcast<u32>(scores);
    return select(sum, bitcast<f32>(bits | 0x7fc00000u), (bits & 0x7f800000u) == 0x7f800000u);
}
