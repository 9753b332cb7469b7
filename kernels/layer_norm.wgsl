// layer_norm: y[r, c] = (x[r, c] - mean[r]) / sqrt(variance[r] + epsilon) * weight[c] + bias[c]
// Grid: x = 1, y = rows. A thread makes one row, no barriers.
// Twin: tests/twin/layer_norm.rs
//# use elem

struct Params {
    first: u32,
    rows: u32,
    channels: u32,
    width: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, channels]
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;          // [2, channels]: weight, bias
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;         // [rows, channels]

// `channels` counts fours, `width` single channels.
@compute @workgroup_size(1, 64)
fn layer_norm(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    if id.x > 0u || row >= p.rows {
        return;
    }
    let at = row * p.channels;
    var sum = vec4<f32>();
    for (var c = 0u; c < p.channels; c++) {
        sum += decode(x[at + c]);
    }
    let mean = (sum.x + sum.y + sum.z + sum.w) / f32(p.width);
    var squares = vec4<f32>();
    for (var c = 0u; c < p.channels; c++) {
        let d = decode(x[at + c]) - mean;
        squares += d * d;
    }
    let variance = (squares.x + squares.y + squares.z + squares.w) / f32(p.width);
    let scale = 1.0 / sqrt(variance + p.epsilon);
    for (var c = 0u; c < p.channels; c++) {
        let normal = (decode(x[at + c]) - mean) * scale;
        y[at + c] = encode(normal * bitcast<vec4<f32>>(w[c]) + bitcast<vec4<f32>>(w[p.channels + c]));
    }
}
