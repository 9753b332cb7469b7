// linear_attention: y[t, h, i] = (sum over j of S[h, i, j] q[j]) / (sum over j of S[h, size, j] q[j] + 1e-15) with q = relu(q[t, h])
// and S of kernels/linear_attention_state.wgsl.
// Grid: x = channels of y / 4, y = tokens of all images. A thread makes one vec4.
// Twin: tests/twin/linear_attention.rs
//# use elem activation

const EPSILON: f32 = 1e-15;

// `size`, `at`, `stride` and `each`, from one head to the next, count fours.
struct Params {
    first: u32,
    rows: u32,
    tokens: u32,
    heads: u32,
    size: u32,
    each: u32,
    at: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<Elem>;               // [rows, stride]
@group(0) @binding(2) var<storage, read> state: array<vec4<f32>>;      // [images, heads, size + 1, size, 4]
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;         // [rows, heads, size]

@compute @workgroup_size(8, 8)
fn linear_attention(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    if id.x >= p.heads * p.size || row >= p.rows {
        return;
    }
    let head = id.x / p.size;
    let from_q = row * p.stride + p.at + head * p.each;
    let whole = (row / p.tokens * p.heads + head) * (p.size + 1u) * p.size;
    let values = whole + id.x % p.size * p.size;
    let ones = whole + p.size * p.size;
    var above = vec4<f32>();
    var below = 0.0;
    for (var j = 0u; j < p.size; j++) {
        let query = relu(decode(q[from_q + j]));
        let at = (values + j) * 4u;
        above += vec4<f32>(
            dot(state[at], query), dot(state[at + 1u], query), dot(state[at + 2u], query), dot(state[at + 3u], query),
        );
        below += dot(state[(ones + j) * 4u], query);
    }
    y[row * p.heads * p.size + id.x] = encode(above / (below + EPSILON));
}
