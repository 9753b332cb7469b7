// linear_attention_state: S[h, i, j] = sum over tokens n of v[n, h, i] * relu(k[n, h, j]) for every head h of every image;
// the row behind the last is of ones in place of values.
// Grid: x = 16, y = blocks of 4 values x 4 keys of all heads of all images. Sixteen threads share the tokens of a block.
// Twin: tests/twin/linear_attention.rs
//# use elem activation

const LANES: u32 = 16u;

// `size`, `k_at`, `k_stride`, `v_at`, `v_stride` and `each`, from one head to the next, count fours.
struct Params {
    first: u32,
    rows: u32,
    tokens: u32,
    heads: u32,
    size: u32,
    each: u32,
    k_at: u32,
    k_stride: u32,
    v_at: u32,
    v_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> k: array<Elem>;                  // [images, tokens, k_stride]
@group(0) @binding(2) var<storage, read> v: array<Elem>;                  // [images, tokens, v_stride]
@group(0) @binding(3) var<storage, read_write> state: array<vec4<f32>>;   // [images, heads, size + 1, size, 4]

var<workgroup> sums: array<vec4<f32>, 256>;

@compute @workgroup_size(16, 4)
fn linear_attention_state(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = id.y + p.first;
    let j = row % p.size;
    let i = row / p.size % (p.size + 1u);
    let head = row / (p.size * (p.size + 1u));
    let image = head / p.heads * p.tokens;
    let at = head % p.heads * p.each;
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    if row < p.rows {
        for (var t = local.x; t < p.tokens; t += LANES) {
            let key = relu(decode(k[(image + t) * p.k_stride + p.k_at + at + j]));
            var value = vec4<f32>(1.0, 0.0, 0.0, 0.0);
            if i < p.size {
                value = decode(v[(image + t) * p.v_stride + p.v_at + at + i]);
            }
            s0 += value.x * key;
            s1 += value.y * key;
            s2 += value.z * key;
            s3 += value.w * key;
        }
    }
    let to = (local.y * LANES + local.x) * 4u;
    sums[to] = s0;
    sums[to + 1u] = s1;
    sums[to + 2u] = s2;
    sums[to + 3u] = s3;
    workgroupBarrier();
    if row < p.rows && local.x < 4u {
        var sum = vec4<f32>();
        for (var lane = 0u; lane < LANES; lane++) {
            sum += sums[(local.y * LANES + lane) * 4u + local.x];
        }
        state[row * 4u + local.x] = sum;
    }
}
