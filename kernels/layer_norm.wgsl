// layer_norm: y[r, c] = act(normal[r, c] * (1 + scale[n, c]) + shift[n, c] + residual[r, c]) with n = r / rows_per_image, and
// normal[r, c] = (x[r, c] - mean[r]) / sqrt(variance[r] + epsilon) * weight[c] + bias[c];
// RMS: the mean counts as zero. Of a gate the factor is tanh(scale[n, c]).
// Grid: x = 1, y = rows. A thread makes one row, no barriers.
// Twin: tests/twin/layer_norm.rs
//# use elem activation

const RMS: u32 = 1u;
const AFFINE: u32 = 2u;
const SCALE: u32 = 4u;
const SHIFT: u32 = 8u;
const BIAS: u32 = 16u;
const RESIDUAL: u32 = 32u;
const GATE: u32 = 64u;

// `channels`, `stride`, `scale_at` and `shift_at` count fours, `width` single channels.
struct Params {
    first: u32,
    rows: u32,
    rows_per_image: u32,
    channels: u32,
    width: u32,
    stride: u32,
    scale_at: u32,
    shift_at: u32,
    epsilon: f32,
    activation: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, channels]
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;          // [2, channels]: weight, bias
@group(0) @binding(3) var<storage, read> vectors: array<Elem>;         // [images, stride]
@group(0) @binding(4) var<storage, read> residual: array<Elem>;        // [rows, channels]
@group(0) @binding(5) var<storage, read_write> y: array<Elem>;         // [rows, channels]

@compute @workgroup_size(1, 64)
fn layer_norm(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    if id.x > 0u || row >= p.rows {
        return;
    }
    let at = row * p.channels;
    let image = row / p.rows_per_image * p.stride;
    var mean = 0.0;
    if (p.flags & RMS) == 0u {
        var sum = vec4<f32>();
        for (var c = 0u; c < p.channels; c++) {
            sum += decode(x[at + c]);
        }
        mean = (sum.x + sum.y + sum.z + sum.w) / f32(p.width);
    }
    var squares = vec4<f32>();
    for (var c = 0u; c < p.channels; c++) {
        let d = decode(x[at + c]) - mean;
        squares += d * d;
    }
    let variance = (squares.x + squares.y + squares.z + squares.w) / f32(p.width);
    let scale = 1.0 / sqrt(variance + p.epsilon);
    for (var c = 0u; c < p.channels; c++) {
        var v = (decode(x[at + c]) - mean) * scale;
        if (p.flags & AFFINE) != 0u {
            v *= bitcast<vec4<f32>>(w[c]);
        }
        if (p.flags & BIAS) != 0u {
            v += bitcast<vec4<f32>>(w[p.channels + c]);
        }
        if (p.flags & SCALE) != 0u {
            let told = decode(vectors[image + p.scale_at + c]);
            if (p.flags & GATE) != 0u {
                v *= precise_tanh(told);
            } else {
                v *= 1.0 + told;
            }
        }
        if (p.flags & SHIFT) != 0u {
            v += decode(vectors[image + p.shift_at + c]);
        }
        if (p.flags & RESIDUAL) != 0u {
            v += decode(residual[at + c]);
        }
        y[at + c] = encode(activate(p.activation, v));
    }
}
