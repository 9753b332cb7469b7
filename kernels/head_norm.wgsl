// head_norm: y[t, g, :] = turn(x[t, g, :] / sqrt(mean of squares + epsilon) * weight[segment of t, set of g, :]), for every
// head g of every token t: RMS norm, then rotary positions, either of which may be left out.
// Turning: a pair (a, b) of channels becomes (a cos - b sin, b cos + a sin).
// Grid: x = heads of all sets, y = tokens of all images. A thread makes one head of a token, no barriers.
// Twin: tests/twin/head_norm.rs
//# use elem

const NORM: u32 = 1u;
const TURN: u32 = 2u;
// Pairs are of neighbours; or else half a head apart.
const NEIGHBOURS: u32 = 4u;

// `size`, `at` and `stride` count fours.
struct Params {
    first: u32,
    rows: u32,
    tokens: u32,
    sets: u32,
    heads: u32,
    size: u32,
    at: u32,
    stride: u32,
    split: u32,
    epsilon: f32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, stride]
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;          // [segments, sets, size]
@group(0) @binding(3) var<storage, read> table: array<vec4<f32>>;      // [tokens, size]: cosine and sine of each pair
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;         // [rows, sets * heads * size]

@compute @workgroup_size(8, 8)
fn head_norm(@builtin(global_invocation_id) id: vec3<u32>) {
    let head = id.x;
    let row = id.y + p.first;
    if head >= p.sets * p.heads || row >= p.rows {
        return;
    }
    let token = row % p.tokens;
    let x_at = row * p.stride + p.at + head * p.size;
    let y_at = (row * p.sets * p.heads + head) * p.size;
    var scale = 1.0;
    if (p.flags & NORM) != 0u {
        var squares = vec4<f32>();
        for (var c = 0u; c < p.size; c++) {
            let v = decode(x[x_at + c]);
            squares += v * v;
        }
        scale = 1.0 / sqrt((squares.x + squares.y + squares.z + squares.w) / f32(4u * p.size) + p.epsilon);
    }
    let weight = (select(0u, p.sets, token >= p.split) + head / p.heads) * p.size;
    if (p.flags & (TURN | NEIGHBOURS)) != TURN {
        for (var c = 0u; c < p.size; c++) {
            var v = normal(x_at, weight, c, scale);
            if (p.flags & TURN) != 0u {
                let t = table[token * p.size + c];
                v = vec4<f32>(
                    v.x * t.x - v.y * t.y, v.y * t.x + v.x * t.y,
                    v.z * t.z - v.w * t.w, v.w * t.z + v.z * t.w,
                );
            }
            y[y_at + c] = encode(v);
        }
        return;
    }
    let half = p.size / 2u;
    for (var c = 0u; c < half; c++) {
        let a = normal(x_at, weight, c, scale);
        let b = normal(x_at, weight, c + half, scale);
        // Two vec4s of cosines and sines are those of four pairs.
        let t0 = table[token * p.size + 2u * c];
        let t1 = table[token * p.size + 2u * c + 1u];
        let cosine = vec4<f32>(t0.x, t0.z, t1.x, t1.z);
        let sine = vec4<f32>(t0.y, t0.w, t1.y, t1.w);
        y[y_at + c] = encode(a * cosine - b * sine);
        y[y_at + c + half] = encode(b * cosine + a * sine);
    }
}

fn normal(x_at: u32, weight: u32, c: u32, scale: f32) -> vec4<f32> {
    let v = decode(x[x_at + c]);
    if (p.flags & NORM) == 0u {
        return v;
    }
    return v * scale * bitcast<vec4<f32>>(w[weight + c]);
}
